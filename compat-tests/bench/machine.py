"""The machine and the disk that a result belongs to: figures from two machines must not be compared."""

import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

SYNCS = 100


def description(work):
    """What matters for the figures, by name. Syncs the disk a hundred times."""
    return {
        "CPU": cpu_model(),
        "cores": f"{len(os.sched_getaffinity(0))} usable of {os.cpu_count()}",
        "memory": f"{memory_bytes() / 1e9:.1f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": f"{file_system(work)}; write and fdatasync of 4 KiB: {sync_ms(work):.2f} ms (median of {SYNCS})",
        "Java": first_line(["java", "-version"]),
    }


def cpu_model():
    """As the kernel names it; the architecture where it does not."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


def memory_bytes():
    """All of the machine."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def file_system(folder):
    """The kind of file system that a folder is on."""
    path = os.path.realpath(folder)
    best = ("", "unknown")
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, *_ = line.split()
        if (path == place or path.startswith(place.rstrip("/") + "/")) and len(place) >= len(best[0]):
            best = (place, kind)
    return best[1]


def sync_ms(folder):
    """What one small synced write takes: the floor of every acknowledgement with fsync."""
    took = []
    path = Path(folder) / "sync-probe"
    with open(path, "wb", buffering=0) as out:
        for _ in range(SYNCS):
            began = time.monotonic()
            out.write(b"x" * 4096)
            os.fdatasync(out.fileno())
            took.append((time.monotonic() - began) * 1000)
    path.unlink()
    return statistics.median(took)


def first_line(command):
    """The first line that a program prints about itself, or a dash. Whichever stream it prefers."""
    try:
        result = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return "–"
    lines = result.stdout.decode(errors="replace").splitlines()
    return lines[0].strip() if lines else "–"
