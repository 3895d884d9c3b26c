"""Links that are cut, in both directions or one, lossy and slow ones: scenarios 11 to 16."""

import asks
from links import Links, addresses, between


def healed(bed, report, name):
    """All links are as before, and everybody is well; how long a partition stood still until then is a figure."""
    report.figure(f"{name}-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    bed.stage.heal()
    bed.unwell.clear()


def minority(bed, report):
    """11: the controller, a leader too, is alone on one side. Fails if it acknowledges or serves what is cut later."""
    bed.begin()
    controller, epoch = bed.quorum()
    others = bed.others(controller)
    bed.stage.cut(between(addresses(controller), addresses(*others)))
    bed.unwell.add(controller)
    report.figure("minority-successor", round(bed.new_controller(controller, epoch), 2), "s")
    bed.led_by(others)
    bed.serves()
    healed(bed, report, "minority")


def between_sides(bed, report):
    """11, with a broker that reaches both sides. Fails if it goes on following the controller that is none any more."""
    bed.begin()
    controller, epoch = bed.quorum()
    broker = bed.nodes[-1]
    others = [node for node in bed.cluster.voting if node is not controller]
    bed.stage.cut(between(addresses(controller), addresses(*others)))
    bed.unwell.update((controller, broker))
    bed.new_controller(controller, epoch)
    bed.led_by(bed.others(controller))
    bed.create("meanwhile", 1)
    bed.until("the broker between the sides knows what was decided",
              lambda: "meanwhile" in asks.metadata(broker)[1])
    bed.until("it is in the ISRs", lambda: all(broker.number in part.isrs for part in bed.parts()
                                               if broker.number in part.replicas))
    healed(bed, report, "between-sides")


def bridge(bed, report):
    """14: of five voters the controller reaches one, and that one reaches all. Fails if the other three, who are
    most of them, do not elect one of theirs because the bridge is content."""
    bed.begin()
    controller, epoch = bed.quorum()
    others = bed.others(controller)
    bed.stage.cut(between(addresses(controller), addresses(*others[1:])))
    bed.unwell.update((controller, others[0]))
    report.figure("bridge-successor", round(bed.new_controller(controller, epoch), 2), "s")
    bed.led_by(others)
    bed.serves()
    healed(bed, report, "bridge")


def cut_from_controllers(bed, report):
    """12: a broker reaches all brokers and clients, no controller. Fails if it is not fenced, or still acknowledges."""
    bed.begin()
    broker = bed.nodes[-1]
    bed.stage.cut(between(addresses(broker), [node.number + 10 for node in bed.cluster.voting]))
    bed.unwell.add(broker)
    bed.led_by(bed.others(broker))
    bed.serves()
    healed(bed, report, "cut-from-controllers")
    bed.serves()


def cut_from_each_other(bed, report):
    """13: two brokers do not reach each other, both reach the controller. Fails if a partition waits for both forever,
    or the ISRs change all the time instead of once."""
    bed.begin()
    controller, _ = bed.quorum()
    one, other = bed.others(controller)
    shrinks = lambda: sum(bed.metric(node, "kafka_server_replicamanager_isrshrinks_total") for node in bed.nodes)
    before = shrinks()
    bed.stage.cut(between(addresses(one), addresses(other)))
    led = [part for part in bed.parts() if part.leader in (one.number, other.number)]

    def apart():
        parts = bed.parts()
        return all(len(parts[part.id].isrs) == 2 and controller.number in parts[part.id].isrs for part in led)
    bed.until("each of the two is out of the other's ISRs", apart)
    for _ in range(3):
        bed.serves()
    if not apart():
        raise AssertionError("an ISR changed although nothing else did")
    if shrinks() - before > len(led):
        raise AssertionError(f"{shrinks() - before} ISRs shrank, of {len(led)} that had to")
    healed(bed, report, "cut-from-each-other")


def deaf(bed, report):
    """15: the controller hears nobody, everybody hears it. Fails if two claim to be it, or nobody else does."""
    bed.begin()
    controller, epoch = bed.quorum()
    others = bed.others(controller)
    bed.stage.cut(between(addresses(*others) + [100], addresses(controller)), both_ways=False)
    bed.unwell.add(controller)
    report.figure("deaf-successor", round(bed.new_controller(controller, epoch), 2), "s")
    bed.led_by(others)
    bed.serves()
    healed(bed, report, "deaf")


def lossy(bed, report):
    """16: a tenth of all packets is lost, the others take 50 to 200 ms and overtake each other. Fails if anything is
    lost for good, or an ISR stays small afterwards."""
    bed.begin()
    numbers = addresses(*bed.nodes)
    bed.stage.rules(*((one, other, 0.1, 0.05, 0.2) for one, other in between(numbers, numbers)))
    for _ in range(5):
        bed.serves()
    healed(bed, report, "lossy")


SCENARIOS = [
    ("minority", minority, {"prepare": Links}),
    ("between-sides", between_sides, {"prepare": Links, "brokers": 1}),
    ("bridge", bridge, {"prepare": Links, "size": 5}),
    ("cut-from-controllers", cut_from_controllers, {"prepare": Links, "brokers": 1}),
    ("cut-from-each-other", cut_from_each_other, {"prepare": Links}),
    ("deaf", deaf, {"prepare": Links}),
    ("lossy", lossy, {"prepare": Links}),
]
