"""docs/operations.md, step by step, as an operator takes it: official tools, HTTP, SIGTERM, SIGKILL, empty disks.

Records are written before every step and counted after it: none may be missing. Every wait ends when its condition
holds, or fails at a deadline.
"""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from harness.broker import Target, exit_on_sigterm
from harness.cluster import CLUSTER_ID, Cluster, ClusterTarget, Node
from harness.report import Report, log

LIMIT_S = 120
# As a script of an operator would: a broker that is gone is told of at once, one that is back within a second.
SETTINGS = {"auto.leader.rebalance.enable": "true", "leader.imbalance.check.interval.seconds": "2",
            "leader.imbalance.per.broker.percentage": "0"}
TOPIC = "kept"


class BrokerOnly(ClusterTarget):
    """A node that has no part in the quorum."""

    def command(self, broker):
        settings = {**broker.settings, "process.roles": "broker", "controller.listener.names": "CONTROLLER",
                    "controller.quorum.voters": broker.cluster.voters,
                    "listeners": f"PLAINTEXT://127.0.0.1:{broker.port}", "log.dirs": str(broker.data),
                    "ottla.metrics.listener": f"127.0.0.1:{broker.second_port}"}
        overrides = [part for key, value in settings.items() for part in ("--override", f"{key}={value}")]
        return ["env", f"CLUSTER_ID={CLUSTER_ID}", self.program, *overrides]


class Operator:
    """Who runs the tools, and what was written so far."""

    def __init__(self, work, cluster):
        self.work = Path(work)
        self.cluster = cluster
        self.tool_path = Path(os.environ["OTTLA_KAFKA_SCRIPTS"]) / "tool"
        self.written = 0

    def tool(self, name, *args, stdin="", address=None, ok=True):
        """Runs an official tool. Returns what it printed. An exit code that is not 0 fails unless `ok` is False."""
        alive = [node.bootstrap for node in self.cluster.nodes if node.process]
        command = [str(self.tool_path), *name.split(), *(address or ("--bootstrap-server", ",".join(alive))), *args]
        result = subprocess.run(command, input=stdin.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                timeout=LIMIT_S)
        text = result.stdout.decode(errors="replace")
        if ok and result.returncode != 0:
            raise AssertionError(f"{name}: exit code {result.returncode}: {text[-600:]}")
        return text

    def until(self, what, look):
        """Repeats `look` until it gives something true; returns that."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            found = look()
            if found:
                return found
            if time.monotonic() > deadline:
                raise TimeoutError(f"{what}: not within {LIMIT_S} s")
            time.sleep(0.2)  # an operator's look, not a wait for a process

    def write(self, count=100):
        """Adds records with acks=all."""
        lines = "".join(f"{n}\n" for n in range(self.written, self.written + count))
        self.tool("kafka-console-producer", "--topic", TOPIC, "--request-required-acks", "all", stdin=lines)
        self.written += count

    def read_all(self):
        """Fails unless every record is there, once."""
        text = self.tool("kafka-console-consumer", "--topic", TOPIC, "--from-beginning", "--max-messages",
                         str(self.written), "--timeout-ms", "60000")
        values = sorted(int(line) for line in text.splitlines() if line.isdigit())
        if values != list(range(self.written)):
            raise AssertionError(f"{len(values)} of {self.written} records, {len(set(values))} different")

    def describe(self, *filters):
        """The lines of kafka-topics --describe for partitions."""
        text = self.tool("kafka-topics", "--describe", *filters)
        return [line.strip() for line in text.splitlines() if "Partition: " in line]

    def await_replicated(self):
        """Waits until nothing is under-replicated."""
        self.until("every replica in sync", lambda: not self.describe("--under-replicated-partitions"))

    def reassign(self, replicas, *more):
        """Executes a plan that puts the topic's partitions where `replicas` says, and waits until it is verified."""
        partitions = [{"topic": TOPIC, "partition": n, "replicas": where} for n, where in enumerate(replicas)]
        path = self.work / "plan.json"
        path.write_text(json.dumps({"version": 1, "partitions": partitions}))
        file = ("--reassignment-json-file", str(path))
        self.tool("kafka-reassign-partitions", *file, "--execute", *more)
        done = "is completed"

        def verified():
            text = self.tool("kafka-reassign-partitions", *file, "--verify")
            return text.count(done) == len(partitions)

        self.until("the reassignment", verified)


