#!/usr/bin/env python3
"""Runs the compatibility suites: real clients and tools, unmodified, against a real broker process.

    compat-tests/run.py                          all suites, small sizes
    compat-tests/run.py --full kill retention    these two, at the sizes of a release
    compat-tests/run.py --against kafka java     the same suite against a real Apache Kafka
    compat-tests/run.py --compare tools          the tools against both, output compared line by line
    compat-tests/run.py --nodes 3 --compare tools  the tools of a cluster against three nodes of each
    compat-tests/run.py --nodes 3 kafkajs        a client against three nodes, of which one after the other is restarted
    compat-tests/run.py --list

The broker is `OTTLA_BIN`, or is built by scripts/run. Exit code: 0 all passed, 1 something failed, 2 wrong usage.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True  # the clone stays as it is

from harness import broker as brokers  # noqa: E402
from harness import cluster as clusters  # noqa: E402
from harness import control, toolchain  # noqa: E402
from suites import SUITES  # noqa: E402


class Outcome:
    """What one program reported."""

    def __init__(self, label):
        self.label = label
        self.ok, self.skipped, self.failed = [], [], []
        self.figures = []
        self.seconds = 0.0

    def take(self, line):
        """Notes a line of a program if it is a fact; see harness/report.py."""
        words = line.split(maxsplit=3)
        if len(words) >= 3 and words[0] == "check" and words[2] in ("ok", "failed", "skipped"):
            why = words[3] if len(words) > 3 else ""
            getattr(self, words[2]).append((words[1], why))
        elif len(words) >= 3 and words[0] == "figure":
            self.figures.append(line.split(maxsplit=1)[1])
        else:
            return False
        return True

    def verdict(self):
        """One word for the summary."""
        if self.failed:
            return "FAILED"
        return "ok" if self.ok else "skipped"


def main():
    options = arguments()
    brokers.exit_on_sigterm()
    chosen = [suite for suite in SUITES if not options.suites or suite.name in options.suites]
    if options.list:
        for suite in SUITES:
            print(f"{suite.name:18} {suite.what}")
        return 0
    os.environ["OTTLA_TARGET"] = options.against
    os.environ["OTTLA_KAFKA_SCRIPTS"] = str(Path(options.kafka_scripts).resolve())
    os.environ["PYTHONPATH"] = str(HERE)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    if options.against == "ottla":
        os.environ["OTTLA_BIN"] = str(Path(os.environ.get("OTTLA_BIN") or build()).resolve())
    work = Path(tempfile.mkdtemp(prefix="ottla-compat-"))
    outcomes = []
    for suite in chosen:
        outcomes += run_suite(suite, options, work)
    print_summary(outcomes)
    failed = any(outcome.failed for outcome in outcomes)
    if failed or options.keep:
        print(f"logs: {work}")
    else:
        shutil.rmtree(work, ignore_errors=True)
    return 1 if failed else 0


def arguments():
    """The command line."""
    names = [suite.name for suite in SUITES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"any of: {' '.join(names)} (default: all)")
    parser.add_argument("--full", action="store_true", help="sizes of a release: 50 kills, 5 GB, 100,000 frames")
    parser.add_argument("--against", choices=["ottla", "kafka"], default="ottla", help="the broker under test")
    parser.add_argument("--compare", action="store_true", help="tools: run them against a real Kafka too and compare")
    parser.add_argument("--kafka-scripts", default=HERE / "kafka", metavar="DIR", help="folder with run-kafka and tool")
    parser.add_argument("--nodes", type=int, default=1, help="nodes of the cluster that a client is run against")
    parser.add_argument("--through", type=int, default=1, help="the node whose address a client is given")
    parser.add_argument("--cases", help="tools, operations, chaos: only these cases, as in 'quorum features'")
    parser.add_argument("--rounds", help="kill, cluster: how many times; chaos: how often each scenario")
    parser.add_argument("--size", help="kill, retention: bytes stored, such as 500M or 5G")
    parser.add_argument("--partitions", help="many-partitions: how many")
    parser.add_argument("--minutes", help="long-life: how long the disk is watched; chaos: how long all at once")
    parser.add_argument("--frames", help="hostile: how many mutated frames")
    parser.add_argument("--keep", action="store_true", help="keep logs and data even when all passed")
    parser.add_argument("--list", action="store_true", help="list the suites")
    options = parser.parse_args()
    unknown = set(options.suites) - set(names)
    if not 1 <= options.through <= options.nodes:
        parser.error(f"--through {options.through}: there are nodes 1 to {options.nodes}")
    if unknown:
        parser.error(f"no such suite: {' '.join(sorted(unknown))}")
    return options


def build():
    """Builds the broker and returns its path."""
    print("building the broker (OTTLA_BIN is not set)", flush=True)
    result = subprocess.run([str(HERE.parent / "scripts" / "run"), "--build-only"], stdout=subprocess.PIPE, check=True)
    return result.stdout.decode().splitlines()[-1]


def run_suite(suite, options, work):
    """Prepares a suite and runs its programs one after another."""
    print(f"\n== {suite.name}: {suite.what}", flush=True)
    outcome = Outcome(suite.name)
    try:
        programs = suite.prepare(options)
    except toolchain.Missing as why:
        # Asked for by name it must run; as one of all it may be left out, and the summary says so.
        (outcome.failed if options.suites else outcome.skipped).append(("toolchain", str(why)))
        print(f"   {why}", flush=True)
        return [outcome]
    except Exception as error:
        outcome.failed.append(("prepare", str(error)))
        print(f"   cannot prepare: {error}", flush=True)
        return [outcome]
    return [run_program(program, work / program.label, options) for program in programs]


def run_program(program, work, options):
    """Runs one program, with a broker, or a cluster of several nodes, of its own if it wants one."""
    work.mkdir(parents=True, exist_ok=True)
    outcome = Outcome(program.label)
    began = time.monotonic()
    env = {**os.environ, **program.env, "OTTLA_WORK": str(work)}
    if not program.broker:
        watch(program, env, work, outcome)
        outcome.seconds = time.monotonic() - began
        return outcome
    if options.nodes > 1:
        broker = clusters.RollingCluster(work, options.nodes, options.through)
    else:
        broker = brokers.Broker(brokers.Target.from_env(), work)
    line = None
    try:
        print(f"   {program.label}: broker ready after {broker.start():.2f} s", flush=True)
        line = control.ControlServer(broker)
        watch(program, {**env, "OTTLA_BOOTSTRAP": broker.bootstrap, "OTTLA_CONTROL": line.address}, work, outcome)
        if outcome.failed:
            print("\n".join(["   --- end of the broker's log ---", *broker.log_tail(15).splitlines()]), flush=True)
        if not broker.alive():
            outcome.failed.append(("broker", "it ended by itself"))
        elif broker.panics:
            outcome.failed.append(("broker", f"{broker.panics} panics in its log"))
        elif getattr(broker, "stop_all", broker.stop)() != 0 and broker.target.kind == "ottla":
            outcome.failed.append(("shutdown", "exit code not 0 after SIGTERM"))
    except RuntimeError as error:
        outcome.failed.append(("broker", str(error)))
        print(f"   {error}", flush=True)
    finally:
        if line:
            line.close()
        broker.kill()
    outcome.seconds = time.monotonic() - began
    return outcome


def watch(program, env, work, outcome):
    """Follows a program to its end: facts to the outcome and the screen, everything to its log."""
    command = [str(part) for part in program.command]
    process = subprocess.Popen(command, cwd=work, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT, start_new_session=True)
    late = threading.Event()
    timer = threading.Timer(program.limit_s, end_group, [process, late])
    timer.start()
    tail = []
    try:
        with open(work / "program.log", "wb") as out:
            for raw in process.stdout:
                out.write(raw)
                out.flush()
                line = raw.decode(errors="replace").rstrip()
                tail = (tail + [line])[-40:]
                if outcome.take(line) or line.startswith("# "):
                    print(f"   {line}", flush=True)
        code = process.wait()
    finally:
        timer.cancel()
        if process.poll() is None:
            end_group(process, late)
    if late.is_set():
        outcome.failed.append(("time", f"not done after {program.limit_s} s"))
    elif code != 0 and not outcome.failed:
        outcome.failed.append(("exit", f"code {code}"))
    elif not outcome.ok and not outcome.skipped and not outcome.failed:
        outcome.failed.append(("checks", "the program reported none"))
    if outcome.failed:
        print("\n".join(["   --- end of its log ---", *("   " + line for line in tail)]), flush=True)


def end_group(process, late):
    """Ends a program and what it started: politely, so that it can end its brokers, then by force."""
    late.set()
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        pass
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its own session, hence its own group
    except ProcessLookupError:
        pass


def print_summary(outcomes):
    """The table at the end."""
    print(f"\n{'program':20} {'result':8} {'ok':>4} {'failed':>7} {'skipped':>8} {'seconds':>8}")
    for outcome in outcomes:
        counts = f"{len(outcome.ok):>4} {len(outcome.failed):>7} {len(outcome.skipped):>8} {outcome.seconds:>8.0f}"
        print(f"{outcome.label:20} {outcome.verdict():8} {counts}")
    for outcome in outcomes:
        for figure in outcome.figures:
            print(f"  {outcome.label}: {figure}")
    for outcome in outcomes:
        for word, facts in (("failed", outcome.failed), ("skipped", outcome.skipped)):
            for name, why in facts:
                print(f"  {outcome.label}: {name} {word}: {why.splitlines()[0] if why else ''}")


if __name__ == "__main__":
    sys.exit(main())
