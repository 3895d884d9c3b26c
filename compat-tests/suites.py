"""The suites: which programs each of them runs, with what, for how long. The driver knows nothing else about them.

A suite is prepared (libraries fetched, programs built) and then gives its programs. A program that wants a broker gets
one of its own, with the address in `OTTLA_BOOTSTRAP` and the control line in `OTTLA_CONTROL`; the others start theirs.
"""

import sys
from dataclasses import dataclass, field
from pathlib import Path

from harness import toolchain

HERE = Path(__file__).resolve().parent
KAFKA = "4.3.1"
JAVA_CLIENTS = ["4.4.0", "4.3.1", "3.9.1"]


@dataclass
class Program:
    """One process of a suite."""

    label: str
    command: list
    broker: bool = False
    limit_s: int = 900
    env: dict = field(default_factory=dict)


@dataclass
class Suite:
    """A named set of programs. `prepare(options)` may raise `toolchain.Missing`."""

    name: str
    what: str
    prepare: object


def _tools(options):
    toolchain.need("java", "mvn")
    command = [sys.executable, HERE / "tools" / "suite.py"]
    if options.compare:
        command.append("--compare")
    if options.nodes > 1:
        command += ["--nodes", str(options.nodes)]
    return [Program("tools", command + (options.cases or "").split(), limit_s=3600)]


def _java(options):
    programs = []
    for version in JAVA_CLIENTS:
        classes = toolchain.java_classes(HERE / "java", version)
        command = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", classes, "ottla.compat.Main"]
        programs.append(Program(f"java-{version}", command, broker=True))
    return programs


def _python_confluent(options):
    folder = HERE / "python-confluent"
    python = toolchain.python_with("confluent", folder / "requirements.txt")
    return [Program("python-confluent", [python, folder / "client.py"], broker=True)]


def _kafka_python(options):
    folder = HERE / "kafka-python"
    python = toolchain.python_with("kafka-python", folder / "requirements.txt")
    return [Program("kafka-python", [python, folder / "client.py"], broker=True)]


def _aiokafka(options):
    folder = HERE / "aiokafka"
    python = toolchain.python_with("aiokafka", folder / "requirements.txt")
    return [Program("aiokafka", [python, folder / "client.py"], broker=True)]


def _franz_go(options):
    return [Program("franz-go", [toolchain.go_program(HERE / "franz-go", HERE / "harness" / "go")], broker=True)]


def _sarama(options):
    return [Program("sarama", [toolchain.go_program(HERE / "sarama", HERE / "harness" / "go")], broker=True)]


def _kafka_go(options):
    return [Program("kafka-go", [toolchain.go_program(HERE / "kafka-go", HERE / "harness" / "go")], broker=True)]


def _rdkafka(options):
    return [Program("rdkafka", [toolchain.cargo_program(HERE / "rdkafka", "compat-rdkafka")], broker=True)]


def _kafkajs(options):
    modules = toolchain.node_modules(HERE / "kafkajs")
    env = {"NODE_PATH": str(modules), "KAFKAJS_NO_PARTITIONER_WARNING": "1"}
    return [Program("kafkajs", ["node", HERE / "kafkajs" / "main.js"], broker=True, env=env)]


def _node_rdkafka(options):
    toolchain.need("cc", "c++", "make", "python3")
    modules = toolchain.node_modules(HERE / "node-rdkafka")
    # Every consumer occupies a thread of the pool while it waits.
    env = {"NODE_PATH": str(modules), "UV_THREADPOOL_SIZE": "16"}
    return [Program("node-rdkafka", ["node", HERE / "node-rdkafka" / "main.js"], broker=True, env=env)]


def _streams(options):
    java = HERE / "java" / "src" / "ottla" / "compat"
    shared = [java / name for name in ("Clients.java", "Report.java", "Samples.java")]
    classes = toolchain.java_classes(HERE / "streams", KAFKA, *shared)
    lines = "200000" if options.full else "2000"
    command = ["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", "-cp", classes, "ottla.compat.Streams", lines]
    return [Program("streams", command, broker=True)]


def _connect(options):
    env = {"OTTLA_CONNECT_JARS": toolchain.java_jars(HERE / "connect", KAFKA)}
    lines = "20000" if options.full else "500"
    command = [sys.executable, HERE / "connect" / "files.py", "--lines", lines]
    return [Program("connect", command, broker=True, env=env)]


def _mirror(options):
    env = {"OTTLA_CONNECT_JARS": toolchain.java_jars(HERE / "connect", KAFKA)}
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    return [Program("mirror", [python, HERE / "connect" / "mirror.py"], broker=True, env=env)]


