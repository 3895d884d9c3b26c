"""Small file systems that a suite fills up, and what a broker says of them. Mounting them takes root."""

import fcntl
import os
import struct
import subprocess
import threading
import time
import urllib.error
import urllib.request

from harness.report import Skipped

PATIENCE_S = 60
# EXT4_IOC_SHUTDOWN, and the kind that does not even write the journal.
SHUTDOWN, NO_LOG_FLUSH = 0x8004587D, 2


class Volume:
    """A small file system, mounted as long as the block runs."""

    def __init__(self, kind, work, size):
        self.kind, self.size = kind, size
        self.path, self.image = work / f"{kind}-volume", work / f"{kind}.image"
        self.filler = self.path / "filler"

    def __enter__(self):
        if os.geteuid() != 0:
            raise Skipped("mounting a file system takes root")
        self.path.mkdir(parents=True)
        if self.kind == "tmpfs":
            command = ["mount", "-t", "tmpfs", "-o", f"size={self.size}", "tmpfs", self.path]
        else:
            with open(self.image, "wb") as image:
                image.truncate(self.size)
            run(["mkfs.ext4", "-q", "-m", "0", self.image])
            command = ["mount", "-o", "loop", self.image, self.path]
        run(command)
        return self

    def __exit__(self, *_):
        subprocess.run(["umount", self.path], check=False)

    def cut_power(self):
        """Whatever is not on the disk at this moment will never be, and whoever uses it hears EIO. Not for tmpfs."""
        place = os.open(self.path, os.O_RDONLY)
        try:
            fcntl.ioctl(place, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(place)

    def restore(self):
        """Mounts it again after a power cut. Nobody may use it any more."""
        run(["umount", self.path])
        run(["mount", "-o", "loop", self.image, self.path])

    def free(self):
        """Bytes that are left."""
        volume = os.statvfs(self.path)
        return volume.f_bavail * volume.f_frsize

    def used(self):
        """Bytes that are taken, by whomever."""
        volume = os.statvfs(self.path)
        return (volume.f_blocks - volume.f_bfree) * volume.f_frsize

    def leave(self, size):
        """Takes all room but `size` bytes from outside. With 0, byte by byte to the end."""
        # A little at a time: the broker takes room as well.
        with open(self.filler, "ab", buffering=0) as filler:
            for piece in (1 << 20, 4096):
                try:
                    while self.free() >= size + piece or (size, piece) == (0, 4096):
                        filler.write(bytes(piece))
                except OSError:
                    pass  # full, which is what is wanted

    def give_back(self):
        """Gives everything back that was taken."""
        self.filler.unlink(missing_ok=True)


def run(command):
    """Runs a command; one that is not there or fails makes the check skipped."""
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (FileNotFoundError, subprocess.CalledProcessError) as error:
        raise Skipped(f"{command[0]}: {getattr(error, 'stderr', error) or error}") from error


def ask(broker, path):
    """A page of the operators' port, also of a broker that is not ready."""
    try:
        with urllib.request.urlopen(f"http://{broker.host}:{broker.second_port}{path}", timeout=PATIENCE_S) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as not_ready:
        return not_ready.read().decode()


def await_state(broker, full):
    """Waits until the broker says that records are refused, or are not."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        ready = ask(broker, "/health/ready")
        lines = ask(broker, "/metrics").splitlines()
        count = [line.split()[1] for line in lines if line.startswith("ottla_full_log_directory_count")]
        if ("records are refused" in ready) == full and count == ["1" if full else "0"]:
            return
        if time.monotonic() > deadline:
            raise AssertionError(f"full should be {full}: {ready!r}, {count}")
        pause.wait(0.1)
