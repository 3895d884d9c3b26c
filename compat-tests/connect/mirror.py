"""MirrorMaker 2 from a real Kafka: topics with their settings, records byte for byte, and the offsets of groups.

Both sides are read with librdkafka. The broker under test is the target; it restarts and crashes while records flow.
MirrorMaker promises at least once: after a restart a record may be there twice, but none is missing and the order
holds. A translated offset is never beyond what the group had read, and exact where the group had read everything.
"""

import functools
import os
import sys

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic, ResourceType

from harness import control
from harness.broker import Broker, Target, exit_on_sigterm
from harness.records import Record, same, sample
from harness.report import Report, log
from process import JavaProcess, until

TARGET = os.environ["OTTLA_BOOTSTRAP"]
PARTITIONS = 3
SETTINGS = {"retention.ms": "172800000", "max.message.bytes": "2000000"}
TOPIC, MIRRORED = "mirror-a", "source.mirror-a"
# Two groups: one has read everything, one the first half of every partition.
DONE, HALF = "done", "half"
TIMEOUT_S = 30
PASSING = (KafkaError._TRANSPORT, KafkaError._ALL_BROKERS_DOWN, KafkaError.UNKNOWN_TOPIC_OR_PART,
           KafkaError._UNKNOWN_PARTITION)
COORDINATOR_PASSING = (KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE,
                       KafkaError.COORDINATOR_LOAD_IN_PROGRESS, KafkaError._WAIT_COORD)


def mirror_maker(source, work):
    """MirrorMaker 2 as a process of its own, looking for changes every second."""
    settings = {
        "clusters": "source, target",
        "source.bootstrap.servers": source,
        "target.bootstrap.servers": TARGET,
        "source->target.enabled": "true",
        "target->source.enabled": "false",
        "topics": "mirror-.*",
        "groups": ".*",
        "tasks.max": "2",
        "replication.factor": "1",
        "sync.group.offsets.enabled": "true",
        "sync.topic.acls.enabled": "false",
        "offset.lag.max": "0",
        "target.offset.flush.interval.ms": "500",
        "target.scheduled.rebalance.max.delay.ms": "0",
        "source.consumer.auto.offset.reset": "earliest",
    }
    for what in ("sync.group.offsets", "emit.checkpoints", "emit.heartbeats", "refresh.topics", "refresh.groups",
                 "sync.topic.configs"):
        settings[f"{what}.interval.seconds"] = "1"
    for what in ("checkpoints.topic", "heartbeats.topic", "offset-syncs.topic", "offset.storage", "status.storage",
                 "config.storage"):
        settings[f"{what}.replication.factor"] = "1"
    return JavaProcess("mirror-maker", "org.apache.kafka.connect.mirror.MirrorMaker", settings, work)


def setting(bootstrap, topic, key):
    """One setting of a topic."""
    resource = ConfigResource(ResourceType.TOPIC, topic)
    return administrator(bootstrap).describe_configs([resource])[resource].result(TIMEOUT_S)[key].value


@functools.cache
def administrator(bootstrap):
    """The admin client of one side. Kept: an answer does not outlive the client that was asked."""
    return AdminClient({"bootstrap.servers": bootstrap})


def create(bootstrap, topic, partitions, settings):
    """Creates a topic."""
    wanted = NewTopic(topic, partitions, 1, config=settings)
    administrator(bootstrap).create_topics([wanted])[topic].result(TIMEOUT_S)


def consumer(bootstrap, group):
    """A consumer that commits only when told."""
    return Consumer({"bootstrap.servers": bootstrap, "group.id": group, "enable.auto.commit": False,
                     "auto.offset.reset": "earliest", "fetch.wait.max.ms": 100, "reconnect.backoff.max.ms": 500})


class Copies:
    """Reads the mirrored topic as it grows: every record by partition, in the order of the offsets."""

    def __init__(self):
        self.inner = consumer(TARGET, "copies")
        self.inner.assign([TopicPartition(MIRRORED, p, 0) for p in range(PARTITIONS)])
        self.read = {p: [] for p in range(PARTITIONS)}

    def read_until(self, wanted):
        """Reads until every partition holds what is wanted, each record at least once."""
        keys = {p: {r.headers[0] for r in records} for p, records in wanted.items()}

        def complete():
            for message in self.inner.consume(500, 0.2):
                if message.error():
                    if message.error().code() in PASSING:
                        continue
                    raise KafkaException(message.error())
                record = Record(message.key(), message.value(), tuple(message.headers() or ()), message.timestamp()[1])
                self.read[message.partition()].append(record)
            return all({r.headers[0] for r in self.read[p]} >= keys[p] for p in keys)
        until("every record at the target", complete)

    def compare(self, wanted, again_allowed):
        """Raises unless the copies are what is wanted: the same records in order, apart from repetitions."""
        again = 0
        for partition, records in wanted.items():
            got, seen = [], set()
            for record in self.read[partition]:
                if record.headers[0] in seen:
                    again += 1
                    continue
                seen.add(record.headers[0])
                got.append(record)
            if len(got) != len(records):
                raise AssertionError(f"partition {partition}: {len(got)} records, sent {len(records)}")
            for n, (want, have) in enumerate(zip(records, got)):
                same(want, have, f"{MIRRORED}-{partition}, record {n}")
        if again and not again_allowed:
            raise AssertionError(f"{again} records are there twice though nothing had failed")
        return again


