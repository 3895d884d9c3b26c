"""Malformed, oversized and slow input. The broker stays up, its memory stays bounded, and honest clients do not notice.

All the while a witness (kafka-python, a producer and a consumer) sends and receives; its slowest round trip is
reported. (A real Kafka does not pass: it reserves the memory that a frame announces, and runs out of it.)
"""

import argparse
import os
import random
import socket
import struct
import sys
import threading
import time

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import frames
from harness.broker import Broker, Target, exit_on_sigterm
from harness.report import Report, log

WORKERS = 4
ANSWER_LIMIT_S = 0.2
CLOSE_LIMIT_S = 10
WITNESS_LIMIT_S = 5.0
MEMORY_ALLOWED_BYTES = 400 << 20
REQUEST_MAX_BYTES = 100 << 20
ANNOUNCERS = 100
SLOW = 200


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100000, help="how many mutated frames")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    exit_on_sigterm()
    report = Report()
    # Spoiled names must not each become a topic.
    settings = {"auto.create.topics.enable": "false", "socket.request.max.bytes": str(REQUEST_MAX_BYTES)}
    with Broker(Target.from_env(), os.environ["OTTLA_WORK"], settings) as broker:
        prepare(broker)
        witness = Witness(broker)
        witness.start()
        witness.await_rounds(20)
        memory = Memory(broker)
        memory.start()
        slow = [Trickle(broker) for _ in range(SLOW)]
        known = frames.schemas()
        with report.check("advertised"):
            targets = advertised(broker)
            unknown = sorted({key for key, _ in targets} - set(known))
            targets = [target for target in targets if target[0] in known]
            report.figure("apis-and-versions", len(targets), "pairs")
            if unknown:
                log(f"no schema here for API keys {unknown}: they are not attacked")
        with report.check("length-lies"):
            count = send_lies(broker, known, targets, options.seed)
            report.figure("length-lies", count, "frames")
        with report.check("bad-lengths"):
            bad_lengths(broker)
        with report.check("announced-but-not-sent"):
            announce(broker, memory)
        with report.check("mutated-frames"):
            storm(broker, known, targets, options, report)
        with report.check("slow-connections"):
            for trickle in slow:
                trickle.finish()
        with report.check("memory"):
            memory.finish(report)
        with report.check("witness"):
            witness.finish(report)
        with report.check("broker-up"):
            if not broker.alive():
                raise AssertionError("the broker ended:\n" + broker.log_tail())
            if broker.panics:
                raise AssertionError(f"{broker.panics} panics in the broker's log")
    return report.exit_code()


def prepare(broker):
    """Topics for the frames to meet, and one that is the witness's own."""
    from kafka import KafkaAdminClient
    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap)
    wanted = {name: {"num_partitions": 2, "replication_factor": 1} for name in ("hostile-a", "hostile-b", "witness")}
    admin.create_topics(wanted, wait_for_metadata=True)
    admin.close()


