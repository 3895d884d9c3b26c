"""A cluster under load from the first acknowledgement to the verdict: what every scenario lies in.

A producer with idempotence and acks=all keeps books; a witness reads every partition all the while and keeps what it
read. The verdict: all nodes are back, every ISR is full, everything acknowledged is there once at its offset, and what
was read by anybody at any time is still what lies there. Invariant: `well` are the nodes that the scenario leaves
alone at the moment; only they are asked how things are.
"""

import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

import asks
from harness import load
from harness.cluster import Cluster
from harness.volume import ask as page

PARTITIONS = 6
LENGTH = 300
# Between two records of the producer: enough of them, and time left for the nodes.
PAUSE_S = 0.003
PATIENCE_S = 60
POLL_S = 0.1
TOPIC = "load"
# Clients that do not wait for minutes for a node that says nothing.
QUICK_CLIENT = {"socket.timeout.ms": 3000, "topic.metadata.refresh.interval.ms": 1000, "reconnect.backoff.max.ms": 200,
                "socket.connection.setup.timeout.ms": 1500}


def until(what, holds, limit_s=PATIENCE_S):
    """Waits until `holds()` is true and returns what it gave. Who cannot be asked at the moment is asked again."""
    pause = threading.Event()
    deadline = time.monotonic() + limit_s
    while True:
        try:
            found, why = holds(), None
        except (OSError, asks.Refused, KafkaException) as error:
            found, why = None, error
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not so within {limit_s} s: {what}" + (f" ({why})" if why else ""))
        pause.wait(POLL_S)


class Witness(threading.Thread):
    """A consumer of every partition, and what it read where."""

    def __init__(self, bootstrap, topic, partitions):
        super().__init__(daemon=True)
        self.consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": f"witness-{topic}", "check.crcs": True,
                                  "enable.auto.commit": False, **QUICK_CLIENT,
                                  # Whoever asks for an offset that is not there has read what was not committed.
                                  "auto.offset.reset": "error"})
        self.consumer.assign([TopicPartition(topic, partition, 0) for partition in range(partitions)])
        self.read = [{} for _ in range(partitions)]
        self.errors, self.refused = [], 0
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set():
            for message in self.consumer.consume(500, 0.2):
                if not message.error():
                    _, number = load.number_of(message.value())
                    self.read[message.partition()][message.offset()] = number
                elif message.error().code() == KafkaError._AUTO_OFFSET_RESET:
                    self.errors.append(str(message.error()))
                else:
                    self.refused += 1
        self.consumer.close()

    def total(self):
        """How many records it has read."""
        return sum(map(len, self.read))

    def stop(self):
        """Ends it."""
        self.stopping.set()
        self.join(PATIENCE_S)


