"""A broker on a small disk, for as long as one likes: topics with every kind of retention are written at a bounded rate.

What is written would fill the disk many times over; what must stay takes a small part of it. The usage of the disk is
sampled and must stay flat, no client may see an error, and whatever is there must be what was written, at its offset.
Then the disk is filled from outside: producers wait, readers go on, nothing acknowledged is lost, and the producers go on
when room returns. The disk is a file system in a file, mounted by this program: it takes root.
"""

import argparse
import faulthandler
import os
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, Producer, TopicPartition

from harness import load
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log
from harness.volume import PATIENCE_S, Volume, await_state

VOLUME_BYTES = 2 << 30
# What the broker keeps back by default: a twentieth of the volume.
RESERVE_BYTES = VOLUME_BYTES // 20
SAMPLE_S = 10
# A topic that lives shortly is deleted when it has so many records.
FLEETING_RECORDS = 2000
# DeleteRecords leaves so many in a partition.
LEFT_RECORDS = 2000
LIVES_MS = "60000"
# Later samples may lie above earlier ones by this factor, and by two files of the value log, which go whole or not at all.
GROWTH, SLACK_BYTES = 1.15, 256 << 20
SETTINGS = {"log.retention.check.interval.ms": "2000", "log.cleaner.backoff.ms": "2000"}
ROLLS = {"segment.bytes": str(8 << 20), "segment.ms": "10000"}


class Stream:
    """One topic that is written at a steady rate. Its producer is idempotent and alone, so record `n` of a partition must
    lie at offset `n`: offset, value and order are known without a book of every record."""

    def __init__(self, broker, topic, settings, rate_bytes, length, keys=0, partitions=2):
        self.broker, self.topic, self.length, self.keys, self.partitions = broker, topic, length, keys, partitions
        load.create_topic(broker.bootstrap, topic, partitions, {**ROLLS, **settings})
        self.pause_s = length / rate_bytes
        self.producer = Producer({"bootstrap.servers": broker.bootstrap, "linger.ms": 5, "acks": "all",
                                  "enable.idempotence": True, "message.timeout.ms": 0, "retry.backoff.ms": 50,
                                  "queue.buffering.max.messages": 2000,
                                  # One for all: closures for each record were seen to crash confluent-kafka 2.15.
                                  "on_delivery": self._delivered})
        self.sent = [0] * partitions
        self.acked = [0] * partitions
        self.failed = []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def key(self, number):
        """The key of record `number`: with `keys`, all of them in turn."""
        return b"key-%d" % (number % self.keys) if self.keys else None

    def _run(self):
        began, count = time.monotonic(), 0
        while not self.stopping.is_set():
            partition = count % self.partitions
            number = self.sent[partition]
            data = load.value(partition, number, self.length)
            try:
                self.producer.produce(self.topic, data, self.key(number), partition)
                self.sent[partition] += 1
                count += 1
            except BufferError:
                # The broker lets it wait: the rate begins anew.
                self.producer.poll(0.1)
                began = time.monotonic() - count * self.pause_s
            self.producer.poll(0)
            ahead = began + count * self.pause_s - time.monotonic()
            if ahead > 0:
                self.stopping.wait(ahead)
        self.producer.flush(2 * PATIENCE_S)

    def _delivered(self, error, message):
        partition, number = load.number_of(message.value())
        if error or message.offset() != number:
            self.failed.append(f"{self.topic}-{partition}: record {number} at {message.offset()}: {error}")
        else:
            self.acked[partition] = number + 1

    def stop(self):
        """Stops sending and waits until everything sent is acknowledged."""
        self.stopping.set()
        self.thread.join(3 * PATIENCE_S)
        if self.thread.is_alive() or self.acked != self.sent:
            raise AssertionError(f"{self.topic}: acknowledged {self.acked}, sent {self.sent}")

    def verify(self):
        """Reads all that is there: no value is wrong, no end is before what was acknowledged, and of a topic that is only
        compacted the last record of each key is there."""
        ranges = load.watermarks(self.broker.bootstrap, self.topic, self.partitions)
        acked = list(self.acked)
        last = [{} for _ in range(self.partitions)]
        count = 0
        for message in load.scan_messages(self.broker.bootstrap, self.topic, ranges):
            partition, offset = message.partition(), message.offset()
            if message.value() != load.value(partition, offset, self.length) or message.key() != self.key(offset):
                raise AssertionError(f"{self.topic}-{partition}@{offset} is not what was sent")
            last[partition][message.key()] = offset
            count += 1
        for partition, (low, end) in enumerate(ranges):
            if end < acked[partition]:
                raise AssertionError(f"{self.topic}-{partition}: {acked[partition]} acknowledged, the end is {end}")
            if self.keys:
                self._verify_keys(partition, low, end, last[partition])
        return count

    def _verify_keys(self, partition, low, end, last):
        for number in range(max(low, end - self.keys), end):
            if last.get(self.key(number)) != number:
                raise AssertionError(f"{self.topic}-{partition}: the last record of {self.key(number)} is not {number}")


