"""One broker and every tool run against it: keeps normalised output by label, and notes broken promises."""

import os
import re
import subprocess
import threading
import time
from pathlib import Path

import normalise
from harness.broker import Broker, Target

STEP_LIMIT_S = 120
UNTIL_LIMIT_S = 60


class Outcome:
    """What one tool run printed, and its exit code."""

    def __init__(self, code, lines):
        self.code = code
        self.lines = lines

    def shown(self):
        """As text, for comparing and for reading."""
        return [f"exit code {self.code}", *self.lines]


class Session:
    """The tools against one broker. `outcomes` and `problems` are keyed by the label of the step."""

    def __init__(self, kind, work, scripts):
        self.kind = kind
        self.broker = Broker(Target.from_env(kind), work, name=kind)
        self.tool = Path(scripts) / "tool"
        self.work = Path(work) / f"{kind}-files"
        self.archive = Path(work) / "tools.jsa"
        self.outcomes = {}
        self.problems = {}

    def open(self):
        """Starts the broker."""
        self.work.mkdir(parents=True, exist_ok=True)
        self.broker.start()

    def close(self):
        """Ends the broker."""
        if self.broker.process is not None:
            self.broker.stop() if self.broker.alive() else self.broker.kill()

    def file(self, name, text):
        """A file for a tool to read; returns its path."""
        path = self.work / name
        path.write_text(text)
        return str(path)

    def run(self, name, *args, stdin=None):
        """Runs a tool once. Returns (exit code, stdout, stderr)."""
        # The tools' own log lines are switched off; what they print is what is compared.
        env = {**os.environ, "TOOL_LOG_LEVEL": "OFF", "JAVA_OPTS": self._java_options()}
        result = subprocess.run(self._command(name, args), input=(stdin or "").encode(), stdout=subprocess.PIPE,
                                stderr=subprocess.PIPE, env=env, timeout=STEP_LIMIT_S)
        return result.returncode, result.stdout.decode(errors="replace"), result.stderr.decode(errors="replace")

    def _java_options(self):
        # The classes that the first tool loaded are kept for all others: it halves what a tool costs.
        if not self.archive.exists():
            return ""
        return f"-XX:SharedArchiveFile={self.archive}"

    def warm_up(self):
        """Runs a tool once, so that those that follow start quicker."""
        env = {**os.environ, "JAVA_OPTS": f"-XX:ArchiveClassesAtExit={self.archive}"}
        subprocess.run(self._command("kafka-topics", ["--list"]), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       env=env, timeout=STEP_LIMIT_S)

    def _command(self, name, args):
        # A tool whose options belong to its commands is named with the command, as "kafka-cluster cluster-id".
        return [str(self.tool), *name.split(), "--bootstrap-server", self.broker.bootstrap, *args]

    def step(self, label, name, *args, stdin=None, code=0, expect=(), unordered=False, view=None):
        """Runs a tool and keeps its output. `code=None`: any exit code. `expect`: patterns that some line must match.

        `unordered`: the tool prints in the order of a hash map. `view`: a further function of the lines.
        """
        exit_code, out, err = self.run(name, *args, stdin=stdin)
        self._keep(label, exit_code, out, err, code, expect, unordered, view)
        return out

    def until(self, label, holds, name, *args, **rest):
        """Repeats a tool until `holds(lines)`, then keeps that output. For states that come about by themselves.

        `errors`: what it says on stderr counts among the lines.
        """
        deadline = time.monotonic() + UNTIL_LIMIT_S
        while True:
            exit_code, out, err = self.run(name, *args)
            if holds(normalise.lines(out) + (normalise.lines(err) if rest.get("errors") else [])):
                break
            if time.monotonic() > deadline:
                self.problems[label] = f"not reached in {UNTIL_LIMIT_S} s"
                break
        self._keep(label, exit_code, out, err, rest.get("code", 0), rest.get("expect", ()),
                   rest.get("unordered", False), rest.get("view"))

    def _keep(self, label, exit_code, out, err, code, expect, unordered, view):
        lines = normalise.lines(out) + ["! " + line for line in normalise.lines(err)]
        if view:
            lines = view(lines)
        if unordered:
            lines = sorted(lines)
        self.outcomes[label] = Outcome(exit_code, lines)
        if code is not None and exit_code != code:
            self.problems[label] = f"exit code {exit_code}, expected {code}: {' | '.join(lines)[:400]}"
        for pattern in expect:
            if not any(re.search(pattern, line) for line in lines):
                self.problems[label] = f"no line matches /{pattern}/: {' | '.join(lines)[:400]}"

    def write_outcomes(self, case):
        """Adds what the tools printed to a file for people."""
        with open(self.work.parent / f"{self.kind}-output.txt", "a") as out:
            for label, outcome in self.outcomes.items():
                out.write("\n".join([f"== {case}/{label}", *outcome.shown(), "", ""]))

    def background(self, name, *args):
        """A tool that runs while others do; see `Background`."""
        return Background(self._command(name, args))


class Background:
    """A running tool. Leaving the block ends it with SIGTERM, as Ctrl-C would."""

    def __init__(self, command):
        self.command = command
        self.lines, self.changed = [], threading.Condition()

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL)
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def _read(self):
        for raw in self.process.stdout:
            with self.changed:
                self.lines.append(raw.decode(errors="replace").rstrip("\n"))
                self.changed.notify_all()

    def await_lines(self, count):
        """Waits until the tool has printed that many lines."""
        with self.changed:
            if not self.changed.wait_for(lambda: len(self.lines) >= count, UNTIL_LIMIT_S):
                raise TimeoutError(f"{len(self.lines)} of {count} lines")

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