def http(node, path):
    """Status and body of a page of a node's metrics port."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{node.second_port}{path}", timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def metric(node, name):
    """Every series of a metric: {labels: value}."""
    lines = http(node, "/metrics")[1].splitlines()
    found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
    return {line.rsplit(" ", 1)[0][len(name):]: float(line.rsplit(" ", 1)[1]) for line in found}


def expect(what, holds, seen):
    """Fails with what was seen."""
    if not holds:
        raise AssertionError(f"{what}: {seen}")


def node_down(operator):
    """What is said while a node is down: who is missing, what lacks replicas, what has no leader and why."""
    cluster = operator.cluster
    operator.tool("kafka-topics", "--create", "--topic", "lone", "--replica-assignment", "3")
    operator.write()
    controllers = {node.number: metric(node, "kafka_controller_kafkacontroller_activecontrollercount")[""]
                   for node in cluster.nodes}
    expect("one controller is active", sorted(controllers.values()) == [0, 0, 1], controllers)
    leaders = {metric(node, "kafka_server_raftmetrics_current_leader")[""] for node in cluster.nodes}
    expect("all name the same leader", leaders == {next(n for n, active in controllers.items() if active)}, leaders)
    for node in cluster.nodes:
        expect("ready, and nothing else", http(node, "/health/ready") == (200, "ready\n"), http(node, "/health/ready"))
    cluster.node(3).kill()
    one = cluster.node(1)
    operator.until("node 3 is fenced", lambda: "broker 3 is fenced" in http(one, "/health/ready")[1])
    operator.until("the lone partition has no leader", lambda: "lone-0" in http(one, "/health/ready")[1])
    status, text = http(one, "/health/ready")
    log("; ".join(text.splitlines()))
    expect("still ready", status == 200, text)
    expect("why a partition is offline", "lone-0 has no leader: broker 3 is fenced" in text, text)
    expect("what is not in sync", "not in sync on broker 3" in text, text)
    series = metric(one, "ottla_partition_without_leader")
    expect("the metric names it", series == {'{topic="lone",partition="0",why="broker 3 is fenced"}': 1.0}, series)
    for name in ("kafka_server_replicamanager_underreplicatedpartitions", "ottla_replicas_out_of_sync"):
        expect(name, sum(metric(one, name).values()) > 0, metric(one, name))
    for name, value in (("fencedbrokercount", 1), ("activebrokercount", 2), ("offlinepartitionscount", 1)):
        seen = metric(one, f"kafka_controller_kafkacontroller_{name}")
        expect(name, seen == {"": value}, seen)
    expect("the tool says the same", len(operator.describe("--unavailable-partitions")) == 1, "no or other lines")
    fenced = operator.tool("kafka-cluster list-endpoints", "--include-fenced-brokers")
    expect("a fenced broker is listed", "fenced" in fenced, fenced)
    operator.write()
    cluster.node(3).start()
    operator.await_replicated()
    operator.until("all is well again", lambda: all(http(node, "/health/ready") == (200, "ready\n")
                                                    for node in cluster.nodes))
    operator.read_all()
    operator.tool("kafka-topics", "--delete", "--topic", "lone")


def add_and_drain(operator):
    """A fourth node, a broker only: it gets replicas, gives them back, leaves and is forgotten."""
    cluster = operator.cluster
    target = BrokerOnly(Target.from_env())
    fourth = Node(target, cluster.nodes[0].work, 4, cluster, dict(cluster.nodes[0].settings))
    fourth.settings.update({"node.id": "4"})
    fourth.target = target
    fourth.start()
    try:
        listed = operator.tool("kafka-cluster list-endpoints")
        expect("node 4 is listed", str(fourth.port) in listed, listed)
        operator.write()
        operator.reassign([[4, 1, 2], [1, 4, 3], [2, 3, 4]], "--throttle", "50000000")
        operator.write()
        expect("node 4 leads", any("Leader: 4" in line for line in operator.describe("--topic", TOPIC)),
               operator.describe("--topic", TOPIC))
        operator.reassign([[1, 2, 3], [2, 3, 1], [3, 1, 2]])
        expect("node 4 has nothing", not any("4" in line.split("Replicas: ")[1].split(" ")[0]
                                             for line in operator.describe()), operator.describe())
        expect("it ends cleanly", fourth.stop() == 0, fourth.log_tail(5))
        operator.until("it is fenced", lambda: "broker 4 is fenced" in http(cluster.node(1), "/health/ready")[1])
        operator.tool("kafka-cluster unregister", "--id", "4")
        operator.until("it is forgotten", lambda: http(cluster.node(1), "/health/ready") == (200, "ready\n"))
        operator.read_all()
    finally:
        fourth.kill()


def replace(operator):
    """A node's disk is lost: a new one in its place is formatted, and everything is copied from the others."""
    cluster, lost = operator.cluster, operator.cluster.node(2)
    operator.write()
    lost.kill()
    operator.write()
    empty_disk(lost)
    lost.cluster.format(lost)
    lost.start()
    operator.await_replicated()
    operator.write()
    # What the new disk holds must be enough alone with one other.
    cluster.node(3).kill()
    operator.write()
    operator.read_all()
    cluster.node(3).start()
    operator.await_replicated()
    quorum = operator.tool("kafka-metadata-quorum", "describe", "--replication")
    expect("three voters, nobody far behind", quorum.count("Follower") == 2 and quorum.count("Leader") == 1, quorum)


