"""Quotas hold clients to their rate: the official perf tools against a broker with `kafka-configs` quotas in force.

A quota is measured over eleven windows of a second, of which a new client has used none: the first ten seconds' worth
passes at once. As long as that burst is in the windows hardly anything passes, and when it leaves them the next one
comes: a client at full speed climbs stairs, a step in eleven seconds. So the rate is taken from the tools' reports while
they run, from the foot of one step to the foot of a later one.
"""

import os
import re
import subprocess
import sys
import threading
import time
from datetime import datetime
from pathlib import Path

from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log

RATE = 2_000_000
RECORD_BYTES = 1000
ALLOWED = 0.10
# How long a client is held, and what passes at the start, in seconds' worth of its quota.
HELD_S, BURST_S = 60, 10
REPORT_S = 1
TOOL_LIMIT_S = 240
# What the tools call themselves when nobody says otherwise.
PRODUCER, CONSUMER = "perf-producer-client", "perf-consumer-client"
TOOL_JVM = "-Xmx256m"

PRODUCED = re.compile(r"^(\d+) records sent, [\d.]+ records/sec")


def main():
    exit_on_sigterm()
    report = Report()
    scripts = os.environ["OTTLA_KAFKA_SCRIPTS"]
    settings = {"controller.quota.window.num": "2"}
    with Broker(Target.from_env(), os.environ["OTTLA_WORK"], settings) as broker:
        tools = Tools(Path(scripts) / "tool", broker.bootstrap)
        tools.run("kafka-topics", "--create", "--topic", "held", "--partitions", "1")
        with report.check("configured"):
            quota(tools, PRODUCER, f"producer_byte_rate={RATE}")
            quota(tools, CONSUMER, f"consumer_byte_rate={RATE}")
        with report.check("producer"):
            hold("producer", report, produce(tools))
        with report.check("consumer"):
            hold("consumer", report, consume(tools))
        with report.check("others"):
            free = tools.run(*perf_producer(10_000), "--command-property", "client.id=free")
            rate = float(re.search(r"10000 records sent, ([\d.]+) records/sec", free)[1]) * RECORD_BYTES
            report.figure("other-producer", round(rate / 1e6, 2), "MB/s")
            if rate < 2 * RATE:
                raise AssertionError("a client without a quota was held back")
        with report.check("removed"):
            tools.run("kafka-configs", "--alter", "--entity-type", "clients", "--entity-name", PRODUCER,
                      "--delete-config", "producer_byte_rate")
            took = time.monotonic()
            tools.run(*perf_producer(60_000))
            if time.monotonic() - took > 60_000 * RECORD_BYTES / RATE - BURST_S:
                raise AssertionError("the producer is still held back")
        with report.check("mutations"):
            mutations(tools)
    return report.exit_code()


class Tools:
    """The official tools against one broker."""

    def __init__(self, program, bootstrap):
        self.program, self.bootstrap = program, bootstrap

    def start(self, name, *arguments):
        """A tool that goes on running; its output is a pipe of lines."""
        env = {**os.environ, "LC_ALL": "C", "_JAVA_OPTIONS": TOOL_JVM, "PYTHONUNBUFFERED": "1"}
        command = [str(self.program), name, "--bootstrap-server", self.bootstrap, *arguments]
        process = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, text=True)
        timer = threading.Timer(TOOL_LIMIT_S, process.kill)
        timer.daemon = True
        timer.start()
        return process

    def run(self, name, *arguments, code=0):
        """Runs a tool to its end. Returns its output. `code=None`: any exit code."""
        process = self.start(name, *arguments)
        out = process.stdout.read()
        if process.wait() != code and code is not None:
            raise RuntimeError(f"{name}: exit code {process.returncode}\n{out[-2000:]}")
        return out


def quota(tools, client, setting):
    """Sets a quota of a client id and looks whether it is shown."""
    whom = ("--entity-type", "clients", "--entity-name", client)
    tools.run("kafka-configs", "--alter", *whom, "--add-config", setting)
    shown = tools.run("kafka-configs", "--describe", *whom)
    key, value = setting.split("=")
    if not re.search(rf"client-id '{client}' are .*{key}={value}\.0", shown):
        raise AssertionError(f"not described: {shown}")


