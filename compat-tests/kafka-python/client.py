"""kafka-python, unmodified: the adapter for harness/scenario.py, and its run."""

import os
import sys
import threading
from contextlib import closing

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.errors import (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, TopicAlreadyExistsError,
                          UnknownMemberIdError)
from kafka.structs import OffsetAndMetadata

from harness import scenario
from harness.records import Received, Record
from harness.report import Report

TIMEOUT_S = 30
BOOTSTRAP = os.environ["OTTLA_BOOTSTRAP"]


class PureProducer:
    """A producer that remembers where each record went, in the order of sending."""

    def __init__(self, codec, idempotent):
        # Without idempotence a retried batch would land behind its successors, and order is checked. With it, batches
        # are small and unacknowledged records few, so that a crash meets a stream and not a queue.
        in_flight, batch, unacknowledged_max = (5, 1000, 500) if idempotent else (1, 16384, 10000)
        self.inner = KafkaProducer(bootstrap_servers=BOOTSTRAP, compression_type=None if codec == "none" else codec,
                                   acks="all", linger_ms=5, enable_idempotence=idempotent, retries=float("inf"),
                                   max_in_flight_requests_per_connection=in_flight, batch_size=batch,
                                   reconnect_backoff_max_ms=500)
        self.room = threading.Semaphore(unacknowledged_max)
        self.sent = []

    def send(self, topic, partition, record):
        if not self.room.acquire(timeout=TIMEOUT_S * 4):
            raise TimeoutError("nothing is acknowledged")
        future = self.inner.send(topic, value=record.value, key=record.key, partition=partition,
                                 headers=list(record.headers), timestamp_ms=record.timestamp_ms)
        future.add_both(lambda _: self.room.release())
        self.sent.append(future)

    def flush(self):
        self.inner.flush(timeout=TIMEOUT_S * 4)
        sent, self.sent = self.sent, []
        placed = [future.get(timeout=TIMEOUT_S) for future in sent]
        return [(metadata.partition, metadata.offset) for metadata in placed]

    def close(self):
        self.flush()
        self.inner.close(timeout=TIMEOUT_S)


class PureConsumer:
    """A consumer, with a group or without."""

    def __init__(self, group):
        self.inner = KafkaConsumer(bootstrap_servers=BOOTSTRAP, group_id=group, auto_offset_reset="earliest",
                                   enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=500,
                                   fetch_max_wait_ms=100, reconnect_backoff_max_ms=500)

    def subscribe(self, topic):
        self.inner.subscribe([topic])

    def assign(self, places):
        self.inner.assign([TopicPartition(topic, partition) for topic, partition, _ in places])
        for topic, partition, offset in places:
            self.seek(topic, partition, offset)

    def poll(self, timeout_s):
        received = []
        for place, messages in self.inner.poll(timeout_ms=int(timeout_s * 1000), max_records=500).items():
            for m in messages:
                record = Record(m.key, m.value, tuple((k, v) for k, v in m.headers or ()), m.timestamp)
                received.append(Received(place.topic, place.partition, m.offset, record))
        return received

    def assignment(self):
        return [p.partition for p in self.inner.assignment() or ()]

    def commit(self, offsets=None):
        if offsets is not None:
            offsets = {TopicPartition(topic, partition): OffsetAndMetadata(offset, "", -1)
                       for (topic, partition), offset in offsets.items()}
        self.inner.commit(offsets)

    def commit_if_possible(self):
        """A commit that a rebalance may refuse; what it covered is then read again by the next owner."""
        try:
            self.inner.commit()
        except (CommitFailedError, IllegalGenerationError, RebalanceInProgressError, UnknownMemberIdError):
            pass

    def committed(self, topic, partition):
        return self.inner.committed(TopicPartition(topic, partition))

    def seek(self, topic, partition, offset):
        self.inner.seek(TopicPartition(topic, partition), offset)

    def seek_to_beginning(self, topic, partition):
        self.inner.seek_to_beginning(TopicPartition(topic, partition))

    def offset_for_time(self, topic, partition, timestamp_ms):
        place = TopicPartition(topic, partition)
        found = self.inner.offsets_for_times({place: timestamp_ms})[place]
        return found.offset if found is not None else None

    def end_offset(self, topic, partition):
        place = TopicPartition(topic, partition)
        return self.inner.end_offsets([place])[place]

    def close(self):
        self.inner.close()


def administrator():
    """An admin client for one question: an old one does not ask a broker that it lately could not reach."""
    return closing(KafkaAdminClient(bootstrap_servers=BOOTSTRAP))


class PureClient:
    """The library as the scenario sees it."""

    null_headers = False  # the library insists on bytes

    def create_topic(self, topic, partitions, settings):
        wanted = {"num_partitions": partitions, "replication_factor": 1, "configs": settings}
        try:
            with administrator() as admin:
                admin.create_topics({topic: wanted}, wait_for_metadata=True)
        except TopicAlreadyExistsError:
            raise scenario.AlreadyExists(topic)

    def grow(self, topic, partitions):
        with administrator() as admin:
            admin.create_partitions({topic: partitions})
            admin.wait_for_topics([topic])

    def alter_topic(self, topic, key, value):
        with administrator() as admin:
            admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})])

    def topic_setting(self, topic, key):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic)
        with administrator() as admin:
            return admin.describe_configs([resource], config_filter="all")["topic"][topic][key]["value"]

    def topics(self):
        with administrator() as admin:
            return set(admin.list_topics())

    def delete_topic(self, topic):
        with administrator() as admin:
            admin.delete_topics([topic])

    def delete_records(self, topic, offsets):
        with administrator() as admin:
            admin.delete_records({TopicPartition(topic, partition): offset for partition, offset in offsets.items()})

    def delete_group(self, group):
        with administrator() as admin:
            answer = admin.delete_groups([group])[group]
        if answer != "OK":
            raise RuntimeError(f"delete group: {answer}")

    def producer(self, codec, idempotent):
        return PureProducer(codec, idempotent)

    def consumer(self, group):
        return PureConsumer(group)


if __name__ == "__main__":
    report = Report()
    scenario.run(PureClient(), report)
    sys.exit(report.exit_code())
