"""A consumer group of three that grows from one member to three and shrinks to one, under load.

Invariants checked: at each size the members own every partition once, in equal shares; every record that was produced
is read by some member. No wait is a pause: each ends when its condition holds, or fails at a deadline.
"""

import threading
import time

from harness.records import text

TOPIC = "group-load"
GROUP = "three"
PARTITIONS = 6
LIMIT_S = 90
PER_SIZE = 300


class Shared:
    """What the members have read and own, and the condition that announces every change of it."""

    def __init__(self):
        self.changed = threading.Condition()
        self.owned = {}
        self.read = {}
        self.again = 0
        self.errors = []

    def wait(self, what, holds):
        """Waits until `holds()`; fails with `what` at the deadline or when a member failed."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.errors or holds(), LIMIT_S):
                raise TimeoutError(f"{what}: owned {self.owned}, read {len(self.read)}")
            if self.errors:
                raise self.errors[0]

    def shares(self, sizes):
        """True when the members own all partitions, each once, in shares of these sizes."""
        sets = [set(s) for s in self.owned.values()]
        whole = set().union(*sets) if sets else set()
        return sorted(map(len, sets)) == sorted(sizes) and whole == set(range(PARTITIONS))


class Member(threading.Thread):
    """One consumer of the group: polls, notes, commits, until it is told to leave."""

    def __init__(self, client, name, shared):
        super().__init__(name=name, daemon=True)
        self.client, self.shared, self.leaving = client, shared, threading.Event()

    def run(self):
        try:
            consumer = self.client.consumer(GROUP)
            consumer.subscribe(TOPIC)
            while not self.leaving.is_set():
                self._note(consumer.poll(0.2), consumer.assignment())
                consumer.commit_if_possible()
            consumer.close()
        except Exception as error:  # handed to the waiting thread
            with self.shared.changed:
                self.shared.errors.append(error)
                self.shared.changed.notify_all()
        finally:
            with self.shared.changed:
                self.shared.owned.pop(self.name, None)
                self.shared.changed.notify_all()

    def _note(self, received, partitions):
        with self.shared.changed:
            self.shared.owned[self.name] = partitions
            for r in received:
                place = (r.partition, r.offset)
                self.shared.again += place in self.shared.read
                self.shared.read[place] = r.record.value
            self.shared.changed.notify_all()

    def leave(self):
        """Leaves the group cleanly and waits for the end."""
        self.leaving.set()
        self.join(LIMIT_S)


class Load(threading.Thread):
    """Produces numbers to all partitions until it is told to stop."""

    def __init__(self, client, shared):
        super().__init__(daemon=True)
        self.client, self.shared, self.stopping = client, shared, threading.Event()
        self.sent = 0

    def run(self):
        try:
            producer = self.client.producer("none", True)
            # The wait paces the load, so that the last member has something to read and the check stays short.
            while not self.stopping.wait(0.01):
                for _ in range(PARTITIONS):
                    producer.send(TOPIC, self.sent % PARTITIONS, text(str(self.sent)))
                    self.sent += 1
                producer.flush()
            producer.close()
        except Exception as error:
            with self.shared.changed:
                self.shared.errors.append(error)
                self.shared.changed.notify_all()

    def stop(self):
        """Stops and waits until everything sent is acknowledged."""
        self.stopping.set()
        self.join(LIMIT_S)


def grow_and_shrink(client, report):
    """The check itself."""
    client.create_topic(TOPIC, PARTITIONS, {})
    shared = Shared()
    load = Load(client, shared)
    load.start()
    members = []
    slowest = 0.0
    for sizes in ([6], [3, 3], [2, 2, 2]):
        member = Member(client, f"member-{len(members)}", shared)
        members.append(member)
        began = time.monotonic()
        member.start()
        shared.wait(f"growing to {sizes}", lambda: shared.shares(sizes))
        slowest = max(slowest, time.monotonic() - began)
        _await_progress(shared)
    for sizes in ([3, 3], [6]):
        began = time.monotonic()
        members.pop().leave()
        shared.wait(f"shrinking to {sizes}", lambda: shared.shares(sizes))
        slowest = max(slowest, time.monotonic() - began)
        _await_progress(shared)
    load.stop()
    shared.wait("reading the rest", lambda: len(shared.read) >= load.sent)
    members.pop().leave()
    if sorted(int(v) for v in shared.read.values()) != list(range(load.sent)):
        raise AssertionError("what was read is not what was sent")
    report.figure("rebalance-slowest", round(slowest, 2), "s")
    report.figure("group-records", load.sent, "records")
    report.figure("group-read-again", shared.again, "records")


def _await_progress(shared):
    """Waits until a good number of further records has been read by the group at its present size."""
    goal = len(shared.read) + PER_SIZE
    shared.wait("progress", lambda: len(shared.read) >= goal)
