"""A driver: Kafka's own kafka-producer-perf-test and kafka-consumer-perf-test. Both check what the tool claims.

A driver has two functions, `produce` and `consume`, which return a `Run`; a workload names its driver.
"""

import os
import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

# What Kafka's own scripts give its tools. This variable outranks the command line, hence the lighter JVM of `tool`.
TOOL_JVM = "-Xmx512m -XX:TieredStopAtLevel=4"
# Reports while running would only cost; there is one at the end.
QUIET = ["--reporting-interval", "86400000"]
SLOWEST_BYTES_PER_S = 2_000_000
START_LIMIT_S = 120
CONSUME_TIMEOUT_MS = 60_000

PRODUCED = re.compile(
    r"(?P<records>\d+) records sent, (?P<rate>[\d.]+) records/sec \([\d.]+ MB/sec\), [\d.]+ ms avg latency, "
    r"[\d.]+ ms max latency, (?P<p50>\d+) ms 50th, \d+ ms 95th, (?P<p99>\d+) ms 99th, (?P<p999>\d+) ms 99\.9th")


@dataclass(frozen=True)
class Run:
    """What a driver did: seconds of it, without start-up and rebalance, and latencies where it knows them."""

    seconds: float
    latencies_ms: dict = field(default_factory=dict)


def produce(scripts, subject, topic, workload, records):
    """Produces `records` records and waits for all acknowledgements."""
    rate = str(workload.rate // workload.record_bytes or -1)
    out, err = run(scripts, "kafka-producer-perf-test", records * workload.record_bytes,
                   ["--bootstrap-server", subject.bootstrap, "--topic", topic, "--num-records", str(records),
                    "--record-size", str(workload.record_bytes), "--throughput", rate, *QUIET,
                    "--command-property", *workload.producer])
    return producer_report(out, err, records)


def consume(scripts, subject, topic, workload, records):
    """Reads `records` records from the beginning, in a new group."""
    out, err = run(scripts, "kafka-consumer-perf-test", records * workload.record_bytes,
                   ["--bootstrap-server", subject.bootstrap, "--topic", topic, "--num-records", str(records),
                    "--group", f"{topic}-readers", "--timeout", str(CONSUME_TIMEOUT_MS), *QUIET])
    return consumer_report(out, err, records)


def run(scripts, name, size_bytes, arguments):
    """Runs a tool to its end. Returns its output."""
    # Numbers are printed as the locale has them.
    env = {**os.environ, "LC_ALL": "C", "_JAVA_OPTIONS": TOOL_JVM}
    result = subprocess.run([str(Path(scripts) / "tool"), name, *arguments], env=env, stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            timeout=START_LIMIT_S + size_bytes / SLOWEST_BYTES_PER_S)
    out, err = result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")
    if result.returncode != 0:
        raise RuntimeError(f"{name}: exit code {result.returncode}\n{out[-2000:]}\n{err[-2000:]}")
    return out, err


def producer_report(out, err, records):
    """Reads the last line of the producer. Refused records only show as missing ones: the tool's exit code is 0."""
    found = PRODUCED.search(out)
    if not found or int(found["records"]) != records or float(found["rate"]) <= 0:
        raise RuntimeError(f"not all of {records} records were acknowledged:\n{out[-2000:]}\n{err[-2000:]}")
    latencies_ms = {name: int(found[name]) for name in ("p50", "p99", "p999")}
    return Run(records / float(found["rate"]), latencies_ms)


def consumer_report(out, err, records):
    """Reads the table of the consumer: a line of names, a line of values."""
    names, values = [], []
    for line in out.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if "data.consumed.in.nMsg" in cells:
            names = cells
        elif len(cells) == len(names):
            values = cells
    report = dict(zip(names, values))
    # A consumer that ran into its timeout ends with exit code 0 and fewer records.
    if int(report.get("data.consumed.in.nMsg", 0)) < records:
        raise RuntimeError(f"not all of {records} records were read:\n{out[-2000:]}\n{err[-2000:]}")
    return Run(max(1, int(report["fetch.time.ms"])) / 1000)