class Run:
    """The source, what was sent to it, and the mirror."""

    def __init__(self, work):
        self.source = Broker(Target.from_env("kafka"), work, name="source")
        self.mirror = mirror_maker(self.source.bootstrap, work)
        self.sent = {p: [] for p in range(PARTITIONS)}
        self.count = 0

    def send(self, count):
        """Sends further records to the source; the first header of each says which it is."""
        producer = Producer({"bootstrap.servers": self.source.bootstrap, "acks": "all", "enable.idempotence": True})
        for i in range(self.count, self.count + count):
            plain = sample(i)
            record = Record(plain.key, plain.value, (("number", b"%d" % i), *plain.headers), plain.timestamp_ms)
            self.sent[i % PARTITIONS].append(record)
            producer.produce(TOPIC, value=record.value, key=record.key, partition=i % PARTITIONS,
                             headers=list(record.headers), timestamp=record.timestamp_ms)
        if producer.flush(TIMEOUT_S):
            raise TimeoutError("the source does not acknowledge")
        self.count += count

    def ends(self):
        """How many records each partition of the source has."""
        return {p: len(records) for p, records in self.sent.items()}

    def commit(self, group, offsets):
        """Commits for a group at the source."""
        member = consumer(self.source.bootstrap, group)
        wanted = [TopicPartition(TOPIC, p, offset) for p, offset in offsets.items()]

        def committed():
            try:
                return all(answer.error is None for answer in member.commit(offsets=wanted, asynchronous=False))
            except KafkaException as error:
                if error.args[0].code() in COORDINATOR_PASSING:
                    return False  # the first commit of all makes the topic of the offsets
                raise
        until(f"the commit of {group}", committed)
        member.close()

    def prepare(self):
        """The source as it is before anything is mirrored."""
        self.source.start()
        create(self.source.bootstrap, TOPIC, PARTITIONS, SETTINGS)
        self.send(300)
        self.commit(DONE, self.ends())
        self.commit(HALF, {p: end // 2 for p, end in self.ends().items()})


def translated(group):
    """The committed offsets of a group at the target, by partition; absent where there is none."""
    reader = consumer(TARGET, group)
    found = reader.committed([TopicPartition(MIRRORED, p) for p in range(PARTITIONS)], TIMEOUT_S)
    reader.close()
    return {place.partition: place.offset for place in found if place.offset >= 0}


def topic_at_target(name=MIRRORED):
    """A mirrored topic once it is there."""
    return administrator(TARGET).list_topics(timeout=TIMEOUT_S).topics.get(name)


def checks(run, copies, report):
    """All checks; each begins where the one before it ended."""
    with report.check("topics"):
        run.prepare()
        run.mirror.start()
        topic = until("the mirrored topic", topic_at_target)
        if len(topic.partitions) != PARTITIONS:
            raise AssertionError(f"{len(topic.partitions)} partitions")
        for key, value in SETTINGS.items():
            until(f"{key} at the target", lambda: setting(TARGET, MIRRORED, key) == value)
    if report.failed:
        return  # there is nothing to look at
    with report.check("records"):
        copies.read_until(run.sent)
        copies.compare(run.sent, False)
        run.send(300)
        copies.read_until(run.sent)
        copies.compare(run.sent, False)
    with report.check("offsets"):
        run.commit(DONE, run.ends())
        until("the offsets of the group that has read everything", lambda: translated(DONE) == run.ends())
        half = {p: end // 4 for p, end in run.ends().items()}
        found = until("the offsets of the other group", lambda: translated(HALF))
        if any(not 0 <= found.get(p, 0) <= half[p] for p in half):
            raise AssertionError(f"translated to {found}, the group had read up to {half}")
        resume(found, run.ends())
    with report.check("target-restarts"):
        for word in ("restart", "crash"):
            run.send(150)
            log(f"{word}: ready after {control.ask(word):.2f} s")
        run.send(150)
        copies.read_until(run.sent)
        report.figure("mirrored-again", copies.compare(run.sent, True), "records")
    with report.check("mirror-restarts"):
        run.mirror.stop()
        run.send(150)
        create(run.source.bootstrap, "mirror-b", 1, {})
        run.mirror.start()
        copies.read_until(run.sent)
        copies.compare(run.sent, True)
        until("the second topic", lambda: topic_at_target("source.mirror-b"))


def resume(start, ends):
    """A member of the group at the target begins exactly at the translated offsets and reads all the rest."""
    member = consumer(TARGET, HALF)
    member.subscribe([MIRRORED])
    first, last = {}, {}

    def complete():
        for message in member.consume(500, 0.2):
            if not message.error():
                first.setdefault(message.partition(), message.offset())
                last[message.partition()] = message.offset() + 1
        return last == ends
    until("the rest for the group at the target", complete)
    member.close()
    if first != {p: start.get(p, 0) for p in ends}:
        raise AssertionError(f"the group began at {first}, its offsets are {start}")


def main():
    exit_on_sigterm()
    report = Report()
    run = Run(os.environ["OTTLA_WORK"])
    checks(run, Copies(), report)
    if report.failed:
        print(f"--- end of {run.mirror.log.name}\n{run.mirror.log_tail()}", flush=True)
    run.mirror.kill()
    run.source.kill()
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
