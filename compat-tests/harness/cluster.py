"""A cluster of broker processes on this machine: every node a voter and a broker, or as a test wants it.

Invariants are those of `harness.broker`: nodes are ready when they say so, only own processes are signalled, ports and
data stay over restarts.
"""

import threading

from harness.broker import Broker, Target, free_ports

CLUSTER_ID = "b3R0bGEtY2x1c3Rlci1pZA"
# Short enough that a test of failover is not mostly waiting; Kafka's own system tests shorten them likewise.
QUICK = {
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "3000",
    "replica.lag.time.max.ms": "3000",
    "offsets.topic.replication.factor": "3",
    "transaction.state.log.replication.factor": "3",
    "offsets.topic.num.partitions": "6",
    "default.replication.factor": "3",
    "min.insync.replicas": "2",
}


class Node(Broker):
    """One node of a cluster."""

    def __init__(self, target, work, number, cluster, settings):
        super().__init__(target, work, settings, name=f"node-{number}")
        self.number = number
        self.cluster = cluster
        (self.controller_port,) = free_ports(1)
        self.settings["node.id"] = str(number)


class Cluster:
    """Nodes 1 to `size`, each voter and broker."""

    def __init__(self, work, size=3, settings=None, target=None):
        self.target = ClusterTarget(target or Target.from_env())
        self.nodes = [Node(self.target, work, number, self, {**QUICK, **(settings or {})})
                      for number in range(1, size + 1)]

    @property
    def voters(self):
        """The value of controller.quorum.voters."""
        port = {"ottla": lambda node: node.controller_port, "kafka": lambda node: node.port + 1}[self.target.kind]
        return ",".join(f"{node.number}@127.0.0.1:{port(node)}" for node in self.nodes)

    @property
    def bootstrap(self):
        """Every node, for clients."""
        return ",".join(node.bootstrap for node in self.nodes)

    def node(self, number):
        """The node with this id."""
        return self.nodes[number - 1]

    def start(self):
        """Starts all nodes at once; a quorum needs most of them before any is ready."""
        self._all(lambda node: node.start())

    def stop(self):
        """Stops all nodes at once. Returns the seconds that each took."""
        import time
        took = {}

        def stop(node):
            began = time.monotonic()
            node.stop()
            took[node.number] = time.monotonic() - began

        self._all(stop, [node for node in self.nodes if node.process])
        return took

    def kill(self):
        """SIGKILL for whatever runs."""
        for node in self.nodes:
            node.kill()

    def _all(self, action, nodes=None):
        failures = []

        def run(node):
            try:
                action(node)
            except Exception as failure:  # told by whoever waits for all
                failures.append(failure)

        threads = [threading.Thread(target=run, args=(node,)) for node in nodes or self.nodes]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.kill()


class ClusterTarget(Target):
    """How a node is started: as `Target` does for one broker, with the voters of its cluster."""

    def __init__(self, target):
        super().__init__(target.kind, target.program)

    def command(self, broker):
        if self.kind == "kafka":
            from pathlib import Path
            settings = [f"{key}={value}" for key, value in broker.settings.items() if key != "node.id"]
            return [str(Path(self.program) / "run-kafka"), "--node", str(broker.number), "--port", str(broker.port),
                    "--dir", str(broker.data), "--voters", broker.cluster.voters, "--heap", "512m", *settings]
        broker.settings.update({
            "listeners": f"PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{broker.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "process.roles": broker.settings.get("process.roles", "broker,controller"),
            "controller.quorum.voters": broker.cluster.voters,
        })
        return ["env", f"CLUSTER_ID={CLUSTER_ID}", *super().command(broker)]
