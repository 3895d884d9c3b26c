"""A switch in user space between network namespaces: every packet between two nodes, or a node and a client, is read
and written here, so any of them can be lost, delayed and overtaken. A program of its own; see `links.py` for who uses it.

Arguments: names of TUN devices to make, each with the last bytes of the addresses behind it: `dev1=1,11 dev2=2,12`.
Each line on stdin is JSON, the rules from now on: [[source, destination, lost, shortest, longest], ...] with last bytes
of addresses (0 for any), the share of packets that is lost, and the delay in seconds. The first that fits counts.
Every line is answered by one; the first answer comes when the devices are there. It ends with its stdin.
"""

import fcntl
import heapq
import json
import os
import random
import select
import struct
import sys
import time

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000
PACKET_BYTES = 1 << 16
# More packets than that are not under way; what comes on top is lost, as in any switch.
UNDER_WAY_MAX = 20000


def device(name):
    """Makes a TUN device. It lives as long as this program."""
    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(tun, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TUN | IFF_NO_PI))
    return tun


class Switch:
    """Where each address is, what the rules are, and what is under way."""

    def __init__(self, devices):
        self.at = {}
        for text in devices:
            name, addresses = text.split("=")
            tun = device(name)
            self.at.update({int(address): tun for address in addresses.split(",")})
        self.rules, self.known, self.queue, self.count = [], {}, [], 0
        self.chance = random.Random(1)

    def rule(self, source, destination):
        """(lost, shortest, longest) for packets between these two."""
        pair = (source, destination)
        if pair not in self.known:
            fits = (rule[2:] for rule in self.rules if rule[0] in (0, source) and rule[1] in (0, destination))
            self.known[pair] = next(fits, None)
        return self.known[pair]

    def take(self, packet):
        """A packet came in."""
        to = self.at.get(packet[19]) if packet[0] >> 4 == 4 else None
        if to is None:
            return
        rule = self.rule(packet[15], packet[19])
        if rule is None:
            return send(to, packet)
        lost, shortest, longest = rule
        if self.chance.random() < lost or len(self.queue) > UNDER_WAY_MAX:
            return
        self.count += 1
        due = time.monotonic() + self.chance.uniform(shortest, longest)
        heapq.heappush(self.queue, (due, self.count, to, packet))

    def deliver(self):
        """Sends what is due. Returns the seconds until there is more, None if nothing is under way."""
        while self.queue:
            due = self.queue[0][0] - time.monotonic()
            if due > 0:
                return due
            _, _, to, packet = heapq.heappop(self.queue)
            send(to, packet)
        return None

    def run(self):
        """Until stdin ends."""
        tuns = sorted(set(self.at.values()))
        control = sys.stdin.fileno()
        while True:
            ready, _, _ = select.select([control, *tuns], [], [], self.deliver())
            for tun in ready:
                if tun != control:
                    self.drain(tun)
            if control in ready:
                line = sys.stdin.buffer.raw.readline()  # past Python's buffer, which select does not see
                if not line:
                    return
                self.rules, self.known = json.loads(line), {}
                print("ok", flush=True)

    def drain(self, tun):
        """Takes what a device has, up to a good number of packets."""
        for _ in range(64):
            try:
                packet = os.read(tun, PACKET_BYTES)
            except BlockingIOError:
                return
            self.take(packet)


def send(tun, packet):
    """To the device; what it does not take is lost."""
    try:
        os.write(tun, packet)
    except OSError:
        pass  # down or full


if __name__ == "__main__":
    switch = Switch(sys.argv[1:])
    print("ok", flush=True)
    switch.run()
