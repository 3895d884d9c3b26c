"""The loads: one row each. `load` runs whatever is here, `table` shows whatever is here.

The driver of a row decides who is the limit. With `perf_tools` on a small machine that is the Java client: the broker's
CPU time is then the figure to trust, throughput is a lower bound. The driver that makes the broker the limit, by
replaying pre-encoded requests over many connections, has its place beside it as `bench/replay.py`, with the same two
functions.
"""

from dataclasses import dataclass, field
from types import ModuleType

from bench import perf_tools
from bench.table import AtMostKafkas


@dataclass(frozen=True)
class Workload:
    """One load: produced to a fresh topic, then read from its beginning. `goals` by measure, see `load.MEASURES`."""

    name: str
    what: str
    record_bytes: int
    partitions: int
    producer: tuple
    driver: ModuleType = perf_tools
    goals: dict = field(default_factory=dict)


WORKLOADS = [
    Workload("1KiB", "records of 1 KiB to 6 partitions, as fast as one Java producer can, acks=all", 1024, 6,
             ("acks=all",), goals={"produce_cpu": AtMostKafkas(0.5), "consume_cpu": AtMostKafkas(1.0)}),
]
