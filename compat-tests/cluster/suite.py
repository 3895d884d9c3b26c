"""Three nodes under load: each is killed in turn, all are restarted one after the other, all are stopped at once.

Producers that keep books run through all of it: an idempotent one and one without idempotence, both with acks=all.
Afterwards every partition is read from its first offset to its end: whatever was acknowledged is there, once where
idempotence promises it. The times without an acknowledgement are figures; against Kafka the same suite gives its own.
"""

import argparse
import os
import random
import statistics
import sys
import time

from harness import load
from harness.broker import exit_on_sigterm
from harness.cluster import Cluster
from harness.report import Report, log

PARTITIONS = 6
LENGTH = 300
STOP_LIMIT_S = 10


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="how many kills")
    parser.add_argument("--seed", type=int, default=1, help="decides who is killed, and when")
    options = parser.parse_args()
    exit_on_sigterm()
    report = Report()
    cluster = Cluster(os.environ["OTTLA_WORK"])
    with cluster:
        for topic in ("idempotent", "plain"):
            load.create_topic(cluster.bootstrap, topic, PARTITIONS, replicas=3)
        idempotent = load.Ledger(cluster.bootstrap, "idempotent", PARTITIONS, LENGTH,
                                 {"acks": "all", "enable.idempotence": True}, pause_s=0.001)
        plain = load.Ledger(cluster.bootstrap, "plain", PARTITIONS, LENGTH,
                            {"acks": "all", "enable.idempotence": False,
                             "max.in.flight.requests.per.connection": 1}, pause_s=0.001)
        with report.check("settings-of-every-broker"):
            settings(cluster)
        idempotent.start()
        plain.start()
        with report.check("kill-one-after-the-other"):
            kills(cluster, idempotent, options, report)
        with report.check("rolling-restart"):
            rolling(cluster, idempotent, report)
        idempotent.stop()
        plain.stop()
        for ledger, exactly_once in ((idempotent, True), (plain, False)):
            with report.check(f"acknowledged-{ledger.topic}"):
                load.verify(cluster.bootstrap, ledger, exactly_once)
            report.figure(f"acknowledged-{ledger.topic}", ledger.acked_total, "records")
        with report.check("stop-all-at-once"):
            stop_all(cluster, report)
        with report.check("everything-is-back"):
            cluster.start()
            load.verify(cluster.bootstrap, idempotent, True)
        with report.check("panics"):
            panics = sum(node.panics for node in cluster.nodes)
            if panics:
                raise AssertionError(f"{panics} panics in the nodes' logs")
    return report.exit_code()


def settings(cluster):
    """Every node takes settings of its own and of topics, though only one of them is the controller."""
    for node in cluster.nodes:
        value = str(86400000 + node.number)
        load.alter_broker(cluster.bootstrap, node.number, {"log.retention.ms": value})
        load.alter_topic(node.bootstrap, "plain", {"retention.ms": value})
        # The change is decided when it is answered; the broker follows a moment later.
        deadline = time.monotonic() + load.TIMEOUT_S
        while load.broker_setting(cluster.bootstrap, node.number, "log.retention.ms") != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"node {node.number} never took its own log.retention.ms")


def kills(cluster, ledger, options, report):
    """SIGKILL for one node after the other; each comes back before the next goes."""
    chance = random.Random(options.seed)
    gaps, starts = [], []
    ledger.await_every_partition()
    for number in range(options.rounds):
        ledger.await_acks(ledger.acked_total + chance.randrange(50, 2000))
        ledger.take_longest_gap()
        node = cluster.nodes[number % len(cluster.nodes)]
        node.kill()
        # Whatever it led is led by others before it is back.
        ledger.await_every_partition()
        gaps.append(ledger.take_longest_gap())
        starts.append(node.start())
        ledger.await_every_partition()
        log(f"kill {number + 1}: node {node.number}, {gaps[-1]:.2f} s without an acknowledgement, "
            f"{ledger.acked_total} records acknowledged")
    report.figure("kills", options.rounds, "kills")
    report.figure("gap-after-kill-median", round(statistics.median(gaps), 2), "s")
    report.figure("gap-after-kill-worst", round(max(gaps), 2), "s")
    report.figure("start-of-a-killed-node-worst", round(max(starts), 2), "s")


def rolling(cluster, ledger, report):
    """SIGTERM for one node after the other, under load."""
    gaps, stops = [], []
    for node in cluster.nodes:
        ledger.await_every_partition()
        ledger.take_longest_gap()
        began = time.monotonic()
        node.stop()
        stops.append(time.monotonic() - began)
        ledger.await_every_partition()
        node.start()
        ledger.await_every_partition()
        gaps.append(ledger.take_longest_gap())
    report.figure("gap-of-a-restart-worst", round(max(gaps), 2), "s")
    report.figure("controlled-shutdown-worst", round(max(stops), 2), "s")


def stop_all(cluster, report):
    """SIGTERM for all at once: none waits for a quorum that is gone."""
    took = cluster.stop()
    report.figure("stop-of-all-worst", round(max(took.values()), 2), "s")
    if cluster.target.kind == "ottla" and max(took.values()) > STOP_LIMIT_S:
        raise AssertionError(f"a node took {max(took.values()):.1f} s to stop, wanted at most {STOP_LIMIT_S} s")


if __name__ == "__main__":
    sys.exit(main())
