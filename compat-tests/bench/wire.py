"""Just enough of Kafka's protocol to see a broker at work: four requests, encoded once, and a client that insists.

The versions are ones from before the flexible encoding that Kafka 4.3 still serves. A connection comes from another
loopback address than it goes to: a client that knocks while nobody listens can otherwise end up connected to itself.
"""

import socket
import struct
import time
from dataclasses import dataclass
from typing import Callable

from hostile.frames import crc32c, frame, varint

PRODUCE, METADATA, CREATE_TOPICS = (0, 7), (3, 4), (19, 4)
CORRELATION = 1
CLIENT = "ottla-bench"
ANSWER_BYTES_MAX = 4 << 20
ANSWER_LIMIT_S = 30
TOPIC_ALREADY_EXISTS = 36
# Between two attempts: short beside what has passed, so that it costs no precision and the broker no CPU.
PAUSE_MIN_S = 0.0005
PAUSE_SHARE = 1 / 500


class NotAccepted(Exception):
    """A broker did not do in time what was asked; carries the last thing it said, and the end of its log."""


@dataclass(frozen=True)
class Step:
    """A request to repeat until it is accepted. `refusal` reads an answer: `None` accepts it, a text says why not.

    All ask for one thing, so that an answer with none is noticed by its early end.
    """

    name: str
    request: bytes
    refusal: Callable


def produce(topic, now_ms):
    """One record of 100 bytes to partition 0, acks=all."""
    records = batch(b"x" * 100, now_ms)
    body = struct.pack(">hhii", -1, -1, ANSWER_LIMIT_S * 1000, 1) + text(topic)
    body += struct.pack(">iii", 1, 0, len(records)) + records

    def refusal(answer):
        answer.count()
        answer.text()
        answer.count()
        _, code = answer.take(">ih")
        return None if code == 0 else f"error code {code}"

    return Step("Produce", request(PRODUCE, body), refusal)


def create_topic(topic, partitions, replicas=1):
    """A topic; one that is there already is as good."""
    body = struct.pack(">i", 1) + text(topic)
    body += struct.pack(">ihiiib", partitions, replicas, 0, 0, ANSWER_LIMIT_S * 1000, 0)

    def refusal(answer):
        answer.take(">i")  # throttle time
        answer.count()
        answer.text()
        (code,) = answer.take(">h")
        return None if code in (0, TOPIC_ALREADY_EXISTS) else f"error code {code}: {answer.text()}"

    return Step("CreateTopics", request(CREATE_TOPICS, body), refusal)


def topic_ready(topic, partitions, create=False, without=None):
    """Metadata of a topic; accepted once all its partitions have a leader, which is not the broker `without`.

    `create`: the broker may make the topic.
    """
    def refusal(answer):
        code, leaders = partition_leaders(answer)
        led = sum(leader >= 0 and leader != without for leader in leaders.values())
        return None if code == 0 and led == partitions else f"error code {code}, {led} partitions with a leader"

    return Step("Metadata", metadata(topic, create), refusal)


def metadata(topic, create=False):
    """Asks for a topic."""
    return request(METADATA, struct.pack(">i", 1) + text(topic) + struct.pack(">b", create))


def partition_leaders(answer):
    """Reads a Metadata answer of one topic: its error code, and the leader of every partition, -1 if there is none."""
    brokers(answer)
    answer.count()
    (code,) = answer.take(">h")
    answer.text()
    answer.take(">b")  # internal
    return code, dict(leader_of(answer) for _ in range(answer.count()))


def broker_ready(count=1):
    """Metadata of no topic; accepted once the broker knows of `count` brokers."""
    body = struct.pack(">ib", 0, 0)
    return Step("Metadata", request(METADATA, body),
                lambda answer: None if brokers(answer) >= count else "not all brokers are there")


