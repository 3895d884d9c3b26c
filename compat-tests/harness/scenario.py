"""What every Python client library must be able to do, written once; the libraries differ only in their adapter.

An adapter (`python-confluent/client.py`, `kafka-python/client.py`, `aiokafka/client.py`) wraps one unmodified library:

    null_headers                  whether the library can send a header without a value
    create_topic grow alter_topic topic_setting topics delete_topic delete_records delete_group
    producer(codec, idempotent)   -> send(topic, partition, record); flush() -> [(partition, offset)] as sent; close
    consumer(group)               -> subscribe assign poll assignment commit commit_if_possible committed seek
                                     seek_to_beginning offset_for_time end_offset close

`create_topic` raises `AlreadyExists` for a topic that is there; `delete_group` is None where the library has none. The
other languages follow the same list of checks.
"""

import threading
import time

from harness import control, groups
from harness.records import BASE_MS, CODECS, same, sample, text
from harness.report import log

LIMIT_S = 60
RECORDS = 200
PARTITIONS = 3


class AlreadyExists(Exception):
    """The topic to create exists."""


def run(client, report):
    """Runs all checks with one library against the broker of this program."""
    with report.check("topics"):
        _topics(client)
    for codec in CODECS:
        with report.check(f"codec-{codec}"):
            _codec(client, codec)
    with report.check("append-time"):
        _append_time(client)
    with report.check("group-of-three"):
        groups.grow_and_shrink(client, report)
    with report.check("commit-resume"):
        _commit_resume(client)
    with report.check("seek"):
        _seek(client)
    with report.check("restart-resume"):
        _restart_resume(client)
    with report.check("idempotence"):
        _idempotence(client)
    with report.check("administration"):
        _administration(client)


def read(consumer, count):
    """Polls until `count` records are there; a deadline, not a pause, ends a wait for records that never come."""
    got = []
    deadline = time.monotonic() + LIMIT_S
    while len(got) < count:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(got)} of {count} records after {LIMIT_S} s")
        got += consumer.poll(0.5)
    return got


def read_all(client, topic, partitions):
    """Every record of a topic, by partition, from the first offset to the end as it is now."""
    consumer = client.consumer(None)
    try:
        ends = {p: consumer.end_offset(topic, p) for p in range(partitions)}
        consumer.assign([(topic, p, 0) for p in range(partitions)])
        by_partition = {p: [] for p in range(partitions)}
        for received in read(consumer, sum(ends.values())):
            by_partition[received.partition].append(received)
    finally:
        consumer.close()
    for partition, records in by_partition.items():
        offsets = [r.offset for r in records]
        if offsets != list(range(ends[partition])):
            raise AssertionError(f"{topic}-{partition}: offsets are not 0..{ends[partition] - 1} in order")
    return by_partition


def send_texts(client, topic, numbers, producer=None, partitions=PARTITIONS):
    """Sends the numbers as values, round robin over the partitions, and waits for every acknowledgement."""
    own = producer or client.producer("none", False)
    for n in numbers:
        own.send(topic, n % partitions, text(str(n)))
    placed = own.flush()
    if producer is None:
        own.close()
    return placed


def _topics(client):
    client.create_topic("topics-a", PARTITIONS, {"retention.ms": "86400000", "cleanup.policy": "delete"})
    try:
        client.create_topic("topics-a", 1, {})
    except AlreadyExists:
        pass
    else:
        raise AssertionError("creating a topic twice succeeded")
    _eventually(lambda: "topics-a" in client.topics(), "the new topic is not listed")
    if client.topic_setting("topics-a", "retention.ms") != "86400000":
        raise AssertionError("retention.ms is not what the topic was created with")


