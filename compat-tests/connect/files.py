"""Kafka Connect, distributed: a file through a topic into a file, by two workers of which one restarts.

The offsets, the configuration and the status of the connectors live in compacted topics of the broker, the membership
of the workers in a group of Connect's own protocol. Over clean ends every line arrives once and in order; after a
worker was killed, or the broker restarted, a line may arrive again but none is missing.
"""

import argparse
import json
import os
import sys
import urllib.error
import urllib.request
from pathlib import Path

from harness import control
from harness.broker import exit_on_sigterm, free_ports
from harness.report import Report, log
from process import JavaProcess, until

TOPIC = "file-lines"
SOURCE, SINK = "file-source", "file-sink"


class Worker(JavaProcess):
    """One worker with its REST address."""

    def __init__(self, name, work):
        self.port = free_ports(1)[0]
        self.id = f"127.0.0.1:{self.port}"
        super().__init__(name, "org.apache.kafka.connect.cli.ConnectDistributed", {
            "bootstrap.servers": os.environ["OTTLA_BOOTSTRAP"],
            "group.id": "connect",
            "listeners": f"http://{self.id}",
            "rest.advertised.host.name": "127.0.0.1",
            "key.converter": "org.apache.kafka.connect.storage.StringConverter",
            "value.converter": "org.apache.kafka.connect.storage.StringConverter",
            "config.storage.topic": "connect-configs",
            "offset.storage.topic": "connect-offsets",
            "status.storage.topic": "connect-status",
            "config.storage.replication.factor": "1",
            "offset.storage.replication.factor": "1",
            "status.storage.replication.factor": "1",
            "offset.flush.interval.ms": "500",
            # A worker that left is replaced at once, not after the five minutes it is given to come back.
            "scheduled.rebalance.max.delay.ms": "0",
            "heartbeat.interval.ms": "500",
            "session.timeout.ms": "6000",
            # So also for the sink's own group: a task that ends while the broker is away cannot leave it.
            "consumer.heartbeat.interval.ms": "500",
            "consumer.session.timeout.ms": "6000",
            "reconnect.backoff.max.ms": "500",
        }, work)

    def ask(self, path, method="GET", body=None):
        """One REST call; None while the worker is not there, or not ready for it."""
        request = urllib.request.Request(f"http://{self.id}{path}", method=method,
                                         data=json.dumps(body).encode() if body is not None else None,
                                         headers={"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.loads(answer.read() or b"true")
        except urllib.error.HTTPError as error:
            if error.code in (404, 409, 500, 503):  # not known yet, a rebalance is under way, the broker is away
                return None
            raise
        except OSError:
            return None


class Job:
    """The two connectors, the files, and the lines written so far."""

    def __init__(self, work):
        self.source, self.sink = Path(work) / "in.txt", Path(work) / "out.txt"
        self.source.touch()
        self.written = 0
        self.workers = [Worker("worker-a", work), Worker("worker-b", work)]

    def create(self):
        """Creates both connectors."""
        common = {"tasks.max": "1"}
        source = {**common, "connector.class": "org.apache.kafka.connect.file.FileStreamSourceConnector",
                  "file": str(self.source), "topic": TOPIC}
        sink = {**common, "connector.class": "org.apache.kafka.connect.file.FileStreamSinkConnector",
                "file": str(self.sink), "topics": TOPIC, "consumer.override.auto.offset.reset": "earliest"}
        for name, config in ((SOURCE, source), (SINK, sink)):
            until(f"creating {name}", lambda: self.workers[0].ask(f"/connectors/{name}/config", "PUT", config))

    def running(self, worker):
        """Which worker runs which connector's task, once both run."""
        def look():
            places = {}
            for name in (SOURCE, SINK):
                status = worker.ask(f"/connectors/{name}/status")
                tasks = status["tasks"] if status else []
                if [task["state"] for task in tasks] == ["FAILED"]:
                    raise AssertionError(f"{name} failed: {tasks[0]['trace'][:300]}")
                if [task["state"] for task in tasks] != ["RUNNING"] or status["connector"]["state"] != "RUNNING":
                    return None
                places[name] = tasks[0]["worker_id"]
            return places
        return until("both connectors running", look)

    def write(self, count):
        """Appends lines."""
        with open(self.source, "a") as out:
            for n in range(self.written, self.written + count):
                out.write(f"line {n} {'x' * (n % 50)}\n")
        self.written += count

    def lines(self):
        """What has arrived: complete lines only."""
        if not self.sink.exists():
            return []
        return self.sink.read_text().split("\n")[:-1]

    def arrived(self):
        """Waits until every line has arrived, and gives what arrived."""
        wanted = self.source.read_text().split("\n")[:-1]
        until("every line in the sink's file", lambda: set(self.lines()) >= set(wanted))
        return wanted, self.lines()

    def arrived_once(self):
        """Waits until every line has arrived; each must be there once, in order."""
        wanted, got = self.arrived()
        if got != wanted:
            raise AssertionError(f"{len(got)} lines arrived, {len(wanted)} were written, or not in order")


def run(job, count, report):
    """All checks; each begins where the one before it ended."""
    first, second = job.workers
    with report.check("two-workers"):
        for worker in job.workers:
            worker.start()
        until("the first worker", lambda: first.ask("/"))
        until("the second worker", lambda: second.ask("/"))
        job.create()
        places = job.running(first)
        log(f"tasks: {places}")
        if set(places.values()) != {first.id, second.id}:
            raise AssertionError(f"the tasks are not spread over both workers: {places}")
    with report.check("file-to-file"):
        job.write(count)
        job.arrived_once()
    with report.check("offsets-stored"):
        until("the source's offset at the end of its file", lambda: position(first) == job.source.stat().st_size)
    with report.check("worker-restart"):
        # The one that reads the file: the other takes over where it was, from the topic of the offsets.
        gone = next(worker for worker in job.workers if worker.id == job.running(first)[SOURCE])
        other = next(worker for worker in job.workers if worker is not gone)
        gone.stop()
        job.write(count)
        job.arrived_once()
        if set(job.running(other).values()) != {other.id}:
            raise AssertionError("a task is still said to run on the worker that left")
        gone.start()
        until("the tasks on both workers again", lambda: len(set(job.running(other).values())) == 2)
        job.write(count)
        job.arrived_once()
    with report.check("both-restart"):
        for worker in job.workers:
            worker.stop()
        job.write(count)
        for worker in job.workers:
            worker.start()
        job.running(first)
        job.arrived_once()
    with report.check("broker-restart"):
        job.write(count)
        log(f"restart: ready after {control.ask('restart'):.2f} s")
        job.write(count)
        log(f"crash: ready after {control.ask('crash'):.2f} s")
        job.write(count)
        wanted, got = job.arrived()
        report.figure("lines-again-after-broker-restart", len(got) - len(wanted), "lines")
    with report.check("worker-killed"):
        gone = next(worker for worker in job.workers if worker.id == job.running(first)[SOURCE])
        gone.kill()
        job.write(count)
        wanted, got = job.arrived()
        report.figure("lines-again-after-kill", len(got) - len(wanted), "lines")


def position(worker):
    """The byte of the source's file up to which lines are stored, as Connect tells it."""
    offsets = worker.ask(f"/connectors/{SOURCE}/offsets")
    return offsets["offsets"][0]["offset"]["position"] if offsets and offsets["offsets"] else None


def main():
    exit_on_sigterm()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lines", type=int, required=True, help="lines written in each step")
    options = parser.parse_args()
    report = Report()
    job = Job(os.environ["OTTLA_WORK"])
    run(job, options.lines, report)
    if report.failed:
        for worker in job.workers:
            print(f"--- end of {worker.log.name}\n{worker.log_tail()}", flush=True)
    for worker in job.workers:
        worker.kill()
    return report.exit_code()


if __name__ == "__main__":
    sys.exit(main())
