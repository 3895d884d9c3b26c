"""Retention gives disk space back: topics with different rules are filled, most of it expires, the directory shrinks.

A tenth stays for ever (`keep`), a tenth is held by size (`by-size`), the rest goes by time, by DeleteRecords and by
deleting a topic. What is live is counted from offsets, not from files. Afterwards the live part is read and compared,
once more after a restart.
"""

import argparse
import os
import sys
import threading
import time

from confluent_kafka import TopicPartition

from harness import load
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log

PARTITIONS = 4
LENGTH = 10000
SHRINK_LIMIT_S = 600
GOES = 5
ALLOWED = 1.2
# Kafka's segments bound how exactly retention can work; small ones for both brokers.
SEGMENT_BYTES = 16 << 20


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=load.size_bytes, default=load.size_bytes("5G"), help="bytes written in all")
    parser.add_argument("--slack", type=load.size_bytes, default=0,
                        help="bytes allowed beyond 20 %%: at small sizes the engine's fixed files outweigh the data")
    options = parser.parse_args()
    exit_on_sigterm()
    report = Report()
    settings = {"log.retention.check.interval.ms": "1000", "log.segment.delete.delay.ms": "1000",
                "log.initial.task.delay.ms": "1000"}
    with Broker(Target.from_env(), os.environ["OTTLA_WORK"], settings) as broker:
        with report.check("filled"):
            counts = fill_topics(broker, options.size)
            report.figure("disk-full", round(broker.disk_bytes() / 1e9, 3), "GB")
        with report.check("shrinks"):
            expire(broker, counts)
            await_shrunk(broker, options, report)
        with report.check("live-data-intact"):
            read_live(broker, counts)
        with report.check("after-restart"):
            broker.stop()
            broker.start()
            read_live(broker, counts)
            await_shrunk(broker, options, report)
    return report.exit_code()


def fill_topics(broker, size):
    """Creates and fills the topics; nothing expires yet. Returns records per partition by topic."""
    shares = {"keep": 0.1, "by-size": 0.2, "by-time": 0.4, "truncated": 0.15, "deleted": 0.15}
    counts = {}
    for topic, share in shares.items():
        rules = {"retention.ms": "-1", "retention.bytes": "-1", "segment.bytes": str(SEGMENT_BYTES)}
        load.create_topic(broker.bootstrap, topic, PARTITIONS, rules)
    # Interleaved, so that data with different lives lies side by side, as it would in a broker that has run for days.
    began = time.monotonic()
    for topic in shares:
        counts[topic] = 0
    threads = [threading.Thread(target=fill_one, args=(broker, topic, int(size * share), counts))
               for topic, share in shares.items()]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not all(counts.values()):
        raise RuntimeError(f"not every topic was filled: {counts}")
    log(f"{size / 1e9:.1f} GB written in {time.monotonic() - began:.0f} s")
    return counts


def fill_one(broker, topic, size, counts):
    """Fills one topic in several goes. A failure leaves its count at 0, which the caller sees."""
    total = 0
    for _ in range(GOES):
        total += load.fill(broker.bootstrap, topic, PARTITIONS, size // GOES, LENGTH)
    counts[topic] = total


def expire(broker, counts):
    """Makes most of the data expire, each topic by its own rule."""
    half = counts["by-size"] * LENGTH // 2
    load.alter_topic(broker.bootstrap, "by-size", {"retention.bytes": str(half)})
    load.alter_topic(broker.bootstrap, "by-time", {"retention.ms": "1000"})
    admin = load.admin(broker.bootstrap)
    cut = [TopicPartition("truncated", p, counts["truncated"]) for p in range(PARTITIONS)]
    for answer in admin.delete_records(cut).values():
        answer.result(load.TIMEOUT_S)
    admin.delete_topics(["deleted"])["deleted"].result(load.TIMEOUT_S)


def live_bytes(broker):
    """What is between the first and the end offset of every partition that still exists."""
    total = 0
    for topic in ("keep", "by-size", "by-time", "truncated"):
        total += sum(end - low for low, end in load.watermarks(broker.bootstrap, topic, PARTITIONS)) * LENGTH
    return total


def await_shrunk(broker, options, report):
    """Looks once a second, as there is no event for it, until the directory is small enough and retention is done."""
    began = time.monotonic()
    pause = threading.Event()
    while True:
        live, disk = live_bytes(broker), broker.disk_bytes()
        gone = all(low == end for low, end in load.watermarks(broker.bootstrap, "by-time", PARTITIONS))
        if gone and disk <= live * ALLOWED + options.slack:
            break
        if time.monotonic() - began > SHRINK_LIMIT_S:
            raise AssertionError(f"{disk / 1e9:.3f} GB on disk for {live / 1e9:.3f} GB live after {SHRINK_LIMIT_S} s")
        pause.wait(1)
    report.figure("live", round(live / 1e9, 3), "GB")
    report.figure("disk-after", round(disk / 1e9, 3), "GB")
    report.figure("disk-over-live", round(disk / max(live, 1), 3), "times")
    report.figure("shrunk-after", round(time.monotonic() - began, 1), "s")


def read_live(broker, counts):
    """Reads what is live and compares every byte. `keep` must be whole, `by-size` must end where it ended."""
    for topic in ("keep", "by-size"):
        ranges = load.watermarks(broker.bootstrap, topic, PARTITIONS)
        for partition, (low, end) in enumerate(ranges):
            if end != counts[topic] or (topic == "keep" and low != 0):
                raise AssertionError(f"{topic}-{partition} is {low}..{end}, {counts[topic]} records were written")
            kept = (end - low) * LENGTH
            if topic == "by-size" and kept < counts[topic] * LENGTH // 2 - LENGTH:
                raise AssertionError(f"{topic}-{partition} kept {kept} bytes, fewer than its retention.bytes")
        per_go = counts[topic] // GOES
        for partition, offset, data in load.scan(broker.bootstrap, topic, ranges):
            # Every go of the filling starts again at number 0.
            if data != load.value(partition, offset % per_go, LENGTH):
                raise AssertionError(f"{topic}-{partition}@{offset}: the value is not what was sent")


if __name__ == "__main__":
    sys.exit(main())
