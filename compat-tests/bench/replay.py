"""A driver: pre-encoded requests over many connections (`replay/main.rs`), so that the broker is the limit.

It is compiled with the Rust compiler alone, in seconds, into the cache folder. Its report counts what was acknowledged
or read; an error code in any response ends it.
"""

import hashlib
import json
import os
import subprocess
from pathlib import Path

from bench.perf_tools import Run
from bench.progress import say

SOURCE = Path(__file__).resolve().parent / "replay" / "main.rs"
COMPILE_LIMIT_S = 300
SLOWEST_BYTES_PER_S = 2_000_000
START_LIMIT_S = 120


def program():
    """The compiled driver; compiled now if the source is newer."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ottla" / "bench"
    version = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    path = cache / f"replay-{version}"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        say("compiling the driver of pre-encoded requests")
        fresh = path.with_suffix(f".{os.getpid()}")
        subprocess.run(["rustc", "-O", "--edition", "2024", "-o", str(fresh), str(SOURCE)], check=True,
                       timeout=COMPILE_LIMIT_S)
        fresh.rename(path)
    return path


def produce(_, subject, topic, workload, records):
    """Produces `records` records over the workload's connections."""
    size = records * workload.record_bytes
    report = wait(start(subject, topic, "produce", {
        "bytes": size, "partitions": workload.partitions, "connections": workload.connections,
        "record": workload.record_bytes, "batch": workload.batch_bytes, "in-flight": workload.in_flight,
        "per-request": workload.per_request, "rate": workload.rate}), size, workload.rate)
    return run_of(report, workload.rate)


def consume(_, subject, topic, workload, records):
    """Reads as many bytes of batches as `records` have bytes of values, from the beginning."""
    size = records * workload.record_bytes
    report = wait(start(subject, topic, "fetch", {
        "bytes": size, "partitions": workload.partitions, "connections": workload.readers, "wait": 20}), size, 0)
    return run_of(report, 0)


class Tail:
    """A driver whose consumers read at the tail while it produces: each of `readers` reads everything."""

    @staticmethod
    def produce(_, subject, topic, workload, records):
        """Both at once; the CPU time of both is told as that of producing."""
        size = records * workload.record_bytes
        seconds = max(5, size // workload.rate)
        tail = start(subject, topic, "tail", {
            "seconds": seconds + 2, "partitions": workload.partitions, "connections": workload.readers})
        tail.stdout.readline()  # every consumer knows where the end is
        run = produce(None, subject, topic, workload, records)
        report = wait(tail, size, workload.rate)
        if report["bytes"] < 0.9 * size * workload.readers:
            raise RuntimeError(f"{workload.readers} consumers read {report['bytes']} bytes of {size} each")
        return run

    consume = None


class CatchUp:
    """A driver that reads what lies on disk while it produces to another topic."""

    @staticmethod
    def produce(scripts, subject, topic, workload, records):
        """What will be read: nothing is read yet."""
        return produce(scripts, subject, topic, workload, records)

    @staticmethod
    def consume(_, subject, topic, workload, records):
        """Reads, while a producer writes to the same topic at a tenth of the bytes."""
        size = records * workload.record_bytes
        writer = start(subject, topic, "produce", {
            "bytes": size // 10, "partitions": workload.partitions, "connections": 1, "record": workload.record_bytes,
            "batch": workload.batch_bytes, "in-flight": workload.in_flight})
        run = consume(None, subject, topic, workload, records)
        wait(writer, size, 0)
        return run


def start(subject, topic, command, options):
    """Starts the driver."""
    arguments = [str(program()), command, "--broker", subject.bootstrap, "--topic", topic]
    for name, value in options.items():
        arguments += [f"--{name}", str(value)]
    return subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def wait(process, size, rate):
    """Its report."""
    limit = START_LIMIT_S + size / (min(rate, SLOWEST_BYTES_PER_S) or SLOWEST_BYTES_PER_S)
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    if process.returncode != 0:
        raise RuntimeError(f"replay: {err.decode(errors='replace')[-2000:]}")
    return json.loads(out.splitlines()[-1])


def run_of(report, rate):
    """Latencies mean something where the rate is fixed; a saturated queue only shows its own length."""
    names = {"p50": "p50_ms", "p99": "p99_ms", "p999": "p999_ms"} if rate else {}
    return Run(report["seconds"], {name: report[key] for name, key in names.items()})
