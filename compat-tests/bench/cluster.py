"""Three nodes, each voter and broker, on this machine: what a replicated gigabyte costs, and how long a failover takes.

One cluster after the other, each alone. Every topic has three replicas and wants two in sync; producers use acks=all.
The first round is the warm-up and is not counted. Times of detection are Kafka's defaults for both.
"""

import dataclasses
import os
import shutil
import time

from bench import perf_tools, wire
from bench.load import GB, LEADERS_LIMIT_S, ROOM, need_room
from bench.progress import say
from bench.workloads import Workload
from harness.cluster import Cluster

NODES = 3
SETTINGS = {"broker.heartbeat.interval.ms": "2000", "broker.session.timeout.ms": "9000",
            "replica.lag.time.max.ms": "30000"}
SATURATED = Workload("replicated", "", 1024, 6)
STEADY = dataclasses.replace(SATURATED, rate=5_000_000)
STEADY_S = 20
FAILOVER_LIMIT_S = 120
TOPIC_PARTITIONS = 1000


def measure(contestants, options, work, results):
    """All of it. `options`: size (bytes each round), rounds, many (partitions), kafka_scripts."""
    for contestant in contestants:
        need_room(work, ROOM * NODES * options.size * (options.rounds + 1))
        say(f"three nodes: {contestant.title}")
        folder = work / f"cluster-{contestant.name}"
        cluster = Cluster(folder, NODES, {**contestant.settings, **SETTINGS}, contestant.target)
        with cluster:
            trial = Trial(contestant.name, cluster, options, results)
            trial.loads()
            trial.failovers()
            trial.many()
        shutil.rmtree(folder)


class Trial:
    """One cluster's turn. To the drivers it looks like a broker."""

    def __init__(self, name, cluster, options, results):
        self.name, self.cluster, self.options, self.results = name, cluster, options, results
        self.bootstrap = cluster.bootstrap
        for node in cluster.nodes:
            wire.insist(node, [wire.broker_ready(NODES)], LEADERS_LIMIT_S)

    def loads(self):
        """A saturating producer, then one at a fixed rate."""
        for number in range(self.options.rounds + 1):
            counts = number > 0
            cpu, run, gb = self._produce(f"saturated-{number}", SATURATED, self.options.size)
            say(f"round {number} {self.name}: {cpu / gb:.2f} CPU s/GB, {gb * 1000 / run.seconds:.0f} MB/s")
            if counts:
                self._add("produce_cpu", cpu / gb)
                self._add("produce_mb_per_s", gb * 1000 / run.seconds)
            _, run, _ = self._produce(f"steady-{number}", STEADY, STEADY.rate * STEADY_S)
            say(f"round {number} {self.name}: at 5 MB/s {run.latencies_ms}")
            if counts:
                for quantile, ms in run.latencies_ms.items():
                    self._add(f"steady_{quantile}", ms)
        self._add("memory_mb", sum(node.memory_bytes() for node in self.cluster.nodes) / 1e6)

    def _produce(self, topic, workload, size):
        os.sync()
        self._create(topic, workload.partitions)
        records = -(-size // workload.record_bytes)
        before = self._cpu_s()
        run = perf_tools.produce(self.options.kafka_scripts, self, topic, workload, records)
        return self._cpu_s() - before, run, records * workload.record_bytes / GB

    def _cpu_s(self):
        # A cluster is never quite still, so it is not waited for: the last flushes are left out, for both.
        return sum(node.cpu_s() for node in self.cluster.nodes)

    def _add(self, measure, value):
        self.results.add(f"cluster.{measure}", self.name, value)

    def _create(self, topic, partitions):
        first = self.cluster.nodes[0]
        wire.insist(first, [wire.create_topic(topic, partitions, NODES)], LEADERS_LIMIT_S)
        for node in self.cluster.nodes:
            wire.insist(node, [wire.topic_ready(topic, partitions)], LEADERS_LIMIT_S)

    def failovers(self):
        """Kills the leader of a partition and asks the others until one has accepted a record."""
        topic = "failover"
        self._create(topic, 1)
        for number in range(self.options.rounds):
            leader = self._leader(topic, self.cluster.nodes[0])
            wire.insist(leader, [wire.produce(topic, int(time.time() * 1000))], LEADERS_LIMIT_S)
            others = [node for node in self.cluster.nodes if node is not leader]
            leader.kill()
            began = time.monotonic()
            took = self._accepted_by(topic, others) - began
            self._add("failover_s", took)
            say(f"failover {number + 1} {self.name}: node {leader.number} killed, accepted after {took:.2f} s")
            leader.start()
            for node in self.cluster.nodes:
                wire.insist(node, [wire.broker_ready(NODES)], LEADERS_LIMIT_S)

    def _leader(self, topic, node):
        with wire.Connection(node.port) as connection:
            _, leaders = wire.partition_leaders(connection.ask(wire.metadata(topic)))
        return self.cluster.node(leaders[0])

    def _accepted_by(self, topic, nodes):
        deadline = time.monotonic() + FAILOVER_LIMIT_S
        step = wire.produce(topic, int(time.time() * 1000))
        while time.monotonic() < deadline:
            for node in nodes:
                try:
                    with wire.Connection(node.port) as connection:
                        if step.refusal(connection.ask(step.request)) is None:
                            return time.monotonic()
                except OSError:
                    pass  # closed while it changed its mind
            time.sleep(0.005)
        raise RuntimeError(f"{self.name}: no produce accepted {FAILOVER_LIMIT_S} s after the leader was killed")

    def many(self):
        """Many partitions: a node is killed, until the others name a living leader for each."""
        topics = [f"many-{number}" for number in range(self.options.many // TOPIC_PARTITIONS)]
        began = time.monotonic()
        for topic in topics:
            self._create(topic, TOPIC_PARTITIONS)
        self._add("many_created_s", time.monotonic() - began)
        victim, *others = reversed(self.cluster.nodes)
        victim.kill()
        began = time.monotonic()
        steps = [wire.topic_ready(topic, TOPIC_PARTITIONS, without=victim.number) for topic in topics]
        for node in others:
            wire.insist(node, steps, FAILOVER_LIMIT_S)
        took = time.monotonic() - began
        self._add("many_led_s", took)
        say(f"{self.name}: {self.options.many} partitions, all with leaders after {took:.2f} s")
