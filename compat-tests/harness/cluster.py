"""A cluster of broker processes on this machine: every node a voter and a broker, or as a test wants it.

Invariants are those of `harness.broker`: nodes are ready when they say so, only own processes are signalled, ports and
data stay over restarts.
"""

import subprocess
import threading
import time
from pathlib import Path

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
        self.controller_host = self.host
        self.settings["node.id"] = str(number)


class Cluster:
    """Nodes 1 to `size`, each voter and broker, and behind them `brokers` more that do not vote."""

    def __init__(self, work, size=3, settings=None, target=None, brokers=0):
        self.target = ClusterTarget(target or Target.from_env())
        self.nodes = [Node(self.target, work, number, self, {**QUICK, **(settings or {})})
                      for number in range(1, size + brokers + 1)]
        self.voting = self.nodes[:size]
        for node in self.nodes[size:]:
            node.settings["process.roles"] = "broker"
        # Whether the voters are in the log of the metadata, where formatting put them, instead of the settings.
        self.dynamic = False
        self.exit_codes = {}

    @property
    def voters(self):
        """The value of controller.quorum.voters."""
        return ",".join(f"{node.number}@{node.controller_host}:{node.controller_port}" for node in self.voting)

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

    def start_missing(self):
        """Starts the nodes that do not run."""
        self._all(lambda node: node.start(), [node for node in self.nodes if not node.process])

    def format(self, node, *options):
        """Formats the directories of a node that does not run. Ottla only."""
        command = self.target.command(node)
        program = command.index(self.target.program) + 1
        subprocess.run([*command[:program], "storage", "format", "--cluster-id", CLUSTER_ID, *options,
                        *command[program:]], check=True, stdout=subprocess.DEVNULL)

    def stop(self):
        """Stops all nodes at once. Returns the seconds that each took."""
        took = {}

        def stop(node):
            began = time.monotonic()
            self.exit_codes[node.number] = node.stop()
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

        threads = [threading.Thread(target=run, args=(node,)) for node in self.nodes if nodes is None or node in nodes]
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


class RollingCluster:
    """A cluster that looks like one broker to the driver: what would stop or kill it meets one node after the other."""

    def __init__(self, work, size, through=1):
        # Clients' own checks want their topics as they were asked for, and one copy of a record is not acknowledged.
        self.cluster = Cluster(work, size)
        self.target = self.cluster.target
        # Some libraries are told of one address only; from there on they know all nodes.
        self.bootstrap = self.cluster.node(through).bootstrap
        self.turn = 0

    @property
    def panics(self):
        """Panics in any node's log."""
        return sum(node.panics for node in self.cluster.nodes)

    def start(self):
        """Starts whatever does not run. Returns the seconds until the last of it was ready."""
        began = time.monotonic()
        self.cluster.start_missing()
        return time.monotonic() - began

    def _next(self):
        self.turn += 1
        return self.cluster.nodes[(self.turn - 1) % len(self.cluster.nodes)]

    def stop(self):
        """Stops the node whose turn it is. Returns its exit code."""
        return self._next().stop()

    def kill_one(self):
        """SIGKILL for the node whose turn it is."""
        self._next().kill()

    def stop_all(self):
        """Stops every node at once. Returns the largest exit code."""
        if self.target.kind == "kafka":
            self.cluster.kill()  # the last would wait for a quorum that is gone
            return 0
        self.cluster.stop()
        return max(abs(code) for code in self.cluster.exit_codes.values())

    def kill(self):
        """SIGKILL for whatever runs."""
        self.cluster.kill()

    def alive(self):
        """False when a node ended without being asked to."""
        return all(node.alive() for node in self.cluster.nodes)

    def log_tail(self, lines=40):
        """The last lines of every node's log."""
        return "\n".join(f"-- node {node.number}\n{node.log_tail(lines)}" for node in self.cluster.nodes)


class ClusterTarget(Target):
    """How a node is started: as `Target` does for one broker, with the voters of its cluster."""

    def __init__(self, target):
        super().__init__(target.kind, target.program)

    def command(self, broker):
        if self.kind == "kafka":
            settings = [f"{key}={value}" for key, value in broker.settings.items() if key != "node.id"]
            return [str(Path(self.program) / "run-kafka"), "--node", str(broker.number), "--port", str(broker.port),
                    "--dir", str(broker.data), "--voters", broker.cluster.voters, "--heap", "512m", *settings]
        roles = broker.settings.setdefault("process.roles", "broker,controller")
        listeners = {"broker": f"PLAINTEXT://{broker.host}:{broker.port}",
                     "controller": f"CONTROLLER://{broker.controller_host}:{broker.controller_port}"}
        broker.settings.update({
            "listeners": ",".join(listeners[role] for role in roles.split(",")),
            "controller.listener.names": "CONTROLLER",
        })
        if broker.cluster.dynamic:
            places = [voter.split("@")[1] for voter in broker.cluster.voters.split(",")]
            broker.settings["controller.quorum.bootstrap.servers"] = ",".join(places)
        else:
            broker.settings["controller.quorum.voters"] = broker.cluster.voters
        return ["env", f"CLUSTER_ID={CLUSTER_ID}", *super().command(broker)]
