"""Very many partitions on one broker: how long they take to create, how much memory they are, how long a start takes
with them, what the broker does when nobody asks, and how it serves a producer that writes to a thousand of them a second.

Topics of 1,000 partitions are created one after the other, each until its last partition takes a record, until there are
enough or the broker gives up. It says how far it came: Kafka keeps several files of every partition open and mapped. The
limit of open files is raised here, if this program may; `sysctl vm.max_map_count` is the machine's, and is told.
"""

import argparse
import os
import random
import resource
import struct
import sys
import threading
import time
from pathlib import Path

from confluent_kafka.admin import NewTopic

from bench import wire
from harness import broker as brokers
from harness import load
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log

PER_TOPIC = 1000
TOUCHED_PER_S = 1000
PER_REQUEST = 10
WRITERS = 4
LENGTH = 100
IDLE_S = 10
PATIENCE_S = 120
# Kafka reads and checks every segment after a kill, and takes its time to stop as well.
START_LIMIT_S = 1800


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--partitions", type=int, default=100000)
    parser.add_argument("--seconds", type=int, default=60, help="how long a producer writes")
    parser.add_argument("--kill", action="store_true", help="also measure the start after a kill")
    options = parser.parse_args()
    exit_on_sigterm()
    brokers.START_LIMIT_S = {kind: START_LIMIT_S for kind in brokers.START_LIMIT_S}
    brokers.STOP_LIMIT_S = START_LIMIT_S
    report = Report()
    report.figure("files-allowed", raise_file_limit(), "open files")
    report.figure("maps-allowed", int(Path("/proc/sys/vm/max_map_count").read_text()), "maps")
    with Broker(Target.from_env(), os.environ["OTTLA_WORK"]) as broker:
        report.figure("memory-empty", broker.memory_bytes() >> 20, "MiB")
        with report.check("created"):
            topics = create(broker, options.partitions, report)
        rest(broker, "created", report)
        with report.check("started"):
            report.figure("stop", round(timed(broker.stop), 2), "s")
            report.figure("start", round(broker.start(), 2), "s")
            report.figure("start-to-all-led", round(timed(lambda: all_accepted(broker, topics)), 2), "s more")
        rest(broker, "started", report)
        with report.check("written"):
            write(broker, topics, options.seconds, report)
        rest(broker, "written", report)
        if options.kill:
            with report.check("started-after-kill"):
                broker.kill()
                report.figure("start-after-kill", round(broker.start(), 2), "s")
                report.figure("kill-to-all-led", round(timed(lambda: all_accepted(broker, topics)), 2), "s more")
        with report.check("panics"):
            if broker.panics or not broker.alive():
                raise AssertionError(f"{broker.panics} panics, alive: {broker.alive()}")
    return report.exit_code()


