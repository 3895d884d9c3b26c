"""Everything at once: scenario 40. Faults drawn from a seed, several at a time, a new mix every few seconds."""

import os
import random
import signal
import threading
import time

import asks
from bed import PARTITIONS, TOPIC
from groups import Group
from harness.report import log
from links import Links, addresses, between
from shims import Shims

WINDOW_S = 6
# One window in four is without faults.
QUIET = 0.25
HEALS_WITHIN_S = 60


class Everything:
    """The network and the disks of a cluster, both of which can fail."""

    def __init__(self, cluster, work):
        self.links = Links(cluster, work)
        try:
            self.shims = Shims(cluster, work)
        except BaseException:
            self.links.close()
            raise

    def heal(self):
        """Nothing is wrong any more."""
        self.links.heal()
        self.shims.heal()

    def close(self):
        """Takes everything away."""
        self.links.close()


class Mix:
    """What is wrong at the moment, on at most one node's process at a time."""

    def __init__(self, bed, chance):
        self.bed, self.chance = bed, chance
        self.rules, self.stopped, self.dead, self.names = [], [], [], []

    def begin(self):
        """One to three faults."""
        if self.chance.random() < QUIET:
            self.names = ["nothing"]
            return
        faults = [self.kill, self.kill_controller, self.pause, self.isolate, self.part, self.lose, self.slow, self.move]
        chosen = self.chance.sample(faults, self.chance.randint(1, 3))
        self.names = [fault.__name__ for fault in chosen]
        for fault in chosen:
            fault(self.chance.choice(self.bed.nodes))
        self.bed.stage.links.rules(*self.rules)

    def end(self):
        """All of them are over, and every node runs."""
        self.bed.stage.heal()
        for node in self.stopped:
            node.signal(signal.SIGCONT)
        for node in self.dead:
            node.start()
        self.rules, self.stopped, self.dead = [], [], []

    def _is_free(self, node):
        return not self.stopped and not self.dead and node.alive()

    def kill(self, node):
        """2, 3: SIGKILL; back at the end of the window."""
        if self._is_free(node):
            node.kill()
            self.dead.append(node)

    def kill_controller(self, _):
        """2: of the active controller."""
        if not self.stopped and not self.dead:
            self.kill(self.bed.quorum()[0])

    def pause(self, node):
        """9: SIGSTOP."""
        if self._is_free(node):
            node.signal(signal.SIGSTOP)
            self.stopped.append(node)

    def isolate(self, node):
        """11: a node alone on one side."""
        self._cut(between(addresses(node), addresses(*self.bed.others(node))))

    def part(self, node):
        """13: two nodes."""
        self._cut(between(addresses(node), addresses(self.bed.others(node)[0])))

    def _cut(self, pairs):
        self.rules += [(one, other, 1.0, 0, 0) for pair in pairs for one, other in (pair, pair[::-1])]

    def lose(self, _):
        """16: everywhere."""
        self.rules += [(one, other, 0.1, 0.02, 0.1) for one, other in between(*[addresses(*self.bed.nodes)] * 2)]

    def slow(self, node):
        """25: its disk."""
        self.bed.stage.shims.slow(node, 0.3)

    def move(self, _):
        """17, 22: the order of replicas, and with it the leaders."""
        numbers = [node.number for node in self.bed.nodes]
        order = {p: self.chance.sample(numbers, 3) for p in range(PARTITIONS)}
        for node in self.bed.nodes:
            try:
                if node.alive() and node not in self.stopped:
                    asks.reassign(node, TOPIC, order)
                    asks.elect(node, asks.PREFERRED, TOPIC, range(PARTITIONS))
                    return
            except (OSError, asks.Refused):
                continue


def everything(bed, report):
    """40: fails as any of the others does, or if the cluster is not whole a minute after the last fault."""
    seconds, seed = float(os.environ.get("CHAOS_MIX_S", "60")), int(os.environ.get("CHAOS_SEED", "1"))
    bed.begin()
    group = Group(bed.cluster.bootstrap)
    group.join()
    group.join()
    group.goes_on(bed)
    mix, pause = Mix(bed, random.Random(seed)), threading.Event()
    until, windows = time.monotonic() + seconds, 0
    while time.monotonic() < until:
        mix.begin()
        log(f"mix {seed}, {windows}: {' '.join(mix.names)}")
        pause.wait(WINDOW_S)
        mix.end()
        windows += 1
    began = time.monotonic()
    bed.whole()
    bed.serves()
    group.goes_on(bed)
    group.stop()
    took = time.monotonic() - began
    report.figure("everything-windows", windows, "mixes")
    report.figure("everything-whole-after", round(took, 2), "s")
    report.figure("everything-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    if took > HEALS_WITHIN_S:
        raise AssertionError(f"whole again {took:.0f} s after the last fault")


SCENARIOS = [("everything", everything, {"prepare": Everything})]
