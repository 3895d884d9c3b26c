"""SIGKILL under load: whatever was acknowledged is there afterwards, once where idempotence promises it, in order.

Three witnesses run through all kills: an idempotent producer (acks=all), a plain one (acks=1, one request in flight),
and a group that only commits. Afterwards every partition is read from its first offset to its end. Then much more is
stored, and the time from start to ready is measured with it.

A real Kafka may fail here: after a crash it answers NOT_LEADER for a while, whereupon librdkafka reorders what the
plain producer repeats, and repeats under a new epoch what the idempotent one had in flight.
"""

import argparse
import os
import random
import statistics
import sys
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from harness import load
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log

PARTITIONS = 6
LENGTH = 300
READY_LIMIT_S = 1.0
# What a client without retries of its own meets while it finds its coordinator again.
PASSING = (KafkaError._TRANSPORT, KafkaError._WAIT_COORD, KafkaError._TIMED_OUT, KafkaError._ALL_BROKERS_DOWN,
           KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
           KafkaError.REQUEST_TIMED_OUT)


class Commits:
    """A group that only commits: the last offset that the broker said yes to, per partition."""

    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": "only-commits",
                                  "enable.auto.commit": False, "reconnect.backoff.max.ms": 200})
        self.accepted = {}

    def _patiently(self, call):
        """Repeats a call through the time in which the coordinator is looked for."""
        deadline = time.monotonic() + load.TIMEOUT_S
        while True:
            try:
                return call()
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    raise
                self.consumer.poll(0.1)  # lets librdkafka work; there is nothing to read

    def commit(self, offset):
        """Commits one offset for all partitions and notes it once it is acknowledged."""
        wanted = [TopicPartition(self.topic, p, offset) for p in range(PARTITIONS)]
        for answer in self._patiently(lambda: self.consumer.commit(offsets=wanted, asynchronous=False)):
            if answer.error:
                raise KafkaException(answer.error)
        self.accepted = {p: offset for p in range(PARTITIONS)}

    def check(self):
        """Raises if a committed offset is not what was acknowledged."""
        wanted = [TopicPartition(self.topic, p) for p in range(PARTITIONS)]
        for answer in self._patiently(lambda: self.consumer.committed(wanted, load.TIMEOUT_S)):
            if answer.offset != self.accepted.get(answer.partition, answer.offset):
                raise AssertionError(f"partition {answer.partition}: committed {answer.offset}, "
                                     f"acknowledged {self.accepted[answer.partition]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50, help="how many kills")
    parser.add_argument("--stored", type=load.size_bytes, default=load.size_bytes("5G"), help="bytes stored at the end")
    parser.add_argument("--seed", type=int, default=1, help="decides after how many acknowledgements each kill comes")
    options = parser.parse_args()
    exit_on_sigterm()
    report = Report()
    broker = Broker(Target.from_env(), os.environ["OTTLA_WORK"])
    with broker:
        load.create_topic(broker.bootstrap, "idempotent", PARTITIONS)
        load.create_topic(broker.bootstrap, "plain", PARTITIONS)
        with report.check("kills"):
            ledgers = kill_under_load(broker, options, report)
        if not report.failed:
            for ledger, exactly_once in zip(ledgers, (True, False)):
                with report.check(f"acknowledged-{ledger.topic}"):
                    load.verify(broker.bootstrap, ledger, exactly_once)
                report.figure(f"acknowledged-{ledger.topic}", ledger.acked_total, "records")
        with report.check("ready-with-data-stored"):
            ready_with_data(broker, options.stored, report)
        with report.check("panics"):
            if broker.panics:
                raise AssertionError(f"{broker.panics} panics in the broker's log")
    return report.exit_code()


def kill_under_load(broker, options, report):
    """The rounds. Returns the ledgers of both producers, stopped."""
    chance = random.Random(options.seed)
    idempotent = load.Ledger(broker.bootstrap, "idempotent", PARTITIONS, LENGTH,
                             {"acks": "all", "enable.idempotence": True, "compression.type": "lz4"})
    plain = load.Ledger(broker.bootstrap, "plain", PARTITIONS, LENGTH,
                        {"acks": "1", "enable.idempotence": False, "max.in.flight.requests.per.connection": 1})
    commits = Commits(broker.bootstrap, "idempotent")
    idempotent.start()
    plain.start()
    starts = []
    for number in range(options.rounds):
        # Each kill comes after some further acknowledgements, so that every round has something to lose.
        for ledger in (idempotent, plain):
            ledger.await_acks(ledger.acked_total + chance.randrange(50, 3000))
        commits.commit(number + 1)
        idempotent.await_acks(idempotent.acked_total + chance.randrange(1, 200))
        broker.kill()
        starts.append(broker.start())
        commits.check()
        if (number + 1) % 10 == 0:
            log(f"{number + 1} kills, {idempotent.acked_total + plain.acked_total} records acknowledged")
    idempotent.stop()
    plain.stop()
    commits.consumer.close()
    report.figure("kills", options.rounds, "kills")
    report.figure("ready-after-kill-median", round(statistics.median(starts), 3), "s")
    report.figure("ready-after-kill-worst", round(max(starts), 3), "s")
    return idempotent, plain


def ready_with_data(broker, stored, report):
    """Stores much and measures the way from start to ready, after a clean end and after SIGKILL."""
    load.create_topic(broker.bootstrap, "stored", PARTITIONS)
    count = load.fill(broker.bootstrap, "stored", PARTITIONS, stored, 10000)
    broker.kill()
    after_kill = broker.start()
    broker.stop()
    after_stop = broker.start()
    ends = [end for _, end in load.watermarks(broker.bootstrap, "stored", PARTITIONS)]
    report.figure("stored", round(broker.disk_bytes() / 1e9, 2), "GB")
    report.figure("ready-with-data-after-kill", round(after_kill, 3), "s")
    report.figure("ready-with-data-after-stop", round(after_stop, 3), "s")
    if ends != [count] * PARTITIONS:
        raise AssertionError(f"end offsets are {ends}, expected {count} each")
    if broker.target.kind == "ottla" and max(after_kill, after_stop) > READY_LIMIT_S:
        raise AssertionError(f"ready after {max(after_kill, after_stop):.2f} s, wanted under {READY_LIMIT_S} s")


if __name__ == "__main__":
    sys.exit(main())
