"""A disk that is full is a state: producers wait, everything else goes on, and it ends by itself.

The data directory is a small file system of its own (tmpfs, and ext4 in a file), mounted by this program: it takes root.
Two producers run through all of it, an idempotent one (acks=all) and a plain one (acks=1). Room is taken from outside,
first up to the broker's reserve, then to the last byte, then up to a kill; last, records themselves fill the disk.
"""

import os
import sys
import threading
import time
from pathlib import Path

from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import NewTopic

from harness import load
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log
from harness.volume import PATIENCE_S, Volume, await_state

VOLUME_BYTES = 400 << 20
# What the broker keeps back by default: a twentieth of the volume.
RESERVE_BYTES = VOLUME_BYTES // 20
PARTITIONS = 3
LENGTH = 2000
# Acknowledgements that show that a producer is at work.
SOME = 500
# For so long the metadata store finds no room, over several of its attempts.
ROOM_PAUSE_S = 3
# Between two records of a producer.
PAUSE_S = 0.0005


def main():
    exit_on_sigterm()
    report = Report()
    for kind in ("tmpfs", "ext4"):
        with report.check(kind):
            with Volume(kind, Path(os.environ["OTTLA_WORK"]), VOLUME_BYTES) as volume:
                fill_and_free(kind, volume, report)
    return report.exit_code()


def fill_and_free(kind, volume, report):
    """Everything, on one file system."""
    settings = {"log.retention.check.interval.ms": "500", "log.dirs": str(volume.path / "data")}
    with Broker(Target.from_env(), os.environ["OTTLA_WORK"], settings, name=kind) as broker:
        for topic in ("idempotent", "plain"):
            load.create_topic(broker.bootstrap, topic, PARTITIONS)
        one_at_a_time = {"enable.idempotence": False, "max.in.flight.requests.per.connection": 1}
        # Not at full speed, so that they do not fill the disk themselves.
        ledgers = [load.Ledger(broker.bootstrap, "idempotent", PARTITIONS, LENGTH,
                               {"acks": "all", "enable.idempotence": True}, PAUSE_S),
                   load.Ledger(broker.bootstrap, "plain", PARTITIONS, LENGTH, {"acks": "1", **one_at_a_time}, PAUSE_S)]
        for ledger in ledgers:
            ledger.start()
        stages = [("reserve", volume, broker, ledgers, RESERVE_BYTES * 3 // 4),
                  ("last-byte", volume, broker, ledgers, 0)]
        for name, *stage in stages:
            with report.check(f"{kind}-{name}"):
                seconds = full_from_outside(*stage)
                report.figure(f"{kind}-{name}-resumed-after", round(seconds, 2), "s")
            volume.give_back()
        with report.check(f"{kind}-kill-while-full"):
            volume.leave(RESERVE_BYTES * 3 // 4)
            await_state(broker, full=True)
            broker.kill()
            broker.start()
            await_state(broker, full=True)
            volume.give_back()
            resumed(ledgers)
        for ledger in ledgers:
            ledger.stop()
        for ledger, exactly_once in zip(ledgers, (True, False)):
            with report.check(f"{kind}-acknowledged-{ledger.topic}"):
                load.verify(broker.bootstrap, ledger, exactly_once)
            report.figure(f"{kind}-acknowledged-{ledger.topic}", ledger.acked_total, "records")
        with report.check(f"{kind}-filled-by-records"):
            filled_by_records(broker, volume)
        with report.check(f"{kind}-panics"):
            if broker.panics or not broker.alive():
                raise AssertionError(f"{broker.panics} panics, alive: {broker.alive()}")


def full_from_outside(volume, broker, ledgers, left):
    """Takes all room but `left` bytes, looks at what goes on, gives it back. Returns how long producers then waited."""
    resumed(ledgers)
    volume.leave(left)
    await_state(broker, full=True)
    # What is not on its way is refused: no acknowledgement comes any more.
    await_quiet(ledgers)
    admin = load.admin(broker.bootstrap)
    pending = None
    if left:
        goes_on(broker, f"topic-{time.monotonic_ns()}")
    else:
        read_some(broker)
        # Too large for what may be left of a block.
        wanted = NewTopic("asked-while-full", 300, 1)
        pending = admin.create_topics([wanted], request_timeout=PATIENCE_S, operation_timeout=PATIENCE_S)
        threading.Event().wait(ROOM_PAUSE_S)
        if not broker.alive():
            raise AssertionError("the broker has ended")
    if ledgers[0].failed or ledgers[1].failed:
        raise AssertionError(f"a delivery failed for good: {(ledgers[0].failed + ledgers[1].failed)[0]}")
    volume.give_back()
    began = time.monotonic()
    resumed(ledgers)
    await_state(broker, full=False)
    took = time.monotonic() - began
    if pending:
        pending["asked-while-full"].result(PATIENCE_S)
    goes_on(broker, f"topic-{time.monotonic_ns()}")
    return took


def resumed(ledgers):
    """Waits until both producers are served."""
    for ledger in ledgers:
        ledger.await_acks(ledger.acked_total + SOME)


def await_quiet(ledgers):
    """Waits until no acknowledgement has come for two seconds."""
    pause = threading.Event()
    deadline = time.monotonic() + PATIENCE_S
    before = None
    while before != (before := [ledger.acked_total for ledger in ledgers]):
        if time.monotonic() > deadline:
            raise AssertionError("producers are served although the disk is full")
        pause.wait(2)


def goes_on(broker, topic):
    """What must go on: reading, commits, topics, deletions."""
    read_some(broker)
    consumer = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "commits"})
    place = TopicPartition("idempotent", 0, 7)
    consumer.commit(offsets=[place], asynchronous=False)
    if consumer.committed([place], load.TIMEOUT_S)[0].offset != 7:
        raise AssertionError("a committed offset is not there")
    consumer.close()
    load.create_topic(broker.bootstrap, topic, 1)
    admin = load.admin(broker.bootstrap)
    admin.delete_topics([topic])[topic].result(load.TIMEOUT_S)


def read_some(broker):
    """Reads the first records."""
    count = sum(1 for _ in load.scan(broker.bootstrap, "idempotent", [(0, SOME // PARTITIONS)] * PARTITIONS))
    if count < SOME // PARTITIONS * PARTITIONS:
        raise AssertionError(f"{count} records were read")


def filled_by_records(broker, volume):
    """Records fill the disk up to the reserve, not further; a topic is deleted, and there is room for the next."""
    load.create_topic(broker.bootstrap, "filling", PARTITIONS)
    ledger = load.Ledger(broker.bootstrap, "filling", PARTITIONS, 20000, {"acks": "all", "enable.idempotence": True})
    ledger.start()
    await_state(broker, full=True)
    await_quiet([ledger])
    if volume.free() < RESERVE_BYTES // 2:
        raise AssertionError(f"{volume.free()} bytes are left, half of the reserve is {RESERVE_BYTES // 2}")
    admin = load.admin(broker.bootstrap)
    for topic in ("idempotent", "plain"):
        admin.delete_topics([topic])[topic].result(load.TIMEOUT_S)
    await_state(broker, full=False)
    acknowledged = ledger.acked_total
    ledger.await_acks(acknowledged + SOME)
    log(f"{acknowledged} records filled the disk, {ledger.acked_total} were acknowledged in the end")
    ledger.stopping.set()
    ledger.producer.purge()


if __name__ == "__main__":
    sys.exit(main())
