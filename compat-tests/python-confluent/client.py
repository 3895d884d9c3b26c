"""librdkafka through its Python binding, unmodified: the adapter for harness/scenario.py, and its run."""

import os
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import (AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic,
                                   ResourceType)

from harness import scenario
from harness.records import Received, Record
from harness.report import Report

TIMEOUT_S = 30
BOOTSTRAP = os.environ["OTTLA_BOOTSTRAP"]
CONNECTION_LOST = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN)


class RdProducer:
    """A producer that remembers where each record went, in the order of sending."""

    def __init__(self, codec, idempotent):
        # Without idempotence a retried batch would land behind its successors, and order is checked. With it, batches
        # are small and unacknowledged records few, so that a crash meets a stream and not a queue.
        in_flight, batch, self.unacknowledged_max = (5, 50, 500) if idempotent else (1, 10000, 10000)
        self.inner = Producer({"bootstrap.servers": BOOTSTRAP, "compression.type": codec, "acks": "all", "linger.ms": 5,
                               "enable.idempotence": idempotent, "max.in.flight": in_flight,
                               "batch.num.messages": batch, "retry.backoff.ms": 50})
        self.placed = []
        self.unacknowledged = 0

    def send(self, topic, partition, record):
        slot = len(self.placed)
        self.placed.append(None)
        self.unacknowledged += 1

        def delivered(error, message):
            self.placed[slot] = error or (message.partition(), message.offset())
            self.unacknowledged -= 1

        while True:
            try:
                self.inner.produce(topic, value=record.value, key=record.key, partition=partition,
                                   headers=list(record.headers) or None, timestamp=record.timestamp_ms,
                                   on_delivery=delivered)
                break
            except BufferError:
                self.inner.poll(1)
        self.inner.poll(0)
        while self.unacknowledged >= self.unacknowledged_max:
            self.inner.poll(1)

    def flush(self):
        if self.inner.flush(TIMEOUT_S * 4):
            raise TimeoutError("records still unacknowledged")
        placed, self.placed = self.placed, []
        for place in placed:
            if isinstance(place, KafkaError):
                raise KafkaException(place)
        return placed

    def close(self):
        self.flush()


class RdConsumer:
    """A consumer, with a group or without."""

    def __init__(self, group):
        self.inner = Consumer({"bootstrap.servers": BOOTSTRAP, "group.id": group or "no-group",
                               "auto.offset.reset": "earliest", "enable.auto.commit": False,
                               "session.timeout.ms": 10000, "heartbeat.interval.ms": 500,
                               "fetch.wait.max.ms": 100, "reconnect.backoff.max.ms": 500})

    def subscribe(self, topic):
        self.inner.subscribe([topic])

    def assign(self, places):
        self.inner.assign([TopicPartition(*place) for place in places])

    def poll(self, timeout_s):
        received = []
        for message in self.inner.consume(500, timeout_s):
            if message.error():
                # librdkafka tells of lost connections here and mends them itself.
                if message.error().retriable() or message.error().code() in CONNECTION_LOST:
                    continue
                raise KafkaException(message.error())
            record = Record(message.key(), message.value(), tuple(message.headers() or ()), message.timestamp()[1])
            received.append(Received(message.topic(), message.partition(), message.offset(), record))
        return received

    def assignment(self):
        return [p.partition for p in self.inner.assignment()]

    def commit(self, offsets=None):
        if offsets is None:
            self.inner.commit(asynchronous=False)
            return
        wanted = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        for answer in self.inner.commit(offsets=wanted, asynchronous=False):
            if answer.error:
                raise KafkaException(answer.error)

    def commit_if_possible(self):
        """A commit that a rebalance may refuse; what it covered is then read again by the next owner."""
        try:
            self.inner.commit(asynchronous=False)
        except KafkaException as error:
            allowed = (KafkaError._NO_OFFSET, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
                       KafkaError.REBALANCE_IN_PROGRESS)
            if error.args[0].code() not in allowed:
                raise

    def committed(self, topic, partition):
        offset = self.inner.committed([TopicPartition(topic, partition)], TIMEOUT_S)[0].offset
        return offset if offset >= 0 else None

    def seek(self, topic, partition, offset):
        self.inner.seek(TopicPartition(topic, partition, offset))

    def seek_to_beginning(self, topic, partition):
        low, _ = self.inner.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_S)
        self.seek(topic, partition, low)

    def offset_for_time(self, topic, partition, timestamp_ms):
        found = self.inner.offsets_for_times([TopicPartition(topic, partition, timestamp_ms)], TIMEOUT_S)[0]
        if found.error:
            raise KafkaException(found.error)
        return found.offset if found.offset >= 0 else None

    def end_offset(self, topic, partition):
        return self.inner.get_watermark_offsets(TopicPartition(topic, partition), TIMEOUT_S)[1]

    def close(self):
        self.inner.close()


class RdClient:
    """The library as the scenario sees it."""

    null_headers = True

    def __init__(self):
        self.admin = AdminClient({"bootstrap.servers": BOOTSTRAP})

    def create_topic(self, topic, partitions, settings):
        try:
            self.admin.create_topics([NewTopic(topic, partitions, 1, config=settings)])[topic].result(TIMEOUT_S)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
                raise scenario.AlreadyExists(topic)
            raise

    def grow(self, topic, partitions):
        self.admin.create_partitions([NewPartitions(topic, partitions)])[topic].result(TIMEOUT_S)

    def alter_topic(self, topic, key, value):
        entry = ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET)
        resource = ConfigResource(ResourceType.TOPIC, topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([resource])[resource].result(TIMEOUT_S)

    def topic_setting(self, topic, key):
        resource = ConfigResource(ResourceType.TOPIC, topic)
        return self.admin.describe_configs([resource])[resource].result(TIMEOUT_S)[key].value

    def topics(self):
        return set(self.admin.list_topics(timeout=TIMEOUT_S).topics)

    def delete_topic(self, topic):
        self.admin.delete_topics([topic])[topic].result(TIMEOUT_S)

    def delete_records(self, topic, offsets):
        wanted = [TopicPartition(topic, partition, offset) for partition, offset in offsets.items()]
        for answer in self.admin.delete_records(wanted).values():
            answer.result(TIMEOUT_S)

    def delete_group(self, group):
        self.admin.delete_consumer_groups([group])[group].result(TIMEOUT_S)

    def producer(self, codec, idempotent):
        return RdProducer(codec, idempotent)

    def consumer(self, group):
        return RdConsumer(group)


if __name__ == "__main__":
    report = Report()
    scenario.run(RdClient(), report)
    sys.exit(report.exit_code())