class Bed:
    """The cluster and its load; a block of `with` runs them."""

    def __init__(self, work, settings=None, prepare=None, size=3, brokers=0, partitions=PARTITIONS):
        self.cluster = Cluster(work, size, settings, brokers=brokers)
        self.work, self.partitions = work, partitions
        self.unwell = set()
        self.marks = 0
        self.ledger = self.witness = None
        # What the nodes stand on, if it is something that can fail: their network, disks or clocks.
        self.stage = prepare(self.cluster, work) if prepare else None

    @property
    def nodes(self):
        """All nodes."""
        return self.cluster.nodes

    @property
    def well(self):
        """The nodes that can be asked."""
        return [node for node in self.nodes if node.process and node not in self.unwell]

    def others(self, *but):
        """All nodes but these."""
        return [node for node in self.nodes if node not in but]

    def __enter__(self):
        try:
            self.cluster.start()
            # Those that do not vote are ready before the controller has heard of them all.
            self.until("all brokers are there", lambda: len(self._ask(asks.metadata)[0]) == len(self.nodes))
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for thread in filter(None, (self.ledger, self.witness)):
            thread.stopping.set()
        if self.ledger:
            self.ledger.producer.purge()
        self.cluster.kill()
        if self.stage:
            self.stage.close()

    until = staticmethod(until)

    def begin(self, settings=None, replicas=3):
        """Creates the topic and begins the load; every partition has been acknowledged something."""
        self.create(TOPIC, self.partitions, settings, replicas)
        self.whole()
        self.ledger = load.Ledger(self.cluster.bootstrap, TOPIC, self.partitions, LENGTH,
                                  {"acks": "all", "enable.idempotence": True, **QUICK_CLIENT}, PAUSE_S)
        self.witness = Witness(self.cluster.bootstrap, TOPIC, self.partitions)
        self.ledger.start()
        self.witness.start()
        self.serves()
        self.ledger.take_longest_gap()

    def serves(self):
        """Waits until every partition has been acknowledged something from now on, and something was read."""
        self.ledger.await_every_partition()
        read = self.witness.total()
        self.until("the witness reads on", lambda: self.witness.total() > read)

    def create(self, topic, partitions, settings=None, replicas=3):
        """Creates a topic; asks again while the controller changes, for nobody knows what became of the first ask."""
        def created():
            try:
                load.create_topic(",".join(node.bootstrap for node in self.well), topic, partitions, settings, replicas)
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            return True
        self.until(f"{topic} is created", created)

    def _ask(self, ask):
        """What the first of the well nodes answers that can be asked."""
        for node in self.well[1:]:
            try:
                return ask(node)
            except (OSError, asks.Refused):
                continue
        return ask(self.well[0])

    def parts(self, topic=TOPIC):
        """The partitions of a topic: leader, replicas, isrs of each."""
        return self._ask(lambda node: asks.metadata(node)[1].get(topic, []))

    def leader(self, partition=0, topic=TOPIC):
        """The node that leads a partition."""
        return self.until(f"{topic}-{partition} has a leader", lambda: self._node(self.parts(topic)[partition].leader))

    def _node(self, number):
        return self.cluster.node(number) if number > 0 else None

    def led_by(self, nodes, topic=TOPIC):
        """Waits until each partition is led by one of these nodes."""
        numbers = [node.number for node in nodes]
        self.until(f"{topic} is led by {numbers}",
                   lambda: (parts := self.parts(topic)) and all(part.leader in numbers for part in parts))

    def quorum(self):
        """(node, epoch) of the active controller, once one of the well nodes knows it."""
        def known():
            for node in self.well:
                try:
                    number, epoch = asks.quorum(node)
                except (OSError, asks.Refused):
                    continue
                if number > 0:
                    return self.cluster.node(number), epoch
            return None
        return self.until("there is an active controller", known)

    def new_controller(self, old, epoch):
        """Waits until another node is the controller, in a later epoch. Returns the seconds that took."""
        began = time.monotonic()

        def another():
            node, now = self.quorum()
            return node is not old and now > epoch
        self.until(f"another than node {old.number} is the controller", another)
        return time.monotonic() - began

    def metric(self, node, name):
        """The sum of a metric's values over its labels. Ottla only."""
        lines = page(node, "/metrics").splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def whole(self):
        """Waits until every partition of every topic has a leader and all replicas in its ISR, as every node says."""
        # Who was cut off or stood still may speak of times gone by; a topic that it knows of is news.
        self.marks += 1
        mark = f"mark-{self.marks}"
        self.create(mark, 1)

        def holds():
            for node in self.nodes:
                _, topics = asks.metadata(node)
                if mark not in topics or any(part.leader < 1 or set(part.isrs) != set(part.replicas)
                                             for parts in topics.values() for part in parts):
                    return False
            return True
        self.until("every ISR is full", holds)

    def verdict(self):
        """Ends the load and judges it. Everybody must be well. Returns how many records were acknowledged."""
        assert not self.unwell and all(node.alive() for node in self.nodes), "somebody is not there at the end"
        self.whole()
        if not self.ledger.stopping.is_set():
            self.serves()
            self.ledger.stop()
        found = load.verify(self.cluster.bootstrap, self.ledger, True)
        self.witness.stop()
        for partition, read in enumerate(self.witness.read):
            for offset, number in read.items():
                places = found[partition].get(number, [])
                if offset not in places:
                    raise AssertionError(f"partition {partition}: record {number} was read at {offset}, "
                                         f"and is at {places}")
        if self.witness.errors:
            raise AssertionError(f"the witness: {self.witness.errors[0]}")
        panics = sum(node.panics for node in self.nodes)
        if panics:
            raise AssertionError(f"{panics} panics in the nodes' logs")
        return self.ledger.acked_total