def raise_file_limit():
    """As many open files as this program may have; the broker inherits it."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    for wanted in (int(Path("/proc/sys/fs/nr_open").read_text()), most):
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(wanted, most)))
            return wanted
        except (ValueError, PermissionError):
            pass
    return 0


def timed(action):
    """Seconds that an action takes."""
    began = time.monotonic()
    action()
    return time.monotonic() - began


def create(broker, partitions, report):
    """Creates the topics and returns their names; fewer if the broker cannot go on."""
    admin = load.admin(broker.bootstrap)
    topics, times = [], []
    for number in range(partitions // PER_TOPIC):
        topic = f"many-{number}"
        began = time.monotonic()
        try:
            admin.create_topics([NewTopic(topic, PER_TOPIC, 1)], request_timeout=120)[topic].result(150)
            until_accepted(broker.port, topic)
        except Exception as error:
            log(f"no further than {number * PER_TOPIC} partitions: {error}")
            log(broker.log_tail(10))
            break
        times.append(time.monotonic() - began)
        topics.append(topic)
    report.figure("partitions", len(topics) * PER_TOPIC, "partitions")
    if not times:
        raise AssertionError("no topic was created")
    report.figure("create", round(sum(times), 2), "s")
    tenth = max(1, len(times) // 10)
    for name, some in (("first", times[:tenth]), ("last", times[-tenth:])):
        report.figure(f"create-{name}-tenth", round(1000 * sum(some) / len(some), 1), "ms/1000 partitions")
    return topics


def all_accepted(broker, topics):
    """Asks until every topic takes a record."""
    for topic in topics:
        until_accepted(broker.port, topic)


def until_accepted(port, topic):
    """Asks until the last partition of a topic takes a record."""
    records = wire.batch(b"x" * LENGTH, int(time.time() * 1000))
    deadline, pause = time.monotonic() + PATIENCE_S, threading.Event()
    with wire.Connection(port) as connection:
        while code := next(iter(produced(connection, topic, [PER_TOPIC - 1], records).values())):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: error code {code} for {PATIENCE_S} s")
            pause.wait(0.001)


def produced(connection, topic, partitions, records):
    """Produces the same batch to some partitions. Returns their error codes."""
    body = struct.pack(">hhii", -1, -1, wire.ANSWER_LIMIT_S * 1000, 1) + wire.text(topic)
    body += struct.pack(">i", len(partitions))
    for partition in partitions:
        body += struct.pack(">ii", partition, len(records)) + records
    answer = connection.ask(wire.request(wire.PRODUCE, body))
    answer.count()
    answer.text()
    rows = [answer.take(">ihqqq") for _ in range(answer.count())]
    return {partition: code for partition, code, *_ in rows}


def rest(broker, name, report):
    """Memory, files, and what the broker does of its own accord."""
    pause = threading.Event()
    pause.wait(3)
    before = cpu_seconds(broker)
    pause.wait(IDLE_S)
    report.figure(f"idle-cpu-{name}", round(100 * (cpu_seconds(broker) - before) / IDLE_S, 1), "% of a core")
    report.figure(f"memory-{name}", broker.memory_bytes() >> 20, "MiB")
    report.figure(f"disk-{name}", broker.disk_bytes() >> 20, "MiB")
    report.figure(f"files-{name}", len(os.listdir(f"/proc/{broker.pid}/fd")), "open files")


def cpu_seconds(broker):
    """User and system time of the broker."""
    with open(f"/proc/{broker.pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write(broker, topics, seconds, report):
    """One record for each of a thousand partitions, once a second, acks=all, spread evenly over the second.

    Requests are made by hand: client libraries look at every partition they know whenever one of them has something.
    """
    writers = [Writer(broker.port, topics, seconds, number) for number in range(WRITERS)]
    cpu, began = cpu_seconds(broker), time.monotonic()
    for writer in writers:
        writer.thread.start()
    for writer in writers:
        writer.thread.join()
    took = time.monotonic() - began
    failed = [why for writer in writers for why in writer.failed]
    if failed:
        raise AssertionError(f"{len(failed)} failures: {failed[0]}")
    latencies = sorted(latency for writer in writers for latency in writer.latencies)
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        report.figure(f"acknowledged-{name}", round(1000 * latencies[int(len(latencies) * share)], 1), "ms")
    report.figure("acknowledged", round(len(latencies) * PER_REQUEST / took), "records/s")
    report.figure("cpu-written", round(100 * (cpu_seconds(broker) - cpu) / took, 1), "% of a core")


class Writer:
    """One connection that asks for `PER_REQUEST` partitions of a topic at a time, at its share of the rate."""

    def __init__(self, port, topics, seconds, number):
        self.topics, self.seconds = topics, seconds
        self.connection = wire.Connection(port)
        self.choose = random.Random(number)
        self.pause_s = WRITERS * PER_REQUEST / TOUCHED_PER_S
        self.records = wire.batch(b"x" * LENGTH, int(time.time() * 1000))
        self.latencies, self.failed = [], []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        pause, began = threading.Event(), time.monotonic()
        for turn in range(int(self.seconds / self.pause_s)):
            pause.wait(max(0, began + turn * self.pause_s - time.monotonic()))
            asked = time.monotonic()
            try:
                self._ask()
            except Exception as error:
                self.failed.append(f"{type(error).__name__}: {error}")
                return
            self.latencies.append(time.monotonic() - asked)

    def _ask(self):
        topic = self.choose.choice(self.topics)
        partitions = self.choose.sample(range(PER_TOPIC), PER_REQUEST)
        for partition, code in produced(self.connection, topic, partitions, self.records).items():
            if code:
                self.failed.append(f"{topic}-{partition}: error code {code}")


if __name__ == "__main__":
    sys.exit(main())
