"""Nodes of an older build become nodes of this one, one by one: scenario 38. `OTTLA_OLD_BIN` is the older program."""

import os

import asks
from harness.report import Skipped

# The release whose levels the cluster begins with, and metadata.version as this build knows it.
BEFORE, NEWEST = "4.0", 30


class Older:
    """Starts every node with the older program, formatted with older levels."""

    def __init__(self, cluster, _work):
        self.cluster = cluster
        older = os.environ.get("OTTLA_OLD_BIN")
        if cluster.target.kind != "ottla" or not older:
            raise Skipped("OTTLA_OLD_BIN names no older program")
        self.newer, cluster.target.program = cluster.target.program, older
        for node in cluster.nodes:
            cluster.format(node, "--release-version", BEFORE)

    def close(self):
        """Nothing is left to be taken away."""


def upgraded(bed, report):
    """38: fails if old and new do not understand each other, or do not agree on what was decided."""
    bed.begin()
    bed.cluster.target.program = bed.stage.newer
    for node in bed.nodes:
        node.stop()
        bed.serves()
        node.start()
        bed.whole()
        bed.create(f"decided-with-{node.number}-of-three", 3)
    report.figure("upgraded-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    asks.raise_feature(bed.quorum()[0], "metadata.version", NEWEST)
    bed.whole()
    described = [asks.metadata(node)[1] for node in bed.nodes]
    if described[0] != described[1] or described[1] != described[2]:
        raise AssertionError("the nodes do not agree on the topics")


SCENARIOS = [("upgraded", upgraded, {"prepare": Older})]