class Cutter:
    """Deletes all but the last records of a topic, again and again."""

    def __init__(self, stream, admin):
        self.stream, self.admin, self.turns = stream, admin, 0

    def turn(self):
        """One DeleteRecords, in each fifth turn."""
        self.turns += 1
        if self.turns % 5:
            return
        cut = [TopicPartition(self.stream.topic, partition, acked - LEFT_RECORDS)
               for partition, acked in enumerate(self.stream.acked) if acked > LEFT_RECORDS]
        if cut:
            for answer in self.admin.delete_records(cut).values():
                answer.result(load.TIMEOUT_S)


class Fleeting:
    """A topic that is created, written and deleted, again and again."""

    def __init__(self, broker, rate_bytes, admin):
        self.broker, self.rate_bytes, self.admin = broker, rate_bytes, admin
        self.lives, self.stream = 0, None

    def turn(self):
        """Ends the life of the topic if it is old enough, and begins the next."""
        if self.stream and sum(self.stream.acked) >= FLEETING_RECORDS:
            self.end()
        if not self.stream:
            self.lives += 1
            topic = f"fleeting-{self.lives}"
            self.stream = Stream(self.broker, topic, {"retention.ms": "-1"}, self.rate_bytes, 10000)

    def end(self):
        """Reads the topic once more and deletes it."""
        stream, self.stream = self.stream, None
        stream.stop()
        check_stream(stream)
        stream.verify()
        self.admin.delete_topics([stream.topic])[stream.topic].result(load.TIMEOUT_S)


class Reader:
    """Reads the tail of a topic and compares every value."""

    def __init__(self, stream):
        self.stream, self.count, self.failed = stream, 0, []
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        consumer = Consumer({"bootstrap.servers": self.stream.broker.bootstrap, "group.id": "tail", "check.crcs": True,
                             "auto.offset.reset": "earliest", "error_cb": self._error})
        consumer.subscribe([self.stream.topic])
        expected = {}
        try:
            while not self.stopping.is_set():
                for message in consumer.consume(500, 0.5):
                    if message.error():
                        self.failed.append(str(message.error()))
                        continue
                    partition, offset = message.partition(), message.offset()
                    if message.value() != load.value(partition, offset, self.stream.length):
                        self.failed.append(f"{self.stream.topic}-{partition}@{offset} is not what was sent")
                    if offset != expected.get(partition, offset):
                        self.failed.append(f"{self.stream.topic}-{partition}: {offset} follows {expected[partition]}")
                    expected[partition] = offset + 1
                    self.count += 1
        finally:
            consumer.close()

    def _error(self, error):
        self.failed.append(str(error))

    def stop(self):
        """Ends reading."""
        self.stopping.set()
        self.thread.join(PATIENCE_S)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60, help="how long the disk is watched")
    options = parser.parse_args()
    exit_on_sigterm()
    faulthandler.enable()
    report = Report()
    work = Path(os.environ["OTTLA_WORK"])
    with report.check("disk"):
        with Volume("ext4", work, VOLUME_BYTES) as volume:
            settings = {**SETTINGS, "log.dirs": str(volume.path / "data")}
            with Broker(Target.from_env(), work, settings) as broker:
                live(broker, volume, options.minutes, report)
    return report.exit_code()