def _kill(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    rounds, stored = ("50", "5G") if options.full else ("5", "200M")
    command = [python, HERE / "kill" / "suite.py", "--rounds", options.rounds or rounds]
    command += ["--stored", options.size or stored]
    return [Program("kill", command, limit_s=3600)]


def _cluster(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    command = [python, HERE / "cluster" / "suite.py", "--rounds", options.rounds or ("20" if options.full else "3")]
    return [Program("cluster", command, limit_s=3600)]


def _operations(options):
    toolchain.need("java", "mvn")
    command = [sys.executable, HERE / "operations" / "suite.py", *(options.cases or "").split()]
    return [Program("operations", command, limit_s=3600)]


def _chaos(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    command = [python, HERE / "chaos" / "suite.py", "--rounds", options.rounds or "1"]
    mix = str(float(options.minutes) * 60) if options.minutes else ("1800" if options.full else "60")
    only = ",".join((options.cases or "").split())
    return [Program("chaos", [*command, "--mix", mix, "--only", only], limit_s=7200)]


def _hostile(options):
    python = toolchain.python_with("kafka-python", HERE / "kafka-python" / "requirements.txt")
    frames = options.frames or ("100000" if options.full else "10000")
    return [Program("hostile", [python, HERE / "hostile" / "suite.py", "--frames", frames], limit_s=3600)]


def _image(options):
    return [Program("image", ["bash", "-c", 'exec "$0" "$OTTLA_BIN"', HERE.parent / "docker" / "test"])]


def _retention(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    size, slack = ("5G", "0") if options.full else ("1G", "300M")
    command = [python, HERE / "retention" / "suite.py", "--size", options.size or size, "--slack", slack]
    return [Program("retention", command, limit_s=3600)]


def _disk_full(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    return [Program("disk-full", [python, HERE / "disk-full" / "suite.py"], limit_s=1800)]


def _long_life(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    minutes = options.minutes or ("60" if options.full else "3")
    command = [python, HERE / "long-life" / "suite.py", "--minutes", minutes]
    return [Program("long-life", command, limit_s=int(float(minutes) * 60) + 1800)]


def _many_partitions(options):
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    count, seconds = ("100000", "60") if options.full else ("10000", "5")
    command = [python, HERE / "many-partitions" / "suite.py", "--partitions", options.partitions or count]
    return [Program("many-partitions", [*command, "--seconds", seconds, "--kill"], limit_s=7200)]


def _compaction(options):
    toolchain.need("java", "mvn")
    python = toolchain.python_with("confluent", HERE / "python-confluent" / "requirements.txt")
    updates, keys = ("10M", "100K") if options.full else ("500K", "5K")
    command = [python, HERE / "compaction" / "suite.py", "--updates", updates, "--keys", keys]
    return [Program("compaction", command, limit_s=3600)]


def _quotas(options):
    toolchain.need("java", "mvn")
    return [Program("quotas", [sys.executable, HERE / "quotas" / "suite.py"])]


SUITES = [
    Suite("tools", "Kafka's own command-line tools; --compare puts their output beside a real Kafka's", _tools),
    Suite("java", "Kafka's Java client, three versions of it", _java),
    Suite("python-confluent", "librdkafka through its Python binding", _python_confluent),
    Suite("kafka-python", "the pure Python client", _kafka_python),
    Suite("aiokafka", "the asyncio client", _aiokafka),
    Suite("franz-go", "the Go client franz-go", _franz_go),
    Suite("sarama", "the Go client sarama", _sarama),
    Suite("kafka-go", "the Go client kafka-go", _kafka_go),
    Suite("rdkafka", "librdkafka through its Rust binding", _rdkafka),
    Suite("kafkajs", "the JavaScript client", _kafkajs),
    Suite("node-rdkafka", "librdkafka through its JavaScript binding", _node_rdkafka),
    Suite("streams", "Kafka Streams, at least once: stores, repartitioning, windows; results computed twice", _streams),
    Suite("connect", "Kafka Connect, two distributed workers: a file through a topic into a file", _connect),
    Suite("mirror", "MirrorMaker 2 from a real Kafka: topics, records, offsets of groups", _mirror),
    Suite("kill", "SIGKILL under load; nothing acknowledged may be missing", _kill),
    Suite("cluster", "three nodes: one after the other is killed, restarted, all are stopped; nothing is lost", _cluster),
    Suite("operations", "docs/operations.md, step by step: a node is down, added, drained, replaced, upgraded",
          _operations),
    Suite("chaos", "three nodes: processes, networks, disks and clocks fail in forty ways; most of them take root", _chaos),
    Suite("hostile", "malformed, oversized and slow input; nobody else may notice", _hostile),
    Suite("image", "what the container image starts with, in a scratch root; takes root", _image),
    Suite("retention", "expired data gives its disk space back", _retention),
    Suite("disk-full", "a small disk is filled; producers wait, nothing is lost; takes root", _disk_full),
    Suite("long-life", "every kind of retention on a small disk: its usage stays flat; then it is filled; takes root",
          _long_life),
    Suite("many-partitions", "memory, start and work with 100,000 partitions on one broker", _many_partitions),
    Suite("compaction", "the last value of each key stays, at its offset, and nothing else", _compaction),
    Suite("quotas", "quotas hold the official perf tools to their rate", _quotas),
]