def _codec(client, codec):
    topic = f"codec-{codec}"
    client.create_topic(topic, PARTITIONS, {})
    samples = [sample(i, client.null_headers) for i in range(RECORDS)]
    producer = client.producer(codec, False)
    for i, record in enumerate(samples):
        producer.send(topic, i % PARTITIONS, record)
    placed = producer.flush()
    producer.close()
    expected = {p: samples[p::PARTITIONS] for p in range(PARTITIONS)}
    if placed != [(i % PARTITIONS, i // PARTITIONS) for i in range(RECORDS)]:
        raise AssertionError("acknowledged offsets are not consecutive")
    for partition, records in read_all(client, topic, PARTITIONS).items():
        if len(records) != len(expected[partition]):
            raise AssertionError(f"{topic}-{partition}: {len(records)} records, sent {len(expected[partition])}")
        for want, got in zip(expected[partition], records):
            same(want, got.record, f"{topic}-{partition}@{got.offset}")


def _append_time(client):
    client.create_topic("append-time", 1, {"message.timestamp.type": "LogAppendTime"})
    before = int(time.time() * 1000)
    send_texts(client, "append-time", range(20), partitions=1)
    after = int(time.time() * 1000)
    for received in read_all(client, "append-time", 1)[0]:
        if not before <= received.record.timestamp_ms <= after:
            raise AssertionError(f"timestamp {received.record.timestamp_ms} is not the broker's time of appending")


def _commit_resume(client):
    client.create_topic("commit", PARTITIONS, {})
    send_texts(client, "commit", range(90))
    first = client.consumer("resume")
    first.subscribe("commit")
    seen = [r for r in read(first, 90)]
    # Half of each partition: what follows must be exactly the other half.
    first.commit({("commit", p): 15 for p in range(PARTITIONS)})
    if [first.committed("commit", p) for p in range(PARTITIONS)] != [15] * PARTITIONS:
        raise AssertionError("committed offsets are not read back")
    first.close()
    second = client.consumer("resume")
    second.subscribe("commit")
    rest = read(second, 45)
    second.close()
    expected = {(r.partition, r.offset) for r in seen if r.offset >= 15}
    if {(r.partition, r.offset) for r in rest} != expected:
        raise AssertionError("the second consumer did not resume at the committed offsets")


def _seek(client):
    client.create_topic("seek", 1, {})
    producer = client.producer("none", False)
    for i in range(100):
        producer.send("seek", 0, sample(i, client.null_headers))
    producer.flush()
    producer.close()
    consumer = client.consumer(None)
    consumer.assign([("seek", 0, 0)])
    read(consumer, 100)
    consumer.seek("seek", 0, 40)
    _expect_next(consumer, 40)
    consumer.seek_to_beginning("seek", 0)
    _expect_next(consumer, 0)
    # Between two records: the later one is meant.
    offset = consumer.offset_for_time("seek", 0, BASE_MS + 60_500)
    if offset != 61:
        raise AssertionError(f"offset for a time between records 60 and 61 is {offset}")
    consumer.seek("seek", 0, offset)
    _expect_next(consumer, 61)
    if consumer.offset_for_time("seek", 0, BASE_MS + 3_000_000) is not None:
        raise AssertionError("there is an offset for a time after the last record")
    consumer.close()


def _expect_next(consumer, offset):
    got = read(consumer, 1)[0].offset
    if got != offset:
        raise AssertionError(f"the next record is {got}, expected {offset}")


def _restart_resume(client):
    client.create_topic("restart", PARTITIONS, {})
    producer = client.producer("lz4", False)
    consumer = client.consumer("survivor")
    consumer.subscribe("restart")
    seen = {}
    sent = 0
    for word in ["restart", "crash"]:
        for _ in range(2):
            send_texts(client, "restart", range(sent, sent + 60), producer)
            sent += 60
            _gather(consumer, seen, sent)
            _commit_everything(consumer, seen, sent)
            # The same producer and the same consumer go on afterwards as if nothing had happened.
            log(f"{word}: ready after {control.ask(word):.2f} s")
    consumer.close()
    producer.close()
    if sorted(int(r.record.value) for r in seen.values()) != list(range(sent)):
        raise AssertionError("what was read over the restarts is not what was sent")
    late = client.consumer("survivor")
    late.subscribe("restart")
    send_texts(client, "restart", range(sent, sent + 3))
    if sorted(int(r.record.value) for r in read(late, 3)) != [sent, sent + 1, sent + 2]:
        raise AssertionError("the group did not resume at its committed offsets after a crash")
    late.close()


def _gather(consumer, seen, goal):
    """Polls until `goal` different records were seen; Kafka lets a member that had to rejoin see some again."""
    deadline = time.monotonic() + LIMIT_S
    while len(seen) < goal:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(seen)} of {goal} records after {LIMIT_S} s")
        for received in consumer.poll(0.5):
            seen[(received.partition, received.offset)] = received


def _commit_everything(consumer, seen, sent):
    """Commits until the broker says that everything sent is committed; a rejoin in between starts over."""
    deadline = time.monotonic() + LIMIT_S
    while sum(consumer.committed("restart", p) or 0 for p in range(PARTITIONS)) < sent:
        if time.monotonic() > deadline:
            raise TimeoutError("the offsets were never committed")
        for received in consumer.poll(0.1):
            seen[(received.partition, received.offset)] = received
        consumer.commit_if_possible()


def _idempotence(client):
    client.create_topic("idempotent", PARTITIONS, {})
    producer = client.producer("none", True)
    crash = None
    for n in range(6000):
        producer.send("idempotent", n % PARTITIONS, text(str(n)))
        if n in (1500, 4000):
            if crash:
                crash.join()
            crash = threading.Thread(target=control.ask, args=("crash",))
            crash.start()
    crash.join()
    producer.flush()
    producer.close()
    for partition, records in read_all(client, "idempotent", PARTITIONS).items():
        if [int(r.record.value) for r in records] != list(range(partition, 6000, PARTITIONS)):
            raise AssertionError(f"partition {partition}: a record is missing, twice or out of order")


def _administration(client):
    client.create_topic("admin", 1, {})
    client.grow("admin", 3)
    send_texts(client, "admin", range(30))
    client.alter_topic("admin", "max.message.bytes", "2000000")
    read_back = lambda: client.topic_setting("admin", "max.message.bytes") == "2000000"  # noqa: E731
    _eventually(read_back, "the altered setting is not read back")
    client.delete_records("admin", {0: 4})
    consumer = client.consumer("admin-group")
    consumer.subscribe("admin")
    offsets = sorted((r.partition, r.offset) for r in read(consumer, 26))
    consumer.commit()
    consumer.close()
    if offsets[0] != (0, 4):
        raise AssertionError(f"after deleting 4 records partition 0 starts at {offsets[0]}")
    if client.delete_group is not None:
        client.delete_group("admin-group")
    client.delete_topic("admin")
    _eventually(lambda: "admin" not in client.topics(), "the deleted topic is still listed")


def _eventually(holds, otherwise):
    """Of several brokers the one that is asked may hear of a change after the one that was told."""
    deadline = time.monotonic() + LIMIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(otherwise)