def live(broker, volume, minutes, report):
    """The whole life."""
    truncated = {"retention.ms": "-1"}
    compacted = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.3"}
    both = {**compacted, "cleanup.policy": "compact,delete", "retention.ms": LIVES_MS}
    streams = [Stream(broker, "by-time", {"retention.ms": LIVES_MS}, 2e6, 10000),
               Stream(broker, "by-size", {"retention.ms": "-1", "retention.bytes": str(32 << 20)}, 1.2e6, 10000),
               Stream(broker, "truncated", truncated, 0.8e6, 5000),
               Stream(broker, "compacted", compacted, 0.8e6, 5000, keys=1000),
               Stream(broker, "both", both, 0.8e6, 5000, keys=1000)]
    admin = load.admin(broker.bootstrap)
    fleeting, cutter, reader = Fleeting(broker, 0.6e6, admin), Cutter(streams[2], admin), Reader(streams[0])
    with report.check("flat"):
        samples = watch(volume, minutes * 60, [fleeting, cutter], streams, reader)
        written = sum(sum(stream.acked) * stream.length for stream in streams)
        report.figure("written", round((written + fleeting.lives * FLEETING_RECORDS * 10000) / 1e9, 2), "GB")
        report.figure("topics-deleted", fleeting.lives - 1, "topics")
        check_flat(samples, report)
    with report.check("kept"):
        for stream in streams:
            report.figure(f"kept-{stream.topic}", stream.verify(), "records")
    with report.check("full"):
        full_from_outside(broker, volume, streams, reader, report)
    with report.check("acknowledged"):
        for stream in streams:
            stream.stop()
            check_stream(stream)
            stream.verify()
        fleeting.end()
        reader.stop()
        if reader.failed:
            raise AssertionError(reader.failed[0])
        report.figure("read-at-the-tail", reader.count, "records")
    with report.check("after-restart"):
        report.figure("memory", broker.memory_bytes() >> 20, "MiB")
        broker.kill()
        report.figure("start", round(broker.start(), 2), "s")
        for stream in streams:
            stream.verify()
    with report.check("panics"):
        if broker.panics or not broker.alive():
            raise AssertionError(f"{broker.panics} panics, alive: {broker.alive()}")


def watch(volume, seconds, tasks, streams, reader):
    """Lets everything go on for so long. Returns the samples of the disk's usage in bytes."""
    samples = []
    pause = threading.Event()
    began = time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        for task in tasks:
            task.turn()
        for stream in streams:
            check_stream(stream)
        if reader.failed:
            raise AssertionError(reader.failed[0])
        if passed >= len(samples) * SAMPLE_S:
            samples.append(volume.used())
            log(f"{passed:.0f} s: {samples[-1] >> 20} MiB used")
        pause.wait(1)
    return samples


def check_stream(stream):
    """No delivery has failed."""
    if stream.failed:
        raise AssertionError(f"{len(stream.failed)} failures: {stream.failed[0]}")


def check_flat(samples, report):
    """After the first third, in which the topics fill up, the usage must not rise."""
    settled = samples[len(samples) // 3:]
    early, late = settled[:len(settled) // 2], settled[len(settled) // 2:]
    for name, some in (("early", early), ("late", late)):
        some = sorted(some)
        report.figure(f"used-{name}", f"{some[0] >> 20}..{some[len(some) // 2] >> 20}..{some[-1] >> 20}", "MiB")
    if max(late) > GROWTH * max(early) + SLACK_BYTES:
        raise AssertionError(f"the usage grew from {max(early)} to {max(late)} bytes")


def full_from_outside(broker, volume, streams, reader, report):
    """Leaves no room, looks at what goes on, gives it back."""
    volume.leave(RESERVE_BYTES * 3 // 4)
    await_state(broker, full=True)
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE_S
    before = None
    # What was on its way is acknowledged; retention makes room for a little more now and then, which is taken at once.
    while before != (before := [sum(stream.acked) for stream in streams]):
        if time.monotonic() > deadline:
            raise AssertionError("producers are served although the disk is full")
        volume.leave(RESERVE_BYTES * 3 // 4)
        pause.wait(3)
    for stream in streams:
        stream.verify()
    volume.give_back()
    began = time.monotonic()
    await_state(broker, full=False)
    while not all(sum(stream.acked) > count + 100 for stream, count in zip(streams, before)):
        if time.monotonic() > began + PATIENCE_S:
            raise AssertionError("producers are not served although there is room")
        pause.wait(0.1)
    report.figure("resumed-after", round(time.monotonic() - began, 2), "s")
    if reader.failed:
        raise AssertionError(reader.failed[0])


if __name__ == "__main__":
    sys.exit(main())