def brokers(answer):
    """Reads the front part of a Metadata answer; returns how many brokers it names."""
    answer.take(">i")  # throttle time
    found = answer.count()
    for _ in range(found):
        answer.take(">i")
        answer.text()
        answer.take(">i")
        answer.text()
    answer.text()
    answer.take(">i")  # controller
    return found


def leader_of(answer):
    """Reads one partition of a Metadata answer."""
    code, partition, leader = answer.take(">hii")
    for _ in range(2):  # replicas, in sync
        for _ in range(answer.count()):
            answer.take(">i")
    return partition, leader if code == 0 else -1


def request(api, body):
    """The frame of a request with its header."""
    key, version = api
    return frame(struct.pack(">hhi", key, version, CORRELATION) + text(CLIENT) + body)


def text(value):
    """A string with its length."""
    data = value.encode()
    return struct.pack(">h", len(data)) + data


def batch(value, now_ms):
    """A record batch (format 2) of one record without key, producer or compression."""
    record = b"\0\0\0\x01" + varint(2 * len(value)) + value + b"\0"  # attributes, deltas, no key; value; no headers
    tail = struct.pack(">hiqqqhii", 0, 0, now_ms, now_ms, -1, -1, -1, 1) + varint(2 * len(record)) + record
    body = struct.pack(">ibI", -1, 2, crc32c(tail)) + tail
    return struct.pack(">qi", 0, len(body)) + body


class Answer:
    """The body of an answer, read from front to back. Running over its end is a `ConnectionError`."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, form):
        """The next values, as in `struct`."""
        size = struct.calcsize(form)
        return struct.unpack(form, self._bytes(size))

    def count(self):
        """The length of an array; null counts as empty."""
        return max(0, self.take(">i")[0])

    def text(self):
        """A string, or `None`."""
        (size,) = self.take(">h")
        return None if size < 0 else self._bytes(size).decode(errors="replace")

    def _bytes(self, size):
        if size > len(self.data) - self.at:
            raise ConnectionError(f"the answer ends early: {size} bytes wanted at {self.at} of {len(self.data)}")
        self.at += size
        return self.data[self.at - size:self.at]


class Connection:
    """One connection to a broker on this machine, one request at a time."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), ANSWER_LIMIT_S, source_address=("127.0.0.2", 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, encoded):
        """Sends an encoded request and returns the `Answer`."""
        self.socket.sendall(encoded)
        (size,) = struct.unpack(">i", self._exactly(4))
        if not 4 <= size <= ANSWER_BYTES_MAX:
            raise ConnectionError(f"an answer of {size} bytes")
        answer = Answer(self._exactly(size))
        if answer.take(">i") != (CORRELATION,):
            raise ConnectionError("the answer to another request")
        return answer

    def _exactly(self, size):
        data = b""
        while len(data) < size:
            part = self.socket.recv(size - len(data))
            if not part:
                raise ConnectionError("closed by the broker")
            data += part
        return data

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def insist(broker, steps, limit_s):
    """Asks until each of `steps`, in order, was accepted once. Returns the monotonic time of the last acceptance."""
    began = time.monotonic()
    left = list(steps)
    last = "nothing"

    def pause():
        passed = time.monotonic() - began
        if passed > limit_s or not broker.alive():
            state = "running" if broker.alive() else "gone"
            raise NotAccepted(f"{left[0].name} not accepted after {passed:.1f} s, the broker is {state}, "
                              f"last seen: {last}; end of its log:\n{broker.log_tail()}")
        time.sleep(max(PAUSE_MIN_S, passed * PAUSE_SHARE))

    while True:
        try:
            with Connection(broker.port) as connection:
                while True:
                    refusal = left[0].refusal(connection.ask(left[0].request))
                    if refusal is None:
                        accepted = time.monotonic()
                        left.pop(0)
                        if not left:
                            return accepted
                    else:
                        last = refusal
                        pause()
        except OSError as error:  # refused, reset, closed or silent: not ready yet
            last = str(error)
        pause()
