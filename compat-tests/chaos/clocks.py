"""The wall clock of one node jumps and runs too fast: scenario 36."""

import threading

from bed import TOPIC
from harness import load
from shims import Shims

HOUR_S = 3600
# Longer than the clock is wrong: nothing may expire early by more than that.
RETENTION_MS = 2 * HOUR_S * 1000
# So long each of them lasts: longer than sessions and lags.
LASTS_S = 5


def clock_jumps(bed, report):
    """36: the controller's, a leader too, is an hour ahead, an hour behind, then a tenth too fast. Fails if somebody is
    taken for silent, another becomes controller, an ISR shrinks or a record expires."""
    bed.begin({"retention.ms": str(RETENTION_MS)})
    controller, epoch = bed.quorum()
    wrong = [lambda: bed.stage.step(controller, HOUR_S), lambda: bed.stage.step(controller, -HOUR_S),
             lambda: bed.stage.run_fast(controller, 0.1)]
    pause = threading.Event()
    before = shrinks(bed)
    for begin in wrong:
        begin()
        pause.wait(LASTS_S)
        bed.serves()
        bed.stage.heal()
        bed.serves()
    if bed.quorum() != (controller, epoch):
        raise AssertionError("another controller was elected")
    if shrinks(bed) != before:
        raise AssertionError("an ISR shrank")
    if any(low for low, _ in load.watermarks(bed.cluster.bootstrap, TOPIC, bed.partitions)):
        raise AssertionError("records expired")
    report.figure("clock-jumps-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def shrinks(bed):
    """How often followers left an ISR."""
    if bed.cluster.target.kind != "ottla":
        return 0
    return sum(bed.metric(node, "kafka_server_replicamanager_isrshrinks_total") for node in bed.nodes)


SCENARIOS = [("clock-jumps", clock_jumps, {
    "prepare": Shims, "settings": {"log.retention.check.interval.ms": "500"}})]
