"""Voters of the metadata quorum that come and go under load: scenario 24. Takes a cluster whose voters are in its log."""

import base64

import asks
from harness.report import Skipped
from shims import Shims


class Voters(Shims):
    """Formats the nodes: the first three are the voters, the fourth only follows. Its disks can be slow."""

    def __init__(self, cluster, work):
        super().__init__(cluster, work)
        if cluster.target.kind != "ottla":
            raise Skipped("formatting is Ottla's here")
        cluster.dynamic = True
        for node in cluster.nodes:
            node.settings["process.roles"] = "broker,controller"
        directory = {node: uuid(node.number) for node in cluster.nodes}
        initial = ",".join(f"{node.number}@{node.controller_host}:{node.controller_port}:{directory[node]}"
                           for node in cluster.voting)
        for node in cluster.nodes:
            which = ["--initial-controllers", initial] if node in cluster.voting else ["--no-initial-controllers"]
            cluster.format(node, *which)


def uuid(number):
    """The id of a directory, for who has to know it beforehand."""
    return base64.urlsafe_b64encode(bytes([7] * 15 + [number])).decode().rstrip("=")


def directory_of(node):
    """The id of a node's metadata directory, as its meta.properties says."""
    lines = dict(line.split("=", 1) for line in (node.data / "meta.properties").read_text().splitlines() if "=" in line)
    return base64.urlsafe_b64decode(lines["directory.id"] + "==")


def changed(bed, report):
    """24: a voter is added, the leading one removed, which then comes back; one node is slow all the while, and the
    leader is killed among it. Fails if a change is never done, done twice, or a quorum of the wrong nodes decides."""
    bed.begin()
    controller, epoch = bed.quorum()
    added = bed.nodes[-1]
    slow = next(node for node in bed.cluster.voting if node is not controller)
    bed.stage.slow(slow, 0.2)
    change(bed, lambda: asks.add_voter(bed.quorum()[0], added, directory_of(added)))
    bed.until("four vote", lambda: asks.voters(bed.quorum()[0]) == {1, 2, 3, 4})
    bed.serves()
    change(bed, lambda: asks.remove_voter(bed.quorum()[0], controller, directory_of(controller)))
    report.figure("changed-successor", round(bed.new_controller(controller, epoch), 2), "s")
    three = {node.number for node in bed.others(controller)}
    bed.until("three vote", lambda: asks.voters(bed.quorum()[0]) == three)
    bed.serves()
    # Two of the three decide without the first, whatever it believes.
    leader, epoch = bed.quorum()
    leader.kill()
    bed.new_controller(leader, epoch)
    bed.serves()
    leader.start()
    change(bed, lambda: asks.add_voter(bed.quorum()[0], controller, directory_of(controller)))
    bed.until("four vote again", lambda: asks.voters(bed.quorum()[0]) == {1, 2, 3, 4})
    report.figure("changed-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    bed.stage.heal()


def change(bed, ask):
    """One change. One that was done although nobody could say so is refused the second time, as a duplicate."""
    def done():
        try:
            ask()
        except asks.Refused as refused:
            return str(refused) in ("error code 126", "error code 127")  # duplicate voter, voter not found
        return True
    bed.until("the voters change", done)


SCENARIOS = [("voters-changed", changed, {"prepare": Voters, "brokers": 1})]
