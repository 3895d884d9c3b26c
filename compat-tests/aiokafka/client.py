"""aiokafka, unmodified: the adapter for harness/scenario.py, and its run.

The scenario is written with threads, the library with coroutines: one event loop runs in a thread of its own, and every
call here hands it a coroutine and waits for the result.
"""

import asyncio
import os
import sys
import threading
from concurrent.futures import CancelledError
from contextlib import suppress

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (CommitFailedError, IllegalGenerationError, IllegalStateError, RebalanceInProgressError,
                             TopicAlreadyExistsError, UnknownMemberIdError, for_code)

from harness import scenario
from harness.records import Received, Record
from harness.report import Report

TIMEOUT_S = 30
BOOTSTRAP = os.environ["OTTLA_BOOTSTRAP"]

loop = asyncio.new_event_loop()
threading.Thread(target=loop.run_forever, daemon=True).start()


def wait(coroutine, limit_s=TIMEOUT_S * 4):
    """Runs a coroutine in the loop's thread and waits for its result."""
    return asyncio.run_coroutine_threadsafe(coroutine, loop).result(limit_s)


async def started(kind, **settings):
    """A client of the library, made and started inside the loop as the library wants it."""
    client = kind(bootstrap_servers=BOOTSTRAP, **settings)
    await client.start()
    return client


class AioProducer:
    """A producer that remembers where each record went, in the order of sending."""

    def __init__(self, codec, idempotent):
        # The library has one request in flight, which keeps the order. With idempotence batches are small and
        # unacknowledged records few, so that a crash meets a stream and not a queue.
        batch, unacknowledged_max = (1000, 500) if idempotent else (16384, 10000)
        self.inner = wait(started(AIOKafkaProducer, compression_type=None if codec == "none" else codec, acks="all",
                                  linger_ms=5, enable_idempotence=idempotent, max_batch_size=batch))
        self.room = threading.Semaphore(unacknowledged_max)
        self.sent = []

    def send(self, topic, partition, record):
        if not self.room.acquire(timeout=TIMEOUT_S * 4):
            raise TimeoutError("nothing is acknowledged")
        self.sent.append(wait(self._send(topic, partition, record)))

    async def _send(self, topic, partition, record):
        future = await self.inner.send(topic, value=record.value, key=record.key, partition=partition,
                                       headers=list(record.headers), timestamp_ms=record.timestamp_ms)
        future.add_done_callback(lambda _: self.room.release())
        return future

    def flush(self):
        sent, self.sent = self.sent, []
        return wait(self._placed(sent))

    async def _placed(self, sent):
        await self.inner.flush()
        return [(metadata.partition, metadata.offset) for metadata in await asyncio.gather(*sent)]

    def close(self):
        self.flush()
        wait(self.inner.stop())


