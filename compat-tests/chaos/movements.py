"""Leaders, replicas and voters that are moved under load, and by force: scenarios 17, 21, 22, 24, 35."""

import json
import threading

from confluent_kafka import Producer

import asks
from bed import LENGTH, PARTITIONS, QUICK_CLIENT, TOPIC
from harness import load

ROUNDS = 10


def elect(bed, kind, topic, partitions):
    """Asks the controller for elections, until it takes them."""
    bed.until("elections are taken", lambda: asks.elect(bed.quorum()[0], kind, topic, partitions) is None)


def bounced(bed, report):
    """17: every second all leaders move on to the next replica. Fails if a retry is taken for something new, or refused
    for good, by a leader that does not know what the last one knew."""
    bed.begin()
    numbers = [node.number for node in bed.nodes]
    pause = threading.Event()
    for turn in range(ROUNDS):
        order = {p: [numbers[(p + turn + place) % 3] for place in range(3)] for p in range(PARTITIONS)}
        bed.until("the order of replicas changes", lambda: asks.reassign(bed.quorum()[0], TOPIC, order) is None)
        bed.until("no partition is being reassigned", lambda: asks.reassigning(bed.quorum()[0]) == 0)
        elect(bed, asks.PREFERRED, TOPIC, range(PARTITIONS))
        bed.until("the first replicas lead", lambda: all(part.leader == order[part.id][0] for part in bed.parts()))
        bed.ledger.await_acks(bed.ledger.acked_total + 100)
        pause.wait(0.2)
    report.figure("bounced-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def lost_leader(bed, topic, count):
    """Makes a topic of two replicas of which the second has missed `count` records, and kills the first.

    Returns the nodes: the one that is gone and the one that is left."""
    controller, _ = bed.quorum()
    gone, left = bed.others(controller)
    bed.create(topic, 1, {"min.insync.replicas": "1", "unclean.leader.election.enable": "false"}, replicas=1)
    # Where its replicas are is decided here, not by chance.
    asks.reassign(controller, topic, {0: [gone.number, left.number]})
    bed.until("it has two replicas", lambda: set(bed.parts(topic)[0].isrs) == {gone.number, left.number})
    elect(bed, asks.PREFERRED, topic, [0])
    bed.until("the first leads", lambda: bed.parts(topic)[0].leader == gone.number)
    produce(bed, topic, range(10))
    left.kill()
    bed.until("the first is alone", lambda: bed.parts(topic)[0].isrs == [gone.number])
    produce(bed, topic, range(10, 10 + count))
    gone.kill()
    return gone, left


def produce(bed, topic, numbers):
    """Records that are all acknowledged, in order."""
    failed = []
    producer = Producer({"bootstrap.servers": bed.cluster.bootstrap, "enable.idempotence": True, **QUICK_CLIENT})
    for number in numbers:
        producer.produce(topic, load.value(0, number, LENGTH), partition=0,
                         on_delivery=lambda error, _: failed.append(error) if error else None)
    if producer.flush(load.TIMEOUT_S) or failed:
        raise AssertionError(f"{topic}: not everything was acknowledged: {failed[:1]}")


def unclean(bed, report):
    """21 (and 20): who has everything is gone, who missed some is there. Fails if it leads before that is allowed, not
    after, or if an offset has two values in the end."""
    bed.begin()
    for topic, allow in (("by-setting", by_setting), ("by-tool", by_tool)):
        gone, left = lost_leader(bed, topic, 5)
        left.start()
        # The one that is left serves again, and the one that is gone is known to be: somebody could lead.
        bed.until("the one that is left has its part again", lambda: bed.parts(topic)[0].leader != gone.number
                  and any(left.number in (part.leader, *part.isrs) for part in bed.parts()))
        if bed.parts(topic)[0].leader > 0:
            raise AssertionError("a replica leads that misses records, and nobody allowed it")
        before = unclean_elections(bed)
        allow(bed, topic, left)
        bed.until("it leads", lambda: bed.parts(topic)[0].leader == left.number)
        if bed.cluster.target.kind == "ottla" and unclean_elections(bed) != before + 1:
            raise AssertionError("the loss is not counted")
        produce(bed, topic, range(100, 105))
        gone.start()
        bed.whole()
        elect(bed, asks.PREFERRED, topic, [0])
        bed.until("the first leads again", lambda: bed.parts(topic)[0].leader == gone.number)
        read = [load.number_of(value)[1] for _, _, value in
                load.scan(bed.cluster.bootstrap, topic, load.watermarks(bed.cluster.bootstrap, topic, 1))]
        if read != [*range(10), *range(100, 105)]:
            raise AssertionError(f"{topic}: {read} is not what the unclean leader had and took")
    report.figure("unclean-lost", 5, "records each")


def unclean_elections(bed):
    """How many the active controller counted."""
    if bed.cluster.target.kind != "ottla":
        return 0
    return bed.metric(bed.quorum()[0], "kafka_controller_controllerstats_uncleanleaderelections_total")


def by_setting(bed, topic, left):
    """The topic allows it from now on: seen when a replica comes back, or once in five minutes (as in Kafka)."""
    load.alter_topic(",".join(node.bootstrap for node in bed.well), topic, {"unclean.leader.election.enable": "true"})
    left.kill()
    # Fenced or not: it registers anew.
    left.start()


def by_tool(bed, topic, _left):
    """An operator asks for it."""
    elect(bed, asks.UNCLEAN, topic, [0])


def reassigned(bed, report):
    """22: replicas move to a node that dies meanwhile, and so does the controller; it is called off and begun again.
    Fails if a partition ends with other replicas than those asked for, or with fewer in sync than before."""
    bed.begin()
    added = bed.nodes[-1]
    voters = [node.number for node in bed.cluster.voting]
    old = {number: [voters[(number + place) % 3] for place in range(3)] for number in range(PARTITIONS)}
    new = {number: [*replicas[:2], added.number] for number, replicas in old.items()}
    asks.reassign(bed.quorum()[0], TOPIC, old)
    await_replicas(bed, old)
    bed.serves()
    held = {"leader.replication.throttled.replicas": "*", "follower.replication.throttled.replicas": "*"}
    rates = ("leader.replication.throttled.rate", "follower.replication.throttled.rate")
    load.alter_topic(bed.cluster.bootstrap, TOPIC, held)
    for node in bed.nodes:
        load.alter_broker(bed.cluster.bootstrap, node.number, {rate: "2000" for rate in rates})
    controller, epoch = bed.quorum()
    asks.reassign(controller, TOPIC, new)
    bed.until("the moves have begun", lambda: asks.reassigning(controller) > 0)
    added.kill()
    controller.kill()
    bed.new_controller(controller, epoch)
    bed.until("leaders everywhere", lambda: all(part.leader > 0 for part in bed.parts()))
    bed.serves()
    for node in (controller, added):
        node.start()
    if asks.reassigning(bed.quorum()[0]) == 0:
        raise AssertionError("the moves ended although they were held back")
    asks.reassign(bed.quorum()[0], TOPIC, {number: None for number in new})
    await_replicas(bed, old)
    bed.serves()
    asks.reassign(bed.quorum()[0], TOPIC, new)
    for node in bed.nodes:
        load.alter_broker(bed.cluster.bootstrap, node.number, {rate: "100000000" for rate in rates})
    await_replicas(bed, new)
    report.figure("reassigned-gap", round(bed.ledger.take_longest_gap(), 2), "s")


def await_replicas(bed, wanted):
    """Waits until nothing moves and every partition has these replicas."""
    bed.until("nothing moves", lambda: asks.reassigning(bed.quorum()[0]) == 0)
    found = {part.id: list(part.replicas) for part in bed.parts()}
    if found != wanted:
        raise AssertionError(f"replicas are {json.dumps(found)}, asked for were {json.dumps(wanted)}")


def recreated(bed, report):
    """35: a topic is deleted and made again while a follower is down. Fails if anything of the first life is read."""
    bed.begin()
    controller, _ = bed.quorum()
    follower = bed.others(controller)[0]
    bed.create("twice", 1)
    produce(bed, "twice", range(50))
    bed.whole()
    follower.kill()
    bed.led_by(bed.others(follower))
    client = load.admin(bed.well[0].bootstrap)
    client.delete_topics(["twice"])["twice"].result(load.TIMEOUT_S)
    bed.until("it is gone", lambda: not bed.parts("twice"))
    bed.create("twice", 1)
    produce(bed, "twice", range(1000, 1010))
    follower.start()
    bed.whole()
    # Read from the one that was away.
    order = [follower.number, *[node.number for node in bed.others(follower)]]
    asks.reassign(bed.quorum()[0], "twice", {0: order})
    bed.until("no partition is being reassigned", lambda: asks.reassigning(bed.quorum()[0]) == 0)
    elect(bed, asks.PREFERRED, "twice", [0])
    bed.until("the one that was away leads", lambda: bed.parts("twice")[0].leader == follower.number)
    ranges = load.watermarks(bed.cluster.bootstrap, "twice", 1)
    read = [load.number_of(value)[1] for _, _, value in load.scan(bed.cluster.bootstrap, "twice", ranges)]
    if ranges != [(0, 10)] or read != [*range(1000, 1010)]:
        raise AssertionError(f"{ranges}: {read}")


SCENARIOS = [
    ("bounced", bounced, {}),
    ("unclean", unclean, {}),
    ("reassigned", reassigned, {"brokers": 1}),
    ("recreated", recreated, {}),
]