def empty_disk(node):
    """A new disk in the place of the old one."""
    shutil.rmtree(node.data)
    node.data.mkdir()


def unformatted(operator):
    """A node whose disk is empty and that nobody has formatted: it does not take part until its owner says so."""
    lost = operator.cluster.node(1)
    operator.write()
    lost.kill()
    empty_disk(lost)
    try:
        lost.start()
        raise AssertionError("it takes part although its earlier life may have voted")
    except RuntimeError as refusal:
        expect("it says why", "has heard of this controller before" in str(refusal), refusal)
    # The start has begun to use the disk.
    empty_disk(lost)
    lost.cluster.format(lost)
    lost.start()
    operator.await_replicated()
    operator.write()
    operator.read_all()


def rolling_restart(operator):
    """One node after the other is told to stop, and comes back before the next."""
    for node in operator.cluster.nodes:
        operator.write()
        expect("it ends cleanly", node.stop() == 0, node.log_tail(5))
        operator.write()
        node.start()
        operator.await_replicated()
        expect("it is ready", http(node, "/health/ready")[0] == 200, http(node, "/health/ready"))
    operator.read_all()


def stop_all(operator):
    """All nodes are told to stop at once, and come back with everything."""
    operator.write()
    took = operator.cluster.stop()
    expect("each ended within 10 s", max(took.values()) < 10, took)
    operator.cluster.start()
    operator.await_replicated()
    operator.read_all()


class OldRelease(ClusterTarget):
    """Nodes of a cluster that was formatted at the level of an earlier release."""

    def command(self, broker):
        command = super().command(broker)
        overrides = command[command.index(self.program) + 1:]
        subprocess.run([self.program, "storage", "format", "--ignore-formatted", "--cluster-id", CLUSTER_ID,
                        "--release-version", "4.1", *overrides], check=True, stdout=subprocess.DEVNULL)
        return command


def upgrade(work):
    """A cluster at the level of 4.1: all nodes run the new program, then the level is raised."""
    cluster = Cluster(Path(work) / "upgrade")
    target = OldRelease(Target.from_env())
    for node in cluster.nodes:
        node.target = target
    operator = Operator(work, cluster)
    with cluster:
        level = ("kafka-features", "describe")
        before = operator.tool(*level)
        expect("the old level", "FinalizedVersionLevel: 4.1-IV1" in before, before)
        operator.tool("kafka-topics", "--create", "--topic", TOPIC, "--replica-assignment", "1:2:3")
        operator.write()
        raised = ("kafka-features", "upgrade", "--feature", "metadata.version=30")
        dry = operator.tool(*raised, "--dry-run")
        expect("a dry run says what would be", "metadata.version" in dry and "30" in dry, dry)
        operator.tool(*raised)
        after = operator.tool(*level)
        expect("the new level", "FinalizedVersionLevel: 4.3-IV0" in after, after)
        for node in cluster.nodes:
            node.stop()
            node.start()
        operator.until("replicated", lambda: not operator.describe("--under-replicated-partitions"))
        operator.read_all()


def main():
    exit_on_sigterm()
    work = os.environ["OTTLA_WORK"]
    report = Report()
    chosen = sys.argv[1:]
    with Cluster(work, settings=SETTINGS) as cluster:
        operator = Operator(work, cluster)
        operator.tool("kafka-topics", "--create", "--topic", TOPIC, "--replica-assignment", "1:2:3,2:3:1,3:1:2")
        for step in (node_down, rolling_restart, add_and_drain, replace, unformatted, stop_all):
            if not chosen or step.__name__ in chosen:
                with report.check(step.__name__):
                    step(operator)
        report.figure("records", operator.written, "records")
    if not chosen or "upgrade" in chosen:
        with report.check("upgrade"):
            upgrade(work)
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
