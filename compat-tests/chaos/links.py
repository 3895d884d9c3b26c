"""Every node in a network namespace of its own, behind a switch that loses and delays what it is told to (`switch.py`).

Takes root, /dev/net/tun and `ip`; nothing else has to be installed. Node N listens to clients and brokers at address N
and to controllers at N + 10, so that the two can be cut apart; clients are at 100. Invariant: whatever happens, the
namespaces are gone at the end.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from harness.report import Skipped

CLIENTS = 100
# Large packets, few of them: the switch is a Python program.
MTU = 60000


class Links:
    """The network of a cluster, to be made before its nodes start."""

    def __init__(self, cluster, _work):
        if os.geteuid() != 0 or not os.path.exists("/dev/net/tun") or not shutil.which("ip"):
            raise Skipped("network namespaces take root, ip and /dev/net/tun")
        self.tag = f"ot{os.getpid() % 100000}"
        self.net = f"10.213.{os.getpid() % 250}"
        self.spaces = [f"{self.tag}-{node.number}" for node in cluster.nodes]
        devices = [f"{self.tag}c={CLIENTS}"]
        devices += [f"{self.tag}n{node.number}={node.number},{node.number + 10}" for node in cluster.nodes]
        command = [sys.executable, Path(__file__).parent / "switch.py", *devices]
        self.switch = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            self._answer()
            self._wire(cluster)
        except BaseException:
            self.close()
            raise

    def _wire(self, cluster):
        clients = f"{self.tag}c"
        ip("addr", "add", f"{self.net}.{CLIENTS}/24", "dev", clients)
        ip("link", "set", clients, "mtu", str(MTU), "up")
        for node, space in zip(cluster.nodes, self.spaces):
            own = f"{self.tag}n{node.number}"
            ip("netns", "add", space)
            ip("link", "set", own, "netns", space)
            for number in (node.number, node.number + 10):
                ip("-n", space, "addr", "add", f"{self.net}.{number}/24", "dev", own)
            ip("-n", space, "link", "set", own, "mtu", str(MTU), "up")
            ip("-n", space, "link", "set", "lo", "up")
            node.host, node.controller_host = f"{self.net}.{node.number}", f"{self.net}.{node.number + 10}"
            node.prefix = ["ip", "netns", "exec", space]

    def _answer(self):
        if self.switch.stdout.readline() != b"ok\n":
            raise RuntimeError("the switch has ended")

    def rules(self, *rules):
        """Replaces all rules: (source, destination, lost, shortest, longest) each."""
        self.switch.stdin.write(json.dumps(rules).encode() + b"\n")
        self.switch.stdin.flush()
        self._answer()

    def cut(self, pairs, both_ways=True):
        """Everything from the first to the second address of each pair is lost, and back."""
        turned = [(second, first) for first, second in pairs] if both_ways else []
        self.rules(*((source, destination, 1.0, 0, 0) for source, destination in [*pairs, *turned]))

    def heal(self):
        """Everything arrives at once again."""
        self.rules()

    def close(self):
        """Takes everything away."""
        self.switch.stdin.close()
        self.switch.wait()
        for space in self.spaces:
            subprocess.run(["ip", "netns", "del", space], check=False, stderr=subprocess.DEVNULL)


def addresses(*nodes):
    """All addresses of these nodes."""
    return [address for node in nodes for address in (node.number, node.number + 10)]


def between(some, others):
    """Every pair of one of the first and one of the second."""
    return [(one, other) for one in some for other in others]


def ip(*arguments):
    """Runs `ip`."""
    result = subprocess.run(["ip", *arguments], capture_output=True, text=True)
    if result.returncode != 0:
        raise Skipped(f"ip {' '.join(arguments)}: {result.stderr.strip()}")
