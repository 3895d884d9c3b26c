"""Disks that lose their power, are replaced, slow, failing, full, or hold another byte: scenarios 5-7 and 25-29."""

import shutil
import signal

import asks
import shims
from bed import LENGTH, TOPIC, Witness
from harness import load
from harness.volume import Volume, await_state

VOLUME_BYTES = 400 << 20


class Volumes:
    """A file system of its own for each node, to be made before its nodes start. Takes root."""

    def __init__(self, cluster, work):
        self.volumes = {}
        try:
            for node in cluster.nodes:
                volume = Volume("ext4", work / f"disk-{node.number}", VOLUME_BYTES)
                self.volumes[node] = volume.__enter__()
                node.settings["log.dirs"] = str(volume.path / "data")
        except BaseException:
            self.close()
            raise

    def cut_power(self, *nodes):
        """What these nodes have not synced is lost, and so is their process."""
        for node in nodes:
            self.volumes[node].cut_power()
            node.signal(signal.SIGKILL)
        for node in nodes:
            node.kill()
            self.volumes[node].restore()

    def close(self):
        """Unmounts everything."""
        for volume in self.volumes.values():
            volume.__exit__()


def all_lose_power(bed, report):
    """5: all at once. Fails if anything was acknowledged, or decided, that one sync did not cover."""
    bed.begin()
    bed.stage.cut_power(*bed.nodes)
    bed.cluster.start()
    bed.serves()
    report.figure("all-lose-power-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def leader_loses_power(bed, report):
    """6: a leader, back before its session has ended. Fails if it leads again in its old epoch with a shorter log."""
    bed.begin()
    controller, _ = bed.quorum()
    leader = next(node for node in bed.nodes if node is not controller)
    bed.stage.cut_power(leader)
    leader.start()
    bed.serves()
    report.figure("leader-loses-power-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def wiped(bed, report):
    """7: the controller, a leader too, comes back with an empty disk. Fails if it counts as in sync, or votes as if it
    remembered."""
    bed.begin()
    controller, epoch = bed.quorum()
    controller.kill()
    bed.new_controller(controller, epoch)
    bed.led_by(bed.others(controller))
    replace(bed, controller)
    bed.serves()
    report.figure("wiped-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def replace(bed, node):
    """An empty disk for a node that does not run. Its votes are lost: it must refuse to cast them anew, until its owner
    has formatted the disk."""
    shutil.rmtree(node.data)
    if bed.cluster.target.kind == "ottla":
        try:
            node.start()
        except RuntimeError as refused:
            if "has heard of this controller before" not in str(refused):
                raise
        else:
            raise AssertionError("a voter without its memory votes")
        shutil.rmtree(node.data)  # a start that was refused has left its mark there
        bed.cluster.format(node)
    node.start()


def slow_follower(bed, report):
    """25: syncs of a node take 0.5 s, then 5 s longer. Fails if producers wait for it in the end, or it is fenced."""
    bed.begin()
    controller, _ = bed.quorum()
    slow = next(node for node in bed.nodes if node is not controller)
    bed.stage.slow(slow, 0.5)
    for _ in range(3):
        bed.serves()
    report.figure("slow-follower-gap-at-half-a-second", round(bed.ledger.take_longest_gap(), 2), "s")
    bed.stage.slow(slow, 5)
    follows = [part.id for part in bed.parts() if part.leader != slow.number]
    left = lambda: all(slow.number not in bed.parts()[number].isrs for number in follows)
    bed.until("it left the ISRs of the others", left)
    unfenced(bed, controller)
    bed.stage.heal()


def slow_controller(bed, report):
    """26: syncs of the controller, a leader too, take 5 s longer. Fails if it is fenced, or anything is lost."""
    bed.begin()
    controller, _ = bed.quorum()
    bed.stage.slow(controller, 5)
    for _ in range(2):
        bed.serves()
    report.figure("slow-controller-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    now, _ = bed.quorum()
    report.figure("slow-controller-stepped-down", int(now is not controller), "times")
    unfenced(bed, controller)
    bed.stage.heal()


def unfenced(bed, node):
    """Fails if a broker is fenced, as that node knows."""
    if bed.cluster.target.kind == "ottla" and bed.metric(node, "kafka_controller_kafkacontroller_fencedbrokercount"):
        raise AssertionError("a broker is fenced although its heartbeats need no disk")


def failing(bed, report, place):
    """27: one sync of the controller, a leader too, answers EIO. Fails if the node goes on writing there afterwards."""
    bed.begin()
    controller, epoch = bed.quorum()
    bed.stage.fail_once(controller, place)
    bed.unwell.add(controller)
    # Something for it to write: records are coming anyway.
    bed.create("written-meanwhile", 1, replicas=2)
    bed.until("a sync has failed", lambda: bed.stage.has_failed(controller))
    bed.led_by(bed.others(controller))
    bed.serves()
    report.figure(f"failing-gap-{place}", round(bed.ledger.take_longest_gap(), 2), "s")
    bed.until("it is in no ISR", lambda: all(controller.number not in part.isrs for part in bed.parts()))
    return controller, epoch


def failing_records(bed, report):
    """27: where the records are, its only directory for them: the node ends itself."""
    node, _ = failing(bed, report, shims.RECORDS)
    bed.until("the node ended by itself", lambda: not node.alive())
    node.kill()
    node.start()
    bed.unwell.clear()


def failing_metadata(bed, report):
    """27: where the metadata is: the node ends itself."""
    node, epoch = failing(bed, report, shims.METADATA)
    bed.until("the node ended by itself", lambda: not node.alive())
    bed.new_controller(node, epoch)
    node.kill()
    node.start()
    bed.unwell.clear()


def full(bed, report):
    """28: no byte is left on the disk of one node, then there is room again. Fails if others do not lead everything
    meanwhile, or the node is not part of it again by itself."""
    bed.begin()
    controller, _ = bed.quorum()
    node = next(node for node in bed.nodes if node is not controller)
    volume = bed.stage.volumes[node]
    volume.leave(0)
    await_state(node, full=True)
    bed.led_by(bed.others(node))
    bed.serves()
    bed.until("it is in no ISR", lambda: all(node.number not in part.isrs for part in bed.parts()))
    if not node.alive() or bed.ledger.failed:
        raise AssertionError("the node has ended, or a delivery failed for good")
    report.figure("full-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    volume.give_back()
    await_state(node, full=False)
    bed.serves()
    bed.until("it is in every ISR", lambda: all(node.number in part.isrs for part in bed.parts()))


def other_byte(bed, report):
    """29: a byte of a stored record is another one after a restart. Fails if it is given to anybody, or if a copy from
    the others does not mend it."""
    bed.begin()
    bed.ledger.await_acks(bed.ledger.acked_total + 1000)
    controller, _ = bed.quorum()
    node = next(node for node in bed.nodes if node is not controller)
    partition, number = 0, 40
    node.kill()
    flip(node, load.value(partition, number, LENGTH))
    try:
        node.start()
    except RuntimeError as refused:
        if "is damaged" not in str(refused):
            raise
        report.figure("other-byte-noticed-at-start", 1, "times")
    else:
        never_served(bed, node, partition, number)
        node.kill()
    bed.led_by(bed.others(node))
    replace(bed, node)


def never_served(bed, node, partition, number):
    """A node with a wrong byte leads a partition, which is read from its beginning."""
    bed.whole()
    order = [node.number, *[other.number for other in bed.others(node)]]
    asks.reassign(bed.quorum()[0], TOPIC, {partition: order})
    bed.until("it may lead", lambda: asks.reassigning(bed.quorum()[0]) == 0)
    asks.elect(bed.quorum()[0], asks.PREFERRED, TOPIC, [partition])
    bed.until("it leads", lambda: bed.parts()[partition].leader == node.number)
    reader = Witness(bed.cluster.bootstrap, TOPIC, 1)
    reader.start()
    bed.until("it is noticed", lambda: reader.refused or bed.metric(node, "ottla_corrupt_reads_total"))
    reader.stop()
    wrong = [at for at, found in reader.read[partition].items() if found == number]
    if wrong:
        raise AssertionError(f"records at {wrong} were read where the byte is wrong")


def flip(node, record):
    """Makes one byte of a stored record another."""
    for path in node.data.glob("**/*.values"):
        data = path.read_bytes()
        at = data.find(record)
        if at >= 0:
            with open(path, "r+b") as file:
                file.seek(at + len(record) // 2)
                file.write(bytes([data[at + len(record) // 2] ^ 0x40]))
            return
    raise AssertionError("the record is not stored where it was looked for")


SCENARIOS = [
    ("all-lose-power", all_lose_power, {"prepare": Volumes}),
    ("leader-loses-power", leader_loses_power, {"prepare": Volumes}),
    ("wiped", wiped, {}),
    ("slow-follower", slow_follower, {"prepare": shims.Shims}),
    ("slow-controller", slow_controller, {"prepare": shims.Shims}),
    ("failing-records", failing_records, {"prepare": shims.Shims}),
    ("failing-metadata", failing_metadata, {"prepare": shims.Shims}),
    ("full", full, {"prepare": Volumes}),
    ("other-byte", other_byte, {}),
]
