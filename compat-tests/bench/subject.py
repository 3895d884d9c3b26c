"""A broker that is measured: its bare process, spawned and read through /proc.

Invariants: what is measured is the broker's own process, never a script around it. A Kafka is therefore set up through
the scripts once, which also formats its directory; from then on the command line that they arrived at is spawned
directly. Both get their defaults, but for the rebalance delay (harness.broker.COMMON) and single replicas.
"""

import os
import subprocess
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import wire
from bench.progress import say
from harness.broker import START_LIMIT_S, Broker, Target

# What kafka-server-start.sh gives the JVM. Of two contradicting options the JVM takes the later.
KAFKA_JVM = ["-server", "-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20",
             "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"]
# A broker is quiet when it used at most so much CPU in a window; what it did before that belongs to the work before.
# An idle JVM needs a few hundredths of a core for itself.
QUIET_WINDOW_S, QUIET_CPU_S, QUIET_LIMIT_S = 1, 0.05, 60
# Two readings of memory are equal within this share: a JVM never stands quite still.
STILL_WINDOW_S, STILL_SHARE, STILL_LIMIT_S = 2, 0.005, 60


@dataclass(frozen=True)
class Contestant:
    """One of the brokers that are compared."""

    name: str
    title: str
    target: Target
    settings: dict = field(default_factory=dict)

    def subject(self, work, name):
        """A broker with a data directory of its own, prepared to be spawned."""
        subject = Subject(self, Path(work) / self.name, name)
        subject.prepare()
        return subject


class Subject(Broker):
    """One broker under measurement. `remarks` are for the reader of the result."""

    def __init__(self, contestant, work, name):
        super().__init__(contestant.target, work, contestant.settings, name=name)
        self.contestant = contestant
        self.command = []
        self.remarks = []

    @property
    def name(self):
        """Of the contestant."""
        return self.contestant.name

    def prepare(self):
        """Finds out the command line of the bare process."""
        self.work.mkdir(parents=True, exist_ok=True)
        if self.target.kind == "ottla":
            self.command = self.target.command(self)
            return
        self.start()
        self.command = as_shipped(Path(f"/proc/{self.pid}/cmdline").read_text().split("\0")[:-1])
        self.stop()

    @contextmanager
    def running(self, steps):
        """Spawns the process and waits until `steps` were accepted; yields the milliseconds from spawn to then.

        Ends it cleanly at the end of the block, and kills it if the block fails.
        """
        env = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        try:
            with open(self.log, "ab") as out:
                began = time.monotonic()
                self.process = subprocess.Popen(self.command, cwd=self.work, env=env, stdin=subprocess.DEVNULL,
                                                stdout=out, stderr=subprocess.STDOUT)
            accepted = wire.insist(self, steps, START_LIMIT_S[self.target.kind])
            yield (accepted - began) * 1000
            code = self.stop()
            if code != 0 and self.target.kind == "ottla":
                raise RuntimeError(f"exit code {code} after SIGTERM; end of its log:\n{self.log_tail()}")
        finally:
            self.kill()  # nothing if it has ended

    def quiet_cpu_s(self):
        """Waits until what was begun is finished too (flushes, compactions); the CPU time up to then."""
        before, deadline = self.cpu_s(), time.monotonic() + QUIET_LIMIT_S
        while True:
            time.sleep(QUIET_WINDOW_S)
            now = self.cpu_s()
            if now - before <= QUIET_CPU_S:
                return before
            if time.monotonic() > deadline:
                self._remark(f"still busy {QUIET_LIMIT_S} s after its work; its CPU time includes those")
                return now
            before = now

    def still_memory_mb(self):
        """Resident memory in MB, once two readings agree."""
        before, deadline = self.memory_bytes(), time.monotonic() + STILL_LIMIT_S
        while True:
            time.sleep(STILL_WINDOW_S)
            now = self.memory_bytes()
            if abs(now - before) <= before * STILL_SHARE:
                return now / 1e6
            if time.monotonic() > deadline:
                self._remark(f"memory still moved after {STILL_LIMIT_S} s, {now / 1e6:.1f} MB is the last reading")
                return now / 1e6
            before = now

    def _remark(self, text):
        self.remarks.append(f"{self.contestant.title}: {text}")
        say(self.remarks[-1])


def as_shipped(command):
    """Kafka's command line with the JVM options of its own start script."""
    if "-cp" not in command:
        raise RuntimeError(f"this is not the command line of a Kafka: {' '.join(command)}")
    at = command.index("-cp")
    return command[:at] + KAFKA_JVM + command[at:]
