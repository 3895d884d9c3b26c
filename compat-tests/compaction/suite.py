"""Compaction keeps exactly the last value of each key, at the offset where it was written.

An idempotent producer updates a set of keys over and over, with every codec in turn, and deletes every tenth key at the
end. One more record far ahead in time rolls the last segment, in Kafka as in Ottla. Then the topic is read until
nothing but the last of each key is left, and once more after a restart, by librdkafka and by Kafka's own consumer. The
digest of what is left is the same for every broker that keeps the right offsets: the input is drawn from one seed.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import Producer

from harness import load
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log

TOPIC = "updates"
PARTITIONS = 4
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
SEGMENT_MS = 60_000
COMPACT_LIMIT_S = 900
SETTINGS = {"cleanup.policy": "compact", "segment.bytes": str(4 << 20), "segment.ms": str(SEGMENT_MS),
            "min.cleanable.dirty.ratio": "0"}
ROLLS = b"rolls the segment"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=load.size_bytes, default=500_000)
    parser.add_argument("--keys", type=load.size_bytes, default=5_000)
    options = parser.parse_args()
    exit_on_sigterm()
    report = Report()
    settings = {"log.cleaner.backoff.ms": "200", "log.retention.check.interval.ms": "1000"}
    with Broker(Target.from_env(), os.environ["OTTLA_WORK"], settings) as broker:
        with report.check("updated"):
            load.create_topic(broker.bootstrap, TOPIC, PARTITIONS, SETTINGS)
            last = update(broker, options)
            report.figure("written", round(broker.disk_bytes() / 1e6, 1), "MB on disk")
        with report.check("last-of-each-key"):
            await_compacted(broker, last, report)
        with report.check("after-restart"):
            broker.stop()
            broker.start()
            compare(read(broker), last)
        with report.check("java-consumer"):
            found = read_with_java(broker)
            compare(found, last)
            report.figure("digest", digest(found), "of partition, offset, key and value")
        report.figure("left", round(broker.disk_bytes() / 1e6, 1), "MB on disk")
    return report.exit_code()


def update(broker, options):
    """Produces everything. Returns {key: (partition, offset, value)} of what must be left."""
    last, failed = {}, []

    def note(error, message):
        if error:
            failed.append(str(error))
        elif message.key() != ROLLS:
            held = last.get(message.key())
            if held is None or held[1] < message.offset():
                last[message.key()] = (message.partition(), message.offset(), message.value())

    began = time.monotonic()
    draw = random.Random(4)
    share = options.updates // len(CODECS)
    for codec in CODECS:
        producer = Producer({"bootstrap.servers": broker.bootstrap, "enable.idempotence": True, "linger.ms": 5,
                             "compression.type": codec, "on_delivery": note, "partitioner": "murmur2_random"})
        for number in range(share):
            key = b"key-%d" % draw.randrange(options.keys)
            send(producer, key=key, value=b"%s:%s:%d:%s" % (key, codec.encode(), number, b"." * (number % 80)))
        if codec == CODECS[-1]:
            for number in range(0, options.keys, 10):
                send(producer, key=b"key-%d" % number, value=None)
            if producer.flush(load.TIMEOUT_S * 5) == 0:
                ahead_ms = int(time.time() * 1000) + 2 * SEGMENT_MS
                for partition in range(PARTITIONS):
                    send(producer, key=ROLLS, value=b"", partition=partition, timestamp=ahead_ms)
        if producer.flush(load.TIMEOUT_S * 5) or failed:
            raise RuntimeError(f"not everything was acknowledged: {failed[:1]}")
    log(f"{options.updates} updates of {len(last)} keys in {time.monotonic() - began:.0f} s")
    return last


def send(producer, **record):
    """Queues one record, waiting for room."""
    while True:
        try:
            producer.produce(TOPIC, **record)
            producer.poll(0)
            return
        except BufferError:
            producer.poll(0.5)


def read(broker):
    """[(partition, offset, key, value)] of everything in the topic but what rolled the segments."""
    ranges = load.watermarks(broker.bootstrap, TOPIC, PARTITIONS)
    found = load.scan_messages(broker.bootstrap, TOPIC, ranges)
    return [(m.partition(), m.offset(), m.key(), m.value()) for m in found if m.key() != ROLLS]


def read_with_java(broker):
    """The same through `kafka-console-consumer`."""
    fields = [f"print.{name}=true" for name in ("partition", "offset", "key", "value")]
    fields += ["print.timestamp=false", "null.literal=null", "key.separator=|"]
    command = [Path(os.environ["OTTLA_KAFKA_SCRIPTS"]) / "tool", "kafka-console-consumer", "--bootstrap-server",
               broker.bootstrap, "--topic", TOPIC, "--from-beginning", "--timeout-ms", "10000"]
    command += [word for field in fields for word in ("--formatter-property", field)]
    ended = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=600, check=False)
    found = []
    for line in ended.stdout.splitlines():
        partition, offset, key, value = line.split(b"|", 3)
        if key != ROLLS:
            value = None if value == b"null" else value
            found.append((int(partition.split(b":")[1]), int(offset.split(b":")[1]), key, value))
    return found


def digest(found):
    """The same for the same records, in whatever order they came."""
    return hashlib.sha256(repr(sorted(found, key=lambda record: record[:2])).encode()).hexdigest()[:16]


def await_compacted(broker, last, report):
    """Reads once in a while, as there is no event for it, until no key is there twice."""
    began = time.monotonic()
    pause = threading.Event()
    while True:
        found = read(broker)
        if len(found) <= len(last):
            break
        if time.monotonic() - began > COMPACT_LIMIT_S:
            raise AssertionError(f"{len(found)} records of {len(last)} keys after {COMPACT_LIMIT_S} s")
        pause.wait(1)
    report.figure("compacted-after", round(time.monotonic() - began, 1), "s")
    compare(found, last)


def compare(found, last):
    """Every key once, where and as it was written last."""
    if len(found) != len(last):
        raise AssertionError(f"{len(found)} records of {len(last)} keys")
    for partition, offset, key, value in found:
        if last.get(key) != (partition, offset, value):
            raise AssertionError(f"{key} is {value} at {partition}@{offset}, and was last {last.get(key)}")


if __name__ == "__main__":
    sys.exit(main())
