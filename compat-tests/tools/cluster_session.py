"""The tools against three nodes: a `Session` whose nodes have names in the output, and can be stopped one by one.

Both clusters are founded alike: voters that may change (`kafka-storage format --initial-controllers`), with the same
ids of directories, two data directories in each node, leaders that only move when they must.
"""

import os
import re
import subprocess
import threading
from contextlib import contextmanager

from harness.broker import Target
from harness.cluster import CLUSTER_ID, Cluster, ClusterTarget
from session import Session

# The directory of the metadata of each node, as 22 characters of base64url.
DIRECTORY_IDS = {1: "b3R0bGEtZGlzay1vZi1vbg", 2: "b3R0bGEtZGlzay1vZi10dw", 3: "b3R0bGEtZGlzay1vZi10aA"}
SETTINGS = {
    # Leaders are where the cases put them; and what is created without a word of it has one copy, as with one node.
    "auto.leader.rebalance.enable": "false",
    "default.replication.factor": "1",
    "min.insync.replicas": "1",
    "offsets.topic.num.partitions": "3",
    "group.initial.rebalance.delay.ms": "0",
}


class FoundedTarget(ClusterTarget):
    """Nodes whose voters are written when they are formatted, and two data directories in each."""

    def command(self, broker):
        cluster = broker.cluster
        voters = ",".join(f"{one}:{DIRECTORY_IDS[number]}" for number, one in enumerate(cluster.voters.split(","), 1))
        broker.settings["log.dirs"] = ",".join(disk(broker, index) for index in (1, 2))
        if self.kind == "kafka":
            command = super().command(broker)
            command[command.index("--voters") + 1] = voters
            return command
        listeners = f"PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{broker.controller_port}"
        servers = ",".join(f"127.0.0.1:{node.controller_port}" for node in cluster.nodes)
        properties = {"process.roles": "broker,controller", "controller.quorum.bootstrap.servers": servers,
                      "listeners": listeners, "controller.listener.names": "CONTROLLER",
                      "ottla.metrics.listener": f"127.0.0.1:{broker.second_port}", **broker.settings}
        broker.data.mkdir(parents=True, exist_ok=True)
        path = properties_file(broker)
        path.write_text("".join(f"{key}={value}\n" for key, value in properties.items()))
        subprocess.run([self.program, "storage", "format", "--ignore-formatted", "--cluster-id", CLUSTER_ID, "--config",
                        str(path), "--initial-controllers", voters], check=True, stdout=subprocess.DEVNULL)
        return [self.program, "--config", str(path)]


def disk(node, index):
    """One of the two data directories of a node."""
    return str(node.data / f"disk-{index}")


def properties_file(node):
    """What a node was started with, as `add-controller` reads it."""
    return node.data / "server.properties"


class ClusterSession(Session):
    """The tools against a cluster of three."""

    def __init__(self, kind, work, scripts):
        super().__init__(kind, work, scripts)
        target = FoundedTarget(Target.from_env(kind))
        self.cluster = Cluster(self.work.parent / kind, settings=SETTINGS, target=target)
        # The constructor makes an ordinary target of whatever it is given.
        self.cluster.target = target
        for node in self.cluster.nodes:
            node.target = target
        self.asked = threading.local()

    def open(self):
        self.work.mkdir(parents=True, exist_ok=True)
        self.cluster.start()

    def close(self):
        # Stopped at once the last Kafka would wait for a quorum that is gone.
        self.cluster.kill()

    @contextmanager
    def through(self, *numbers, controllers=False):
        """Within the block the tools are told of these nodes only, or of their controllers."""
        self.asked.address = self._address(numbers, controllers)
        try:
            yield
        finally:
            self.asked.address = None

    def _address(self, numbers, controllers):
        nodes = [self.cluster.node(number) for number in numbers or (1, 2, 3)]
        if controllers:
            return "--bootstrap-controller", ",".join(f"127.0.0.1:{node.controller_port}" for node in nodes)
        return "--bootstrap-server", ",".join(node.bootstrap for node in nodes)

    def _command(self, name, args):
        option, value = getattr(self.asked, "address", None) or self._address((), False)
        if name == "kafka-replica-verification":
            option = "--broker-list"
        return [str(self.tool), *name.split(), option, value, *args]

    def run(self, name, *args, stdin=None):
        code, out, err = super().run(name, *args, stdin=stdin)
        return code, self.named(out), self.named(err)

    def named(self, text):
        """What a tool printed, with the nodes' names in the place of ports, paths and ids."""
        for node in self.cluster.nodes:
            for port, name in ((node.port, "node"), (node.controller_port, "controller")):
                text = text.replace(f"127.0.0.1:{port}", f"{name}-{node.number}")
                text = re.sub(rf"\b{port}\b", f"<port of {name}-{node.number}>", text)
            for index in (1, 2):
                text = text.replace(disk(node, index), f"<disk-{index} of node-{node.number}>")
            text = text.replace(DIRECTORY_IDS[node.number], f"<directory of {node.number}>")
        return text.replace(str(self.work) + os.sep, "")

    def disk(self, number, index):
        """A data directory of a node."""
        return disk(self.cluster.node(number), index)

    def properties(self, number):
        """The server.properties of a node."""
        return str(properties_file(self.cluster.node(number)))

    def directory_id(self, number):
        """The id of the directory in which a node keeps its metadata."""
        return DIRECTORY_IDS[number]

    def keep(self, label, lines):
        """Keeps what a tool in the background has printed."""
        self._keep(label, 0, self.named("\n".join(lines)), "", 0, (), False, None)

    def stop_node(self, number):
        """SIGTERM, and waits for the end."""
        self.cluster.node(number).stop()

    def kill_node(self, number):
        """SIGKILL."""
        self.cluster.node(number).kill()

    def start_node(self, number):
        """Starts a node again, and waits until it is ready."""
        self.cluster.node(number).start()
