"""Requests that the Python client lacks or cannot send, as bytes on a socket of their own, to the client listener of one
node: who leads the metadata quorum and votes there, what the node itself knows of topics, moves, elections, features.
"""

import socket
import struct
from dataclasses import dataclass

METADATA, UPDATE_FEATURES = 3, 57
ELECT, ALTER_REASSIGNMENTS, LIST_REASSIGNMENTS, DESCRIBE_QUORUM, ADD_VOTER, REMOVE_VOTER = 43, 45, 46, 55, 80, 81
PREFERRED, UNCLEAN = 0, 1
LIMIT_S = 2


class Refused(Exception):
    """The node answered with an error code."""


@dataclass
class Part:
    """A partition as a node describes it."""

    id: int
    leader: int
    replicas: list
    isrs: list


def metadata(node):
    """(the ids of the brokers, {topic: its partitions}), as this very node knows them."""
    answer = _ask(node, METADATA, 1, struct.pack(">i", -1), flexible=False)
    brokers = answer.plain(lambda: (answer.number(">i"), answer.plain_text(), answer.number(">i"),
                                    answer.plain_text())[0])
    answer.number(">i")
    ids = lambda: answer.plain(lambda: answer.number(">i"))
    part = lambda: (answer.number(">h"), Part(answer.number(">i"), answer.number(">i"), ids(), ids()))[1]
    topic = lambda: (answer.number(">h"), answer.plain_text(), answer.number(">b"), answer.plain(part))[1::2]
    topics = answer.plain(topic)
    return set(brokers), {topic: sorted(parts, key=lambda one: one.id) for topic, parts in topics}


def quorum(node):
    """(leader, epoch) of the metadata quorum, as this node or the controller that it asks says."""
    return _describe(node)[:2]


def voters(node):
    """The ids of those that vote there."""
    return _describe(node)[2]


def _describe(node):
    answer = _ask(node, DESCRIBE_QUORUM, 0, _array([_text("__cluster_metadata") + _array([struct.pack(">i", 0) + _END])
                                                    + _END]) + _END)
    answer.accept()
    ((partition,),) = answer.array(lambda: (answer.text(), answer.array(lambda: _partition(answer)), answer.end())[1])
    return partition


def _partition(answer):
    answer.number(">i")
    answer.accept()
    leader, epoch = answer.number(">i"), answer.number(">i")
    answer.number(">q")
    replicas = lambda: answer.array(lambda: (answer.number(">i"), answer.number(">q"), answer.end())[0])
    voting, _ = set(replicas()), replicas()
    answer.end()
    return leader, epoch, voting


def add_voter(node, added, directory):
    """Has a controller vote that follows the quorum."""
    listener = _text("CONTROLLER") + _text(added.controller_host) + struct.pack(">H", added.controller_port) + _END
    body = b"\0" + struct.pack(">ii", LIMIT_S * 1000, added.number) + directory + _array([listener]) + _END
    _changed(_ask(node, ADD_VOTER, 0, body))


def remove_voter(node, removed, directory):
    """Has a voter vote no more."""
    _changed(_ask(node, REMOVE_VOTER, 0, b"\0" + struct.pack(">i", removed.number) + directory + _END))


def _changed(answer):
    answer.number(">i")
    answer.accept()


def reassign(node, topic, wanted):
    """Begins reassignments of a topic's partitions: {partition: replicas, or None to call it off}."""
    partitions = [struct.pack(">i", number) + _replicas(replicas) + _END for number, replicas in wanted.items()]
    body = struct.pack(">i", LIMIT_S * 1000) + _array([_text(topic) + _array(partitions) + _END]) + _END
    answer = _ask(node, ALTER_REASSIGNMENTS, 0, body)
    answer.number(">i")
    answer.accept()
    answer.text()
    answer.array(lambda: (answer.text(), answer.array(lambda: _taken(answer)), answer.end()))


def _taken(answer):
    answer.number(">i")
    answer.accept()
    answer.text()
    answer.end()


def reassigning(node):
    """How many partitions are being reassigned."""
    answer = _ask(node, LIST_REASSIGNMENTS, 0, struct.pack(">i", LIMIT_S * 1000) + b"\0" + _END)
    answer.number(">i")
    answer.accept()
    answer.text()
    ids = lambda: answer.array(lambda: answer.number(">i"))
    one = lambda: (answer.number(">i"), ids(), ids(), ids(), answer.end())
    topics = answer.array(lambda: (answer.text(), answer.array(one), answer.end())[1])
    return sum(map(len, topics))


def elect(node, kind, topic, partitions):
    """Asks for elections. What comes of each partition is not looked at: one that is not needed is refused."""
    numbers = _array([struct.pack(">i", number) for number in partitions])
    body = struct.pack(">b", kind) + _array([_text(topic) + numbers + _END]) + struct.pack(">i", LIMIT_S * 1000) + _END
    answer = _ask(node, ELECT, 2, body)
    answer.number(">i")
    answer.accept()


def raise_feature(node, feature, level):
    """Raises the level of a feature of the cluster."""
    update = _text(feature) + struct.pack(">hb", level, 1) + _END
    answer = _ask(node, UPDATE_FEATURES, 1, struct.pack(">i", LIMIT_S * 1000) + _array([update]) + b"\0" + _END)
    answer.number(">i")
    answer.accept()
    answer.text()
    answer.array(lambda: (answer.text(), answer.accept(), answer.text(), answer.end()))


# What a flexible request and its parts end with: no tagged fields.
_END = b"\0"


def _array(items):
    return bytes([len(items) + 1]) + b"".join(items)


def _text(text):
    return bytes([len(text) + 1]) + text.encode()


def _replicas(replicas):
    return b"\0" if replicas is None else _array([struct.pack(">i", replica) for replica in replicas])


class _Answer:
    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, form):
        (number,) = struct.unpack_from(form, self.data, self.at)
        self.at += struct.calcsize(form)
        return number

    def length(self):
        number, shift = 0, 0
        while True:
            byte = self.number(">B")
            number |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return number - 1

    def array(self, item):
        return [item() for _ in range(self.length())]

    def text(self):
        length = self.length()
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def plain(self, item):
        """An array as the versions before flexible ones have it."""
        return [item() for _ in range(self.number(">i"))]

    def plain_text(self):
        """And a text."""
        length = self.number(">h")
        if length < 0:
            return None
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def end(self):
        assert self.number(">B") == 0, "tagged fields are not expected here"

    def accept(self):
        code = self.number(">h")
        if code:
            raise Refused(f"error code {code}")


def _ask(node, key, version, body, flexible=True):
    frame = struct.pack(">hhih", key, version, 1, 5) + b"chaos" + (_END if flexible else b"") + body
    with socket.create_connection((node.host, node.port), LIMIT_S) as connection:
        connection.settimeout(LIMIT_S)
        connection.sendall(struct.pack(">i", len(frame)) + frame)
        with connection.makefile("rb") as lines:
            head = lines.read(4)
            if len(head) < 4:
                raise ConnectionError("the node hung up")
            (length,) = struct.unpack(">i", head)
            return _Answer(lines.read(length)[5 if flexible else 4:])
