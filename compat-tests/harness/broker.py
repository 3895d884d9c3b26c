"""A broker as a process: Ottla, or a real Kafka that is treated in exactly the same way.

Invariants: a broker is ready when it has said so on stdout, never after a guessed time; only processes started here are
signalled, by pid; whatever is still running when the program ends is killed.
"""

import atexit
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

READY = re.compile(r"Kafka\s*Server started")
PANIC = re.compile(r"panicked at")
START_LIMIT_S = {"ottla": 60, "kafka": 120}
STOP_LIMIT_S = 60
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
# The same node for both, so that what tools print about it can be compared.
COMMON = {"node.id": "1", "group.initial.rebalance.delay.ms": "0"}

_running = set()


def _kill_what_is_left():
    for process in list(_running):
        if process.poll() is None:
            process.kill()


atexit.register(_kill_what_is_left)


def exit_on_sigterm():
    """Makes SIGTERM unwind the program, so that its brokers do not outlive it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))


def free_ports(count):
    """Ports that nobody listens on now. All are held until all are known, so that they differ."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for s in sockets:
            s.bind(("127.0.0.1", 0))
        return [s.getsockname()[1] for s in sockets]
    finally:
        for s in sockets:
            s.close()


class Target:
    """Which broker is tested and how it is started: `OTTLA_TARGET`, `OTTLA_BIN`, `OTTLA_KAFKA_SCRIPTS`."""

    def __init__(self, kind, program):
        self.kind = kind
        self.program = program

    @staticmethod
    def from_env(kind=None):
        """The target that the driver chose for this program, or `kind` whatever it chose."""
        kind = kind or os.environ.get("OTTLA_TARGET", "ottla")
        variable = {"ottla": "OTTLA_BIN", "kafka": "OTTLA_KAFKA_SCRIPTS"}[kind]
        program = os.environ.get(variable)
        if not program:
            raise SystemExit(f"{variable} is not set: run this through compat-tests/run.py")
        return Target(kind, program)

    def command(self, broker):
        """The argument list that starts `broker`."""
        if self.kind == "kafka":
            settings = [f"{key}={value}" for key, value in broker.settings.items() if key != "node.id"]
            return [str(Path(self.program) / "run-kafka"), "--port", str(broker.port), "--dir", str(broker.data),
                    "--voters", f"1@127.0.0.1:{broker.second_port}", *settings]
        settings = {
            "listeners": f"PLAINTEXT://{broker.host}:{broker.port}",
            "log.dirs": str(broker.data),
            "ottla.metrics.listener": f"{broker.host}:{broker.second_port}",
            **broker.settings,
        }
        command = [self.program]
        for key, value in settings.items():
            command += ["--override", f"{key}={value}"]
        return command


class Broker:
    """One broker with its data directory. `start`, `stop` and `kill` may alternate; the port and the data stay."""

    def __init__(self, target, work, settings=None, name="broker"):
        self.target = target
        self.work = Path(work)
        self.settings = {**COMMON, **(settings or {})}
        self.data = self.work / f"{name}-data"
        self.log = self.work / f"{name}.log"
        # Kafka needs the second port for its controller, Ottla for its metrics.
        self.port, self.second_port = free_ports(2)
        self.host = "127.0.0.1"
        # What the program is started by, such as `ip netns exec`, and what it finds in its environment besides.
        self.prefix, self.env = [], {}
        self.process = None
        self.panics = 0
        self.starts = 0

    @property
    def bootstrap(self):
        """host:port for clients."""
        return f"{self.host}:{self.port}"

    @property
    def pid(self):
        """The process id of the running broker."""
        return self.process.pid

    def start(self):
        """Starts the process and waits until it says that it is ready. Returns the seconds that took."""
        assert self.process is None, "already running"
        self.work.mkdir(parents=True, exist_ok=True)
        if self.target.kind == "kafka":
            env = {**os.environ, "KAFKA_LOG_LEVEL": "INFO"}  # the readiness line is logged at this level
        else:
            # Ottla reads KAFKA_* as settings; what the caller's shell happens to hold is none.
            env = {name: value for name, value in os.environ.items() if not name.startswith("KAFKA_")}
        self.starts += 1
        began = time.monotonic()
        self.process = subprocess.Popen([*self.prefix, *self.target.command(self)], cwd=self.work,
                                        env={**env, **self.env}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        _running.add(self.process)
        ready = threading.Event()
        reader = threading.Thread(target=self._read, args=(self.process, ready), daemon=True)
        reader.start()
        limit = START_LIMIT_S[self.target.kind]
        ready.wait(limit)
        took = time.monotonic() - began
        if not ready.is_set() or self.process.poll() is not None:
            code = self.process.poll()
            self.kill()
            raise RuntimeError(f"broker not ready after {took:.1f} s (exit code {code}):\n{self.log_tail()}")
        return took

    def _read(self, process, ready):
        """Copies the broker's output to its log and watches for the lines that mean something."""
        with open(self.log, "ab") as out:
            for line in process.stdout:
                out.write(line)
                out.flush()
                text = line.decode(errors="replace")
                if PANIC.search(text):
                    self.panics += 1
                if READY.search(text):
                    ready.set()
        process.wait()  # the output ended, and so does the process: whoever waits looks at the exit code
        ready.set()

    def stop(self):
        """SIGTERM, and waits for the clean end. Returns the exit code."""
        process = self.process
        process.terminate()
        try:
            code = process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise RuntimeError(f"broker still ran {STOP_LIMIT_S} s after SIGTERM:\n{self.log_tail()}")
        self._forget(process)
        return code

    def kill(self):
        """SIGKILL, and waits until the process is gone."""
        process = self.process
        if process is not None:
            process.kill()
            process.wait()
            self._forget(process)

    def signal(self, number):
        """A signal for the process, such as SIGSTOP and SIGCONT."""
        self.process.send_signal(number)

    def _forget(self, process):
        _running.discard(process)
        self.process = None

    def alive(self):
        """False when the broker ended without being asked to."""
        return self.process is not None and self.process.poll() is None

    def cpu_s(self):
        """User and system time of all threads of the process until now."""
        after_name = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(after_name[11]) + int(after_name[12])) / CLOCK_TICKS

    def memory_bytes(self):
        """Resident memory of the process now."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no VmRSS: the broker is gone")

    def disk_bytes(self):
        """What the data directory occupies, in allocated blocks."""
        total = 0
        for folder, _, files in os.walk(self.data):
            for name in files:
                try:
                    total += os.lstat(os.path.join(folder, name)).st_blocks * 512
                except FileNotFoundError:
                    pass  # removed between the listing and the look
        return total

    def log_tail(self, lines=40):
        """The last lines of the broker's log, for an error message."""
        if not self.log.exists():
            return "(no output)"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        if self.process is not None:
            if self.alive():
                self.stop()
            else:
                self.kill()
