"""Nothing at all, and processes that die, stand still and come back: scenarios 1, 2, 3, 4, 9, 10."""

import random
import signal
import threading


def calm(bed, report):
    """1: nothing happens. Fails if anything does: an ISR that shrinks, a partition or the quorum led by another."""
    bed.begin()
    before = bed.quorum(), [(part.leader, part.isrs) for part in bed.parts()]
    bed.ledger.await_acks(bed.ledger.acked_total + 5000)
    if before != (bed.quorum(), [(part.leader, part.isrs) for part in bed.parts()]):
        raise AssertionError("something changed although nothing happened")
    report.figure("calm-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def controller_killed(bed, report):
    """2: the active controller dies. Fails if no other takes over with a later epoch, or asks are lost with it."""
    bed.begin()
    controller, epoch = bed.quorum()
    controller.kill()
    report.figure("controller-killed-successor", round(bed.new_controller(controller, epoch), 2), "s")
    bed.led_by(bed.others(controller))
    bed.serves()
    report.figure("controller-killed-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    bed.create("decided-by-the-next", 3, replicas=2)
    controller.start()


def leader_killed_and_back(bed, report):
    """3: a broker dies and is back before its session has ended. Fails if its old life leads, or it stays outside."""
    bed.begin()
    controller, _ = bed.quorum()
    leader = next(node for node in bed.nodes if node is not controller)
    leader.kill()
    leader.start()
    bed.serves()
    report.figure("leader-killed-and-back-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def all_killed(bed, report):
    """4: all die at the same moment and start again, one by one. Fails if a sync was missing anywhere."""
    bed.begin()
    for node in bed.nodes:
        node.signal(signal.SIGKILL)
    bed.cluster.kill()
    order = random.Random(4).sample(bed.nodes, len(bed.nodes))
    # Two are a quorum; the first alone is not ready, so it is not waited for.
    first = threading.Thread(target=order[0].start)
    first.start()
    order[1].start()
    first.join()
    bed.led_by(order[:2])
    bed.serves()
    report.figure("all-killed-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    order[2].start()


def paused(bed, node):
    """A node stands still until others do all its work."""
    node.signal(signal.SIGSTOP)
    bed.unwell.add(node)


def resumed(bed, node):
    """It goes on, as if no time had passed."""
    node.signal(signal.SIGCONT)
    bed.unwell.discard(node)


def leader_paused(bed, report):
    """9: a leader stands still until others lead. Fails if it acknowledges or serves what is not theirs later."""
    bed.begin()
    controller, _ = bed.quorum()
    leader = next(node for node in bed.nodes if node is not controller)
    paused(bed, leader)
    bed.led_by(bed.others(leader))
    bed.serves()
    report.figure("leader-paused-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    resumed(bed, leader)
    bed.serves()


def controller_paused(bed, report):
    """10: the controller stands still until there is another. Fails if both decide, or the old one does not follow."""
    bed.begin()
    controller, epoch = bed.quorum()
    paused(bed, controller)
    report.figure("controller-paused-successor", round(bed.new_controller(controller, epoch), 2), "s")
    bed.led_by(bed.others(controller))
    bed.create("meanwhile", 3, replicas=2)
    bed.serves()
    successor, _ = bed.quorum()
    resumed(bed, controller)
    if bed.cluster.target.kind == "ottla":
        bed.until("the old controller follows", lambda: _follows(bed, controller, successor))


def _follows(bed, node, leader):
    active = bed.metric(node, "kafka_controller_kafkacontroller_activecontrollercount")
    return active == 0 and bed.metric(node, "kafka_server_raftmetrics_current_leader") == leader.number


SCENARIOS = [
    ("calm", calm, {}),
    ("controller-killed", controller_killed, {}),
    ("leader-killed-and-back", leader_killed_and_back, {}),
    ("all-killed", all_killed, {}),
    ("leader-paused", leader_paused, {}),
    ("controller-paused", controller_paused, {}),
]
