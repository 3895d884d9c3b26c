"""How soon a broker is of use after its start, and what memory it holds before anything is asked of it.

The brokers take turns and never run at the same time here. A start is counted from the spawn of the process to the
first answer that accepts a record, with acks=all; all others but the very first find a directory with one topic.
"""

import shutil
import time

from bench import wire
from bench.progress import say

TOPIC = "first"
IDLE_READINGS = 3


def measure(contestants, options, work, results):
    """All of it. `options`: starts, kafka_starts."""
    accept = wire.produce(TOPIC, int(time.time() * 1000))
    subjects = {}
    for contestant in contestants:
        say(f"{contestant.title}: a directory with one topic, and a start that is not counted")
        subject = subjects[contestant.name] = contestant.subject(work, "starts")
        made = [wire.broker_ready(), wire.create_topic(TOPIC, 1), wire.topic_ready(TOPIC, 1), accept]
        with subject.running(made):
            pass
    counts = {"ottla": options.starts, "kafka": options.kafka_starts}
    restarts(subjects, {name: counts[name] for name in subjects}, accept, results)
    idle(subjects, results)
    for contestant in contestants:
        if contestant.name == "ottla":  # a Kafka has to be formatted first, which is not a start
            first_starts(contestant, options.starts, accept, work, results)


def restarts(subjects, counts, accept, results):
    """Starts with the directory as the last run left it."""
    done = dict.fromkeys(counts, 0)
    for name in interleaved(counts):
        with subjects[name].running([accept]) as took_ms:
            pass
        done[name] += 1
        results.add("start_ms", name, took_ms)
        say(f"start {done[name]}/{counts[name]} {name}: first accepted produce after {took_ms:.1f} ms")


def interleaved(counts):
    """Names, each as often as it counts, spread evenly over the whole."""
    places = [((n + 0.5) / count, name) for name, count in counts.items() for n in range(count)]
    return [name for _, name in sorted(places)]


def idle(subjects, results):
    """Resident memory of a broker that nobody has asked for anything but whether it is there."""
    for n in range(IDLE_READINGS):
        for name, subject in subjects.items():
            with subject.running([wire.broker_ready()]):
                memory_mb = subject.still_memory_mb()
            results.add("idle_mb", name, memory_mb)
            say(f"idle {n + 1}/{IDLE_READINGS} {name}: {memory_mb:.1f} MB")
    results.remarks += [remark for subject in subjects.values() for remark in subject.remarks]


def first_starts(contestant, count, accept, work, results):
    """Starts without a directory. The client asks for the topic first, which makes the broker create it."""
    for n in range(count):
        subject = contestant.subject(work, f"first-{n}")
        with subject.running([wire.topic_ready(TOPIC, 1, create=True), accept]) as took_ms:
            pass
        shutil.rmtree(subject.data)
        results.add("first_start_ms", contestant.name, took_ms)
        say(f"first start {n + 1}/{count} {contestant.name}: first accepted produce after {took_ms:.1f} ms")
