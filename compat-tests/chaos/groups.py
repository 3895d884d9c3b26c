"""A consumer group whose coordinator dies while it rebalances and while it commits: scenario 34."""

import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException

from bed import PARTITIONS, QUICK_CLIENT, TOPIC
from harness import load

GROUP = "group"
# What a commit meets while members and coordinators change: it is made again, or another member goes on from the last.
PASSING = (KafkaError._TRANSPORT, KafkaError._TIMED_OUT, KafkaError._WAIT_COORD, KafkaError._STATE,
           KafkaError._NO_OFFSET, KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
           KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID, KafkaError.REBALANCE_IN_PROGRESS,
           KafkaError.REQUEST_TIMED_OUT)


class Group:
    """Members that read and commit, and what was acknowledged to whom."""

    def __init__(self, bootstrap):
        self.bootstrap = bootstrap
        self.lock = threading.Lock()
        # The highest commit that was acknowledged, what each member owns, and what was read by any of them.
        self.accepted, self.owned, self.read = {}, {}, [set() for _ in range(PARTITIONS)]
        self.errors, self.commits = [], 0
        self.stopping = threading.Event()
        self.members = []

    def join(self):
        """One more member."""
        member = threading.Thread(target=self._member, args=(len(self.members),), daemon=True)
        self.members.append(member)
        member.start()

    def _member(self, number):
        try:
            consumer = Consumer({"bootstrap.servers": self.bootstrap, "group.id": GROUP, "enable.auto.commit": False,
                                 "auto.offset.reset": "earliest", "session.timeout.ms": 6000,
                                 "heartbeat.interval.ms": 500, **QUICK_CLIENT})
            consumer.subscribe([TOPIC], on_assign=lambda one, places: self._assigned(number, one, places),
                               on_revoke=lambda _, places: self._owns(number, ()),
                               on_lost=lambda _, places: self._owns(number, ()))
            while not self.stopping.is_set():
                messages = [one for one in consumer.consume(200, 0.2) if not one.error()]
                with self.lock:
                    for one in messages:
                        self.read[one.partition()].add(one.offset())
                if messages:
                    self._commit(consumer)
            self._owns(number, ())
            consumer.close()
        except Exception as error:  # told by whoever judges
            self.errors.append(error)

    def _owns(self, number, places):
        with self.lock:
            self.owned[number] = {place.partition for place in places}

    def _assigned(self, number, consumer, places):
        """What others were told is committed is what the next owner begins with."""
        with self.lock:
            before = dict(self.accepted)
        deadline = time.monotonic() + load.TIMEOUT_S
        while True:
            try:
                for place in consumer.committed(places, 5):
                    if place.offset < before.get(place.partition, place.offset):
                        self.errors.append(AssertionError(
                            f"partition {place.partition}: committed is {place.offset}, acknowledged before was "
                            f"{before[place.partition]}"))
                break
            except KafkaException as error:
                if error.args[0].code() not in PASSING or time.monotonic() > deadline:
                    self.errors.append(error)
                    break
        self._owns(number, places)

    def _commit(self, consumer):
        try:
            answers = consumer.commit(asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in PASSING:
                raise
            return
        with self.lock:
            for place in answers:
                if not place.error and place.offset >= 0:
                    self.accepted[place.partition] = max(self.accepted.get(place.partition, 0), place.offset)
            self.commits += 1

    def is_stable(self):
        """Every member owns something, and together all, each once."""
        with self.lock:
            sets = [self.owned.get(number, set()) for number in range(len(self.members))]
            return all(sets) and sorted(p for one in sets for p in one) == list(range(PARTITIONS))

    def goes_on(self, bed):
        """Waits until the group is stable and some more commits were acknowledged."""
        bed.until("the group is stable", self.is_stable)
        goal = self.commits + 10
        bed.until("commits go on", lambda: self.errors or self.commits >= goal)
        self.check()

    def check(self):
        """Raises what a member could not live with."""
        if self.errors:
            raise self.errors[0]

    def stop(self):
        """Ends all members."""
        self.stopping.set()
        for member in self.members:
            member.join(load.TIMEOUT_S)
        self.check()


def coordinator(bed):
    """The node that coordinates the group."""
    def known():
        client = load.admin(",".join(node.bootstrap for node in bed.well))
        found = client.describe_consumer_groups([GROUP], request_timeout=5)[GROUP].result(10)
        return bed.cluster.node(found.coordinator.id) if found.coordinator else None
    return bed.until("the group has a coordinator", known)


def coordinator_killed(bed, report):
    """34: it dies in the middle of a rebalance, the next one among commits. Fails if a committed offset goes back, a
    member stays outside, or a record is read by nobody. The classic protocol; the newer one is not served yet."""
    bed.begin()
    group = Group(bed.cluster.bootstrap)
    group.join()
    group.join()
    group.goes_on(bed)
    for joining in (True, False):
        node = coordinator(bed)
        began = time.monotonic()
        if joining:
            group.join()
        node.kill()
        bed.led_by(bed.others(node))
        group.goes_on(bed)
        name = f"coordinator-killed-{'rebalance' if joining else 'commit'}"
        report.figure(name, round(time.monotonic() - began, 2), "s")
        node.start()
        bed.whole()
    group.goes_on(bed)
    bed.ledger.stop()
    ends = [end for _, end in load.watermarks(bed.cluster.bootstrap, TOPIC, PARTITIONS)]
    bed.until("the group has read everything",
              lambda: group.errors or all(len(read) >= end for read, end in zip(group.read, ends)))
    group.stop()


SCENARIOS = [("coordinator-killed", coordinator_killed, {"settings": {"group.initial.rebalance.delay.ms": "500"}})]
