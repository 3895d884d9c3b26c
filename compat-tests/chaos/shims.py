"""What stands between each node and libc (`shim.c`): slow and failing syncs, a wall clock that jumps or runs too fast.

Takes a C compiler, and a broker that calls libc for these, as Ottla and the JVM do.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

from harness.report import Skipped

DELAY_US, FAILURES, PLACE, OFFSET_US, FAST_PPM, NUMBERS = range(6)
ANYWHERE, RECORDS, METADATA = range(3)


class Shims:
    """One for each node of a cluster, to be made before its nodes start."""

    def __init__(self, cluster, work):
        if not shutil.which("cc"):
            raise Skipped("cc is not installed")
        work.mkdir(parents=True, exist_ok=True)
        library = work / "shim.so"
        source = Path(__file__).parent / "shim.c"
        subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", library, source], check=True)
        self.controls = {}
        for node in cluster.nodes:
            path = work / f"shim-{node.number}"
            path.write_bytes(bytes(8 * NUMBERS))
            with open(path, "r+b") as file:
                self.controls[node] = mmap.mmap(file.fileno(), 8 * NUMBERS)
            node.env = {"LD_PRELOAD": str(library), "CHAOS_CONTROL": str(path)}

    def _set(self, node, place, number):
        struct.pack_into("=q", self.controls[node], 8 * place, number)

    def slow(self, node, seconds):
        """Every sync takes so much longer from now on."""
        self._set(node, DELAY_US, int(seconds * 1e6))

    def fail_once(self, node, place=ANYWHERE):
        """The next sync there answers EIO."""
        self._set(node, PLACE, place)
        self._set(node, FAILURES, 1)

    def has_failed(self, node):
        """True once it has."""
        return struct.unpack_from("=q", self.controls[node], 8 * FAILURES)[0] == 0

    def step(self, node, seconds):
        """The wall clock is off by so much from now on."""
        self._set(node, OFFSET_US, int(seconds * 1e6))

    def run_fast(self, node, share):
        """It runs faster by this share of the time."""
        self._set(node, FAST_PPM, int(share * 1e6))

    def heal(self):
        """Everything is as it should be."""
        for control in self.controls.values():
            control[:] = bytes(8 * NUMBERS)

    def close(self):
        """Nothing is left to be taken away: the files lie in the working directory."""