class AioConsumer:
    """A consumer, with a group or without."""

    def __init__(self, group):
        self.inner = wait(started(AIOKafkaConsumer, group_id=group, auto_offset_reset="earliest",
                                  enable_auto_commit=False, session_timeout_ms=10000, heartbeat_interval_ms=500,
                                  fetch_max_wait_ms=100))

    def subscribe(self, topic):
        wait(self._call(self.inner.subscribe, [topic]))

    def assign(self, places):
        wait(self._call(self.inner.assign, [TopicPartition(topic, partition) for topic, partition, _ in places]))
        for topic, partition, offset in places:
            self.seek(topic, partition, offset)

    @staticmethod
    async def _call(function, *arguments):
        """A plain function of the library, called where its loop is."""
        return function(*arguments)

    def poll(self, timeout_s):
        received = []
        polled = wait(self.inner.getmany(timeout_ms=int(timeout_s * 1000), max_records=500))
        for place, messages in polled.items():
            for m in messages:
                record = Record(m.key, m.value, tuple((k, v) for k, v in m.headers), m.timestamp)
                received.append(Received(place.topic, place.partition, m.offset, record))
        return received

    def assignment(self):
        return [p.partition for p in self.inner.assignment()]

    def commit(self, offsets=None):
        if offsets is not None:
            offsets = {TopicPartition(topic, partition): offset for (topic, partition), offset in offsets.items()}
        wait(self.inner.commit(offsets))

    def commit_if_possible(self):
        """A commit that a rebalance may refuse; what it covered is then read again by the next owner."""
        try:
            wait(self.inner.commit())
        except (CommitFailedError, IllegalGenerationError, IllegalStateError, RebalanceInProgressError,
                UnknownMemberIdError):
            pass

    def committed(self, topic, partition):
        return wait(self.inner.committed(TopicPartition(topic, partition)))

    def seek(self, topic, partition, offset):
        wait(self._call(self.inner.seek, TopicPartition(topic, partition), offset))

    def seek_to_beginning(self, topic, partition):
        wait(self.inner.seek_to_beginning(TopicPartition(topic, partition)))

    def offset_for_time(self, topic, partition, timestamp_ms):
        place = TopicPartition(topic, partition)
        found = wait(self.inner.offsets_for_times({place: timestamp_ms}))[place]
        return found.offset if found is not None else None

    def end_offset(self, topic, partition):
        place = TopicPartition(topic, partition)
        return wait(self.inner.end_offsets([place]))[place]

    def close(self):
        # Closed while it waits to repeat a failed fetch, the library lets its own cancellation of that wait escape
        # (consumer/fetcher.py, Fetcher.close). It has left the group by then.
        with suppress(CancelledError):
            wait(self.inner.stop())


class AioClient:
    """The library as the scenario sees it. It cannot delete a group, and knows only the old AlterConfigs."""

    null_headers = True
    delete_group = None

    @staticmethod
    def _ask(question):
        """Runs `question(admin)` with an admin client of its own: an old one does not look for a broker that left."""
        async def answer():
            admin = await started(AIOKafkaAdminClient)
            try:
                return await question(admin)
            finally:
                await admin.close()
        return wait(answer())

    def create_topic(self, topic, partitions, settings):
        wanted = NewTopic(topic, partitions, 1, topic_configs=settings)
        answer = self._ask(lambda admin: admin.create_topics([wanted]))
        try:
            self._refused(answer.topic_errors)
        except TopicAlreadyExistsError:
            raise scenario.AlreadyExists(topic)

    @staticmethod
    def _refused(errors):
        """Raises the first error of an answer that lists (name, code, ...)."""
        for name, code, *_ in errors:
            if code:
                raise for_code(code)(name)

    def grow(self, topic, partitions):
        self._ask(lambda admin: admin.create_partitions({topic: NewPartitions(partitions)}))

    def alter_topic(self, topic, key, value):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {key: value})
        for answer in self._ask(lambda admin: admin.alter_configs([resource])):
            self._refused((name, code) for code, _, _, name, *_ in answer.resources)

    def topic_setting(self, topic, key):
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, {key: None})
        answer = self._ask(lambda admin: admin.describe_configs([resource]))[0]
        return next(entry[1] for entry in answer.resources[0][4] if entry[0] == key)

    def topics(self):
        return set(self._ask(lambda admin: admin.list_topics()))

    def delete_topic(self, topic):
        self._refused(self._ask(lambda admin: admin.delete_topics([topic])).topic_error_codes)

    def delete_records(self, topic, offsets):
        wanted = {TopicPartition(topic, partition): RecordsToDelete(offset) for partition, offset in offsets.items()}
        self._ask(lambda admin: admin.delete_records(wanted))

    def producer(self, codec, idempotent):
        return AioProducer(codec, idempotent)

    def consumer(self, group):
        return AioConsumer(group)


if __name__ == "__main__":
    report = Report()
    scenario.run(AioClient(), report)
    sys.exit(report.exit_code())
