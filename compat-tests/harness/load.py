"""Producers that keep books of what was sent and acknowledged, and at which offset. For the suites kill, retention
and disk-full.

Uses librdkafka (confluent-kafka). Record `n` of a partition is `<partition>:<n>:` followed by filling bytes, so that
every value is unique and a consumer can tell order, loss and repetition from the values alone.
"""

import random
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic,
                                   ResourceType)

TIMEOUT_S = 60
# Random, so that no codec and no file system makes it smaller than it looks.
NOISE = random.Random(4).randbytes(1 << 20)


def size_bytes(text):
    """500M, 5G, 1024: a size as people write it."""
    unit = {"K": 10**3, "M": 10**6, "G": 10**9}.get(text[-1:].upper())
    return int(text[:-1]) * unit if unit else int(text)


def admin(bootstrap):
    """An admin client."""
    return AdminClient({"bootstrap.servers": bootstrap})


def create_topic(bootstrap, topic, partitions, settings=None, replicas=1):
    """Creates a topic and waits until it is there."""
    client = admin(bootstrap)  # held: the answer dies with the client that asked
    wanted = NewTopic(topic, partitions, replicas, config=settings or {})
    client.create_topics([wanted])[topic].result(TIMEOUT_S)


def alter_topic(bootstrap, topic, settings):
    """Sets topic settings."""
    alter(bootstrap, ResourceType.TOPIC, topic, settings)


def alter_broker(bootstrap, number, settings):
    """Sets settings of one broker, which is the one that is asked."""
    alter(bootstrap, ResourceType.BROKER, str(number), settings)


def alter(bootstrap, kind, name, settings):
    """Sets settings of a resource."""
    entries = [ConfigEntry(key, setting, incremental_operation=AlterConfigOpType.SET)
               for key, setting in settings.items()]
    resource = ConfigResource(kind, name, incremental_configs=entries)
    client = admin(bootstrap)
    client.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)


def broker_setting(bootstrap, number, key):
    """The value that one broker tells of a setting of its own."""
    resource = ConfigResource(ResourceType.BROKER, str(number))
    client = admin(bootstrap)
    return client.describe_configs([resource])[resource].result(TIMEOUT_S)[key].value


def value(partition, number, length):
    """The value of record `number` of a partition, at least `length` bytes long."""
    head = b"%d:%d:" % (partition, number)
    start = (number * 7919) % (len(NOISE) - length)
    return head + NOISE[start:start + max(0, length - len(head))]


def number_of(data):
    """(partition, number) of a value."""
    partition, number, _ = data.split(b":", 2)
    return int(partition), int(number)


class Ledger:
    """A producer thread for one topic, round robin over its partitions, with the account of every acknowledgement."""

    def __init__(self, bootstrap, topic, partitions, length, settings, pause_s=0):
        self.topic, self.partitions, self.length, self.pause_s = topic, partitions, length, pause_s
        self.producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 2, "message.timeout.ms": 0,
                                  "queue.buffering.max.messages": 20000, "reconnect.backoff.max.ms": 200,
                                  "retry.backoff.ms": 50, **settings})
        self.sent = [0] * partitions
        # acked[partition][number] = offset
        self.acked = [{} for _ in range(partitions)]
        self.acked_total = 0
        # When each partition was last acknowledged anything, and the longest time that it was not.
        self.last_ack = [None] * partitions
        self.longest_gap = [0.0] * partitions
        self.failed = []
        self.changed = threading.Condition()
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def start(self):
        """Starts sending."""
        self.thread.start()

    def _run(self):
        turn = 0
        while not self.stopping.is_set():
            partition = turn % self.partitions
            turn += 1
            self._send(partition)
            if self.pause_s:
                self.stopping.wait(self.pause_s)
        self.producer.flush(TIMEOUT_S * 2)

    def _send(self, partition):
        number = self.sent[partition]
        data = value(partition, number, self.length)
        while not self.stopping.is_set():
            try:
                self.producer.produce(self.topic, data, partition=partition, on_delivery=self._delivered(number))
                self.sent[partition] += 1
                break
            except BufferError:
                self.producer.poll(0.1)  # full because the broker is down or slow: wait for room
        self.producer.poll(0)

    def _delivered(self, number):
        def note(error, message):
            with self.changed:
                if error:
                    self.failed.append(f"{message.partition()}:{number}: {error}")
                else:
                    self.acked[message.partition()][number] = message.offset()
                    self.acked_total += 1
                    self._time(message.partition())
                self.changed.notify_all()
        return note

    def _time(self, partition):
        now = time.monotonic()
        if self.last_ack[partition] is not None:
            self.longest_gap[partition] = max(self.longest_gap[partition], now - self.last_ack[partition])
        self.last_ack[partition] = now

    def take_longest_gap(self):
        """The longest time that any partition was without an acknowledgement since this was last asked."""
        with self.changed:
            longest, self.longest_gap = max(self.longest_gap), [0.0] * self.partitions
        return longest

    def await_every_partition(self):
        """Waits until every partition was acknowledged something after this call."""
        with self.changed:
            before = [len(acked) for acked in self.acked]
            done = lambda: self.failed or all(len(a) > b for a, b in zip(self.acked, before))
            if not self.changed.wait_for(done, TIMEOUT_S * 2):
                raise TimeoutError(f"{self.topic}: a partition is acknowledged nothing any more")

    def await_acks(self, goal):
        """Waits until `goal` records have been acknowledged in all."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.acked_total >= goal or self.failed, TIMEOUT_S * 2):
                raise TimeoutError(f"{self.topic}: {self.acked_total} of {goal} records acknowledged")
        if self.failed:
            raise RuntimeError(f"{self.topic}: delivery failed: {self.failed[0]}")

    def stop(self):
        """Stops sending and waits until everything sent is acknowledged."""
        self.stopping.set()
        self.thread.join(TIMEOUT_S * 3)
        if self.thread.is_alive():
            raise TimeoutError(f"{self.topic}: the producer does not finish")


def verify(bootstrap, ledger, exactly_once):
    """Reads the whole topic and compares it with the ledger: nothing acknowledged is missing, nothing is reordered.

    Returns what lies where: for each partition {number: its offsets}."""
    if ledger.failed:
        raise AssertionError(f"{len(ledger.failed)} deliveries failed, first: {ledger.failed[0]}")
    ranges = watermarks(bootstrap, ledger.topic, ledger.partitions)
    expected_offset = [0] * ledger.partitions
    last = [-1] * ledger.partitions
    # found[partition][number] = every offset at which the record lies
    found = [{} for _ in range(ledger.partitions)]
    for partition, offset, data in scan(bootstrap, ledger.topic, ranges):
        where = f"{ledger.topic}-{partition}@{offset}"
        if offset != expected_offset[partition]:
            raise AssertionError(f"{where}: the offset before it was {expected_offset[partition] - 1}")
        expected_offset[partition] += 1
        own, number = number_of(data)
        if own != partition or data != value(partition, number, ledger.length):
            raise AssertionError(f"{where}: the value is not what was sent")
        if exactly_once and number != last[partition] + 1:
            raise AssertionError(f"{where}: record {number} follows record {last[partition]}")
        # Without idempotence a request may be repeated, but never reordered: the next is never more than one ahead.
        if number > last[partition] + 1:
            raise AssertionError(f"{where}: record {number} follows record {last[partition]}, some are missing")
        last[partition] = max(last[partition], number)
        found[partition].setdefault(number, []).append(offset)
    for partition in range(ledger.partitions):
        for number, offset in ledger.acked[partition].items():
            # -1: acknowledged as a repetition whose first offset the broker no longer knew (Kafka does the same).
            places = found[partition].get(number, [])
            if not places or (offset >= 0 and offset not in places):
                raise AssertionError(f"{ledger.topic}-{partition}: record {number}, acknowledged at {offset}, "
                                     f"is at {places or 'no offset'}")
    return found


def watermarks(bootstrap, topic, partitions):
    """[(first offset, end offset)] of the partitions."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "watermarks"})
    try:
        return [_watermarks_of(consumer, TopicPartition(topic, p)) for p in range(partitions)]
    finally:
        consumer.close()


