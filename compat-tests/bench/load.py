"""What it costs a broker to take a gigabyte in and to give it out again.

Both brokers run all the while, so that both stay warm, but only one works at a time; who goes first alternates. Every
round has its own topic, and old ones stay, as they would. The first round is the warm-up: it is measured, kept apart
and not counted. CPU time is read when a broker is quiet, so that work it put off is charged to whom it belongs.
"""

import os
import shutil
from contextlib import ExitStack

from bench import wire
from bench.progress import say

GB = 1e9
LEADERS_LIMIT_S = 60
# Space for each byte produced, while compaction holds old and new files.
ROOM = 2.5


def measure(contestants, options, work, results, workloads):
    """All workloads. `options`: size (bytes each round), rounds, kafka_scripts."""
    for workload in workloads:
        size = int(options.size * workload.share)
        records = -(-size // workload.record_bytes)
        need_room(work, ROOM * size * (options.rounds + 1) * len(contestants))
        say(f"workload {workload.name}: {workload.what}; {records} records a round")
        with ExitStack() as running:
            subjects = []
            for contestant in contestants:
                subject = contestant.subject(work, f"load-{workload.name}")
                running.enter_context(subject.running([wire.broker_ready()]))
                subjects.append(subject)
            rounds(subjects, workload, records, options, results)
            results.remarks += [remark for subject in subjects for remark in subject.remarks]
        for subject in subjects:
            shutil.rmtree(subject.data)


def need_room(work, size_bytes):
    """Refuses to begin what would fill the disk."""
    free = shutil.disk_usage(work).free
    if free < size_bytes:
        raise RuntimeError(f"{size_bytes / GB:.0f} GB are needed in {work}, {free / GB:.0f} GB are free: "
                           "choose another --work, a smaller --size or fewer --rounds")


def rounds(subjects, workload, records, options, results):
    """The warm-up, then the rounds that count, then what is left on the disk."""
    empty = {subject.name: subject.disk_bytes() for subject in subjects}
    for number in range(options.rounds + 1):
        label = f"round {number}/{options.rounds}" if number else "warm-up"
        for subject in subjects if number % 2 == 0 else reversed(subjects):
            turn = Turn(subject, workload, records, options.kafka_scripts, results)
            turn.take(number, label)
    for subject in subjects:
        produced = records * workload.record_bytes * (options.rounds + 1)
        note = f"{workload.name}.disk_per_byte"
        results.add(note, subject.name, (subject.disk_bytes() - empty[subject.name]) / produced)
        results.add(f"{workload.name}.end_mb", subject.name, subject.still_memory_mb())


class Turn:
    """One broker's turn in one round."""

    def __init__(self, subject, workload, records, scripts, results):
        self.subject, self.workload, self.records, self.results = subject, workload, records, results
        self.scripts = scripts
        self.gb = records * workload.record_bytes / GB
        self.prefix = workload.name

    def take(self, number, label):
        """Produces, then consumes. Number 0 is the warm-up."""
        subject, workload = self.subject, self.workload
        if number == 0:
            self.prefix = f"{workload.name}.warm-up"
        os.sync()  # what the other broker left for the kernel to write must not slow this one down
        topic = f"{workload.name}-{number}"
        wire.insist(subject, [wire.create_topic(topic, workload.partitions),
                              wire.topic_ready(topic, workload.partitions)], LEADERS_LIMIT_S)
        if workload.rate:
            # The first requests open files and warm code; at a fixed rate they would be the slowest thousandth.
            workload.driver.produce(self.scripts, subject, topic, workload, max(1, self.records // 20))
        self._phase("produce", label, topic, workload.driver.produce)
        if number == 0:
            memory_mb = subject.still_memory_mb()
            self.results.add(f"{workload.name}.loaded_mb", subject.name, memory_mb)
            say(f"{label} {subject.name}: {memory_mb:.1f} MB resident after {self.gb:.2f} GB")
        if workload.driver.consume:
            self._phase("consume", label, topic, workload.driver.consume)

    def _phase(self, verb, label, topic, drive):
        subject = self.subject
        before = subject.quiet_cpu_s()
        run = drive(self.scripts, subject, topic, self.workload, self.records)
        cpu = (subject.quiet_cpu_s() - before) / self.gb
        rate = self.gb * 1000 / run.seconds
        figures = {"cpu": cpu, "mb_per_s": rate, "wall": run.seconds / self.gb, **run.latencies_ms}
        for name, value in figures.items():
            self.results.add(f"{self.prefix}.{verb}_{name}", subject.name, value)
        say(f"{label} {subject.name}: {verb} {cpu:.2f} CPU s/GB, {rate:.0f} MB/s")