def perf_producer(records, *more):
    """The command line of a producer of so many records, at full speed."""
    return ["kafka-producer-perf-test", "--topic", "held", "--num-records", str(records), "--record-size",
            str(RECORD_BYTES), "--throughput", "-1", *more]


def produce(tools):
    """Produces for as long as is measured. Returns (seconds since the first report, bytes so far), report by report."""
    records = (BURST_S + HELD_S) * RATE // RECORD_BYTES
    process = tools.start(*perf_producer(records, "--reporting-interval", str(REPORT_S * 1000)))
    began, sent, reports, tail = None, 0, [], []
    for line in process.stdout:
        tail = (tail + [line])[-5:]
        found = PRODUCED.match(line)
        if found and " 99th" not in line:
            now = time.monotonic()
            began = began or now
            sent += int(found[1]) * RECORD_BYTES
            reports.append((now - began, sent))
    if process.wait() != 0 or not any(f"{records} records sent" in line for line in tail):
        raise RuntimeError(f"kafka-producer-perf-test: {''.join(tail)}")
    return reports


def consume(tools):
    """Reads what was produced, and returns what `produce` returns. The tool's lines carry their own time."""
    records = (BURST_S + HELD_S) * RATE // RECORD_BYTES
    out = tools.run("kafka-consumer-perf-test", "--topic", "held", "--num-records", str(records), "--timeout", "60000",
                    "--show-detailed-stats", "--hide-header", "--reporting-interval", str(REPORT_S * 1000))
    reports, began = [], None
    for cells in (line.split(", ") for line in out.splitlines()):
        if len(cells) < 8 or not re.match(r"\d{4}-", cells[0]):
            continue
        at = datetime.strptime(cells[0], "%Y-%m-%d %H:%M:%S:%f").timestamp()
        began = began or at
        reports.append((at - began, float(cells[2]) * (1 << 20)))
    return reports


def hold(name, report, reports):
    """The rate from the foot of the second step to the foot of the last must be the quota's."""
    log(f"{name}: " + " ".join(f"{at:.0f}s:{sent / 1e6:.0f}MB" for at, sent in reports))
    feet, resting = [], False
    for (at, sent), (next_at, next_sent) in zip(reports, reports[1:]):
        climbs = next_sent - sent > 1.5 * RATE * (next_at - at)
        if climbs and resting:
            feet.append((at, sent))
        resting = not climbs
    if len(feet) < 3:
        raise AssertionError(f"only {len(feet)} steps")
    (first_at, first), (last_at, last) = feet[0], feet[-1]
    rate = (last - first) / (last_at - first_at)
    report.figure(f"{name}-rate", round(rate / RATE, 3), "of its quota")
    if abs(rate / RATE - 1) > ALLOWED:
        raise AssertionError(f"{rate:.0f} bytes a second, the quota is {RATE}")


def mutations(tools):
    """A quota of topic changes: refused while there is a debt, taken when it is paid."""
    whom = ("--entity-type", "users", "--entity-default")
    tools.run("kafka-configs", "--alter", *whom, "--add-config", "controller_mutation_rate=1")
    try:
        began = time.monotonic()
        # It goes into debt by eight seconds less the burst of two. This tool does not wait when it is refused.
        create = ("kafka-topics", "--create", "--partitions", "8", "--topic")
        tools.run(*create, "debt")
        refused = tools.run(*create, "paid", code=1)
        if "The throttling quota has been exceeded" not in refused:
            raise AssertionError(refused)
        while "Created topic paid" not in tools.run(*create, "paid", code=None):
            if time.monotonic() - began > 60:
                raise AssertionError("the debt was never paid")
    finally:
        tools.run("kafka-configs", "--alter", *whom, "--delete-config", "controller_mutation_rate")


if __name__ == "__main__":
    sys.exit(main())
