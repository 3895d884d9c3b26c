"""Connections that are reset by the hundred, or whose other end is silently gone: scenario 39."""

import shutil
import socket
import struct
import subprocess
import threading

from harness.report import Skipped

ROUNDS, RESET, HALF_OPEN = 8, 200, 25
# A client that says nothing for so long is sent away, and one that is silently gone with it.
IDLE_MS = 4000
TCP_REPAIR = 19
# As much may memory and descriptors differ without anything having leaked.
FDS, MEMORY_BYTES = 20, 24 << 20


def reset(bed, report):
    """39: every second 200 connections to a broker are reset in the middle of a request, those of the load among them,
    and 25 lose their other end. Fails if descriptors or memory grow, or a retry is taken for something new."""
    if not shutil.which("ss"):
        raise Skipped("ss is not installed")
    bed.begin()
    node = bed.nodes[0]
    pause = threading.Event()
    storm(node)
    settled(bed, node)
    before = usage(node)
    for _ in range(ROUNDS):
        storm(node)
        # The producer's and the witness', and whatever other brokers have with this one.
        subprocess.run(["ss", "-K", "-tn", "dport", "=", f":{node.port}"], check=True, stdout=subprocess.DEVNULL)
        pause.wait(1)
    bed.serves()
    settled(bed, node)
    after = usage(node)
    report.figure("reset-connections", ROUNDS * RESET, "connections")
    report.figure("reset-gap", round(bed.ledger.take_longest_gap(), 2), "s")
    report.figure("reset-memory", round((after[1] - before[1]) / 1e6, 1), "MB more")
    if after[0] > before[0] + FDS or after[1] > before[1] + MEMORY_BYTES:
        raise AssertionError(f"descriptors and memory were {before}, are {after}")


def storm(node):
    """One second's worth."""
    half = struct.pack(">ihhih", 1000, 0, 9, 1, -1) + bytes(100)  # a produce request that goes on
    sockets = []
    for number in range(RESET + HALF_OPEN):
        one = socket.create_connection((node.host, node.port), 5)
        one.sendall(half[:number % len(half)])
        sockets.append(one)
    for number, one in enumerate(sockets):
        if number < RESET:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        else:
            one.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)  # closes without a word; takes root
        one.close()


def settled(bed, node):
    """Waits until the broker has only the connections of those who are still there."""
    count = "kafka_server_socket_server_metrics_connection_count"
    if bed.cluster.target.kind == "ottla":
        bed.until("connections that are gone are closed", lambda: bed.metric(node, count) < HALF_OPEN)


def usage(node):
    """(descriptors, resident bytes) of the broker."""
    with open(f"/proc/{node.pid}/statm") as file:
        resident = int(file.read().split()[1]) * 4096
    with subprocess.Popen(["ls", f"/proc/{node.pid}/fd"], stdout=subprocess.PIPE) as listing:
        return len(listing.stdout.read().split()), resident


SCENARIOS = [("reset", reset, {"settings": {"connections.max.idle.ms": str(IDLE_MS)}})]