def _watermarks_of(consumer, place):
    """Asks again while the answer is that it may be asked again: a broker that just started may not lead yet, and one
    that leads may not know yet how far the others are (KIP-207)."""
    again = (KafkaError.NOT_LEADER_FOR_PARTITION, KafkaError.OFFSET_NOT_AVAILABLE)
    deadline = time.monotonic() + TIMEOUT_S
    while True:
        try:
            return consumer.get_watermark_offsets(place, TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() not in again or time.monotonic() > deadline:
                raise
            consumer.poll(0.1)  # lets librdkafka work; there is nothing to read


def scan(bootstrap, topic, ranges):
    """Yields (partition, offset, value) of everything between the given first and end offsets, in the order read."""
    for message in scan_messages(bootstrap, topic, ranges):
        yield message.partition(), message.offset(), message.value()


def scan_messages(bootstrap, topic, ranges):
    """Yields every message between the given first and end offsets, in the order read."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "scan", "enable.auto.commit": False,
                         "check.crcs": True, "auto.offset.reset": "error", "queued.max.messages.kbytes": 65536})
    left = {p: end - low for p, (low, end) in enumerate(ranges) if end > low}
    consumer.assign([TopicPartition(topic, p, ranges[p][0]) for p in left])
    deadline = time.monotonic() + TIMEOUT_S
    try:
        while left:
            for message in consumer.consume(1000, 1.0):
                if message.error():
                    if message.error().code() in (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN):
                        continue
                    raise KafkaException(message.error())
                partition = message.partition()
                if partition not in left or message.offset() >= ranges[partition][1]:
                    continue
                deadline = time.monotonic() + TIMEOUT_S
                yield message
                if message.offset() == ranges[partition][1] - 1:
                    del left[partition]
            if time.monotonic() > deadline:
                raise TimeoutError(f"{topic}: nothing more to read, but partitions {sorted(left)} are not at their end")
    finally:
        consumer.close()


def fill(bootstrap, topic, partitions, total_bytes, length):
    """Produces about `total_bytes` and waits for every acknowledgement. Returns the number of records per partition."""
    failed = []
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 20, "batch.size": 900000, "acks": "all",
                         "message.max.bytes": 1000000, "queue.buffering.max.kbytes": 65536})
    per_partition = total_bytes // length // partitions

    def note(error, _):
        if error:
            failed.append(str(error))

    for number in range(per_partition):
        for partition in range(partitions):
            data = value(partition, number, length)
            while True:
                try:
                    producer.produce(topic, data, partition=partition, on_delivery=note)
                    break
                except BufferError:
                    producer.poll(0.5)
        producer.poll(0)
    if producer.flush(TIMEOUT_S * 5) or failed:
        raise RuntimeError(f"{topic}: not everything was acknowledged: {failed[:1]}")
    return per_partition