def connect(broker):
    """A plain connection."""
    connection = socket.create_connection(("127.0.0.1", broker.port), timeout=CLOSE_LIMIT_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def cut(connection):
    """Closes with a reset: no port is left waiting, and the broker sees the rude kind of end too."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def receive(connection):
    """One answer, or None when the broker closed the connection."""
    try:
        size = read_exactly(connection, 4)
        return size and read_exactly(connection, struct.unpack(">i", size)[0])
    except ConnectionError:
        return None


def read_exactly(connection, count):
    """That many bytes, or None at the end of the stream."""
    data = bytearray()
    while len(data) < count:
        part = connection.recv(count - len(data))
        if not part:
            return None
        data += part
    return bytes(data)


def advertised(broker):
    """Every (API key, version) that the broker says it has."""
    connection = connect(broker)
    connection.sendall(frames.frame(struct.pack(">hhih", 18, 0, 1, -1)))
    answer = receive(connection)
    connection.close()
    error, count = struct.unpack_from(">hi", answer, 4)
    if error:
        raise AssertionError(f"ApiVersions answered with error {error}")
    pairs = []
    for n in range(count):
        key, low, high = struct.unpack_from(">hhh", answer, 10 + 6 * n)
        # Produce 0-2 is advertised and refused, as Kafka does (KAFKA-18659).
        pairs += [(key, version) for version in range(max(low, 3) if key == 0 else low, high + 1)]
    return pairs


class Sender:
    """Sends frames one after another, over one connection as long as the broker keeps it and answers."""

    def __init__(self, broker):
        self.broker, self.connection = broker, None
        self.answered = self.closed = self.silent = 0

    def send(self, data):
        """Sends a frame and waits for what comes of it: an answer, the end of the connection, or nothing."""
        if self.connection is None:
            self.connection = connect(self.broker)
            self.connection.settimeout(ANSWER_LIMIT_S)
        try:
            self.connection.sendall(data)
            answer = receive(self.connection)
        except socket.timeout:
            self.silent += 1  # parked, or it waits for more bytes: either way this connection is of no more use
        except ConnectionError:
            self.closed += 1
        else:
            if answer is not None:
                self.answered += 1
                return
            self.closed += 1
        cut(self.connection)
        self.connection = None

    def close(self):
        """Closes what is open."""
        if self.connection is not None:
            cut(self.connection)
            self.connection = None


def send_lies(broker, known, targets, seed):
    """Every length prefix of every API and version claims billions, one at a time."""
    chance = random.Random(seed)
    sender = Sender(broker)
    count = 0
    for key, version in targets:
        for attempt in range(3):  # three random shapes, so that nested arrays occur
            for data in frames.lies(known[key], version, chance, attempt):
                sender.send(data)
                count += 1
        if not broker.alive():
            raise AssertionError(f"the broker died of {known[key]['name']} version {version}")
    sender.close()
    return count


def bad_lengths(broker):
    """Frames whose length no honest client sends: the connection is closed, nothing else happens."""
    for length in (-1, -(1 << 31), REQUEST_MAX_BYTES + 1, (1 << 31) - 1, 0):
        connection = connect(broker)
        connection.sendall(struct.pack(">i", length))
        try:
            connection.sendall(b"x" * 1000)
            if receive(connection) is not None:
                raise AssertionError(f"a frame of length {length} was answered")
        except socket.timeout:
            raise AssertionError(f"the connection stays open after a frame of length {length}")
        except ConnectionError:
            pass
        finally:
            connection.close()
    # Half a frame, then the end.
    for cut_at in (1, 3, 4, 10):
        connection = connect(broker)
        connection.sendall(frames.frame(struct.pack(">hhih", 18, 0, 1, -1))[:cut_at])
        connection.close()


def announce(broker, memory):
    """Many connections announce the largest frame and send next to nothing: memory follows bytes, not promises."""
    connections = []
    for _ in range(ANNOUNCERS):
        connection = connect(broker)
        connection.sendall(struct.pack(">i", REQUEST_MAX_BYTES) + struct.pack(">hhih", 0, 9, 1, -1) + b"\0" * 1000)
        connections.append(connection)
    # An honest request behind them shows that the broker has dealt with all that came before.
    advertised(broker)
    now = memory.sample()
    for connection in connections:
        cut(connection)
    if now - memory.before > MEMORY_ALLOWED_BYTES:
        raise AssertionError(f"{ANNOUNCERS} announcements of 100 MiB took {(now - memory.before) >> 20} MiB of memory")


def storm(broker, known, targets, options, report):
    """The mutated frames, from several connections at once, evenly over all APIs and versions."""
    senders = [Sender(broker) for _ in range(WORKERS)]
    errors = []

    def work(index):
        chance = random.Random(f"{options.seed}-{index}")
        try:
            for n in range(index, options.frames, WORKERS):
                key, version = targets[n % len(targets)]
                body = frames.Encoder(known[key], version, chance).body()
                senders[index].send(frames.mutate(frames.header(known[key], version, n) + body, chance))
        except Exception as error:
            errors.append(error)
        finally:
            senders[index].close()

    began = time.monotonic()
    threads = [threading.Thread(target=work, args=(index,)) for index in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    report.figure("mutated-frames", options.frames, "frames")
    report.figure("mutated-frames-time", round(time.monotonic() - began), "s")
    for what in ("answered", "closed", "silent"):
        report.figure(f"frames-{what}", sum(getattr(sender, what) for sender in senders), "frames")


class Trickle:
    """An honest but slow client: half of its request is there from the beginning, the rest comes at the very end."""

    REQUEST = frames.frame(struct.pack(">hhih", 18, 0, 1, -1))

    def __init__(self, broker):
        self.connection = connect(broker)
        self.connection.sendall(self.REQUEST[:7])

    def finish(self):
        """Sends the rest byte by byte; the answer must come."""
        for byte in self.REQUEST[7:]:
            self.connection.sendall(bytes([byte]))
        answer = receive(self.connection)
        self.connection.close()
        if answer is None:
            raise AssertionError("a slow connection was closed")


class Memory(threading.Thread):
    """The broker's resident memory, looked at twice a second, as there is no event for it."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.broker = broker
        self.before = self.peak = broker.memory_bytes()
        self.stopping = threading.Event()

    def sample(self):
        """Looks now."""
        now = self.broker.memory_bytes()
        self.peak = max(self.peak, now)
        return now

    def run(self):
        while not self.stopping.wait(0.5) and self.broker.alive():
            self.sample()

    def finish(self, report):
        """Reports, and raises when it grew too much."""
        self.stopping.set()
        self.join()
        after = self.sample()
        for name, value in (("before", self.before), ("peak", self.peak), ("after", after)):
            report.figure(f"memory-{name}", value >> 20, "MiB")
        if self.peak - self.before > MEMORY_ALLOWED_BYTES:
            raise AssertionError(f"memory grew by {(self.peak - self.before) >> 20} MiB")


class Witness(threading.Thread):
    """An honest client that sends a record and reads it back, over and over."""

    def __init__(self, broker):
        super().__init__(daemon=True)
        self.bootstrap = broker.bootstrap
        self.rounds, self.slowest, self.error = 0, 0.0, None
        self.changed, self.stopping = threading.Condition(), threading.Event()

    def run(self):
        try:
            producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", linger_ms=0)
            consumer = KafkaConsumer(bootstrap_servers=self.bootstrap, group_id=None, fetch_max_wait_ms=50)
            place = TopicPartition("witness", 0)
            consumer.assign([place])
            consumer.seek_to_beginning(place)
            while not self.stopping.is_set():
                self._round(producer, consumer, place)
            producer.close()
            consumer.close()
        except Exception as error:
            self.error = error
        with self.changed:
            self.changed.notify_all()

    def _round(self, producer, consumer, place):
        began = time.monotonic()
        sent = str(self.rounds).encode()
        offset = producer.send("witness", sent, partition=0).get(timeout=30).offset
        got = []
        while not got:
            got = consumer.poll(timeout_ms=1000).get(place, [])
            if time.monotonic() - began > 30:
                raise TimeoutError("a record did not come back within 30 s")
        if (got[0].offset, got[0].value) != (offset, sent):
            raise AssertionError(f"sent {sent} at {offset}, read {got[0].value} at {got[0].offset}")
        with self.changed:
            self.rounds += 1
            if self.rounds > 20:  # the first ones warm up
                self.slowest = max(self.slowest, time.monotonic() - began)
            self.changed.notify_all()

    def await_rounds(self, count):
        """Waits until the witness works."""
        with self.changed:
            self.changed.wait_for(lambda: self.rounds >= count or self.error, 60)
        if self.error or self.rounds < count:
            raise RuntimeError(f"the witness does not work: {self.error}")

    def finish(self, report):
        """Ends it; raises when it noticed anything."""
        self.stopping.set()
        self.join(60)
        report.figure("witness-rounds", self.rounds, "round trips")
        report.figure("witness-slowest", round(self.slowest * 1000), "ms")
        if self.error:
            raise self.error
        if self.slowest > WITNESS_LIMIT_S:
            raise AssertionError(f"one round trip took {self.slowest:.1f} s")


if __name__ == "__main__":
    sys.exit(main())
