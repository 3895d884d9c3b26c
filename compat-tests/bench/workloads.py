"""The loads: one row each. `load` runs whatever is chosen of them, `table` shows whatever was run.

The driver of a row decides who is the limit. With `perf_tools` on a small machine that is the Java client: the broker's
CPU time is then the figure to trust, throughput is a lower bound. With `replay`, pre-encoded requests over many
connections, it is the broker.
"""

from dataclasses import dataclass, field

from bench import perf_tools, replay
from bench.table import AtLeastKafkas, AtMostKafkas


@dataclass(frozen=True)
class Workload:
    """One load: produced to a fresh topic, then read from its beginning. `goals` by measure, see `load.MEASURES`."""

    name: str
    what: str
    record_bytes: int
    partitions: int
    producer: tuple = ("acks=all",)
    driver: object = perf_tools
    goals: dict = field(default_factory=dict)
    # Of the pre-encoded driver only.
    connections: int = 4
    readers: int = 2
    in_flight: int = 5
    batch_bytes: int = 16384
    per_request: int = 1
    rate: int = 0
    """Bytes per second over all connections; 0 is as fast as possible."""
    share: float = 1
    """Of the bytes of a round: small batches and fixed rates take long."""


CPU = {"produce_cpu": AtMostKafkas(1 / 3), "consume_cpu": AtMostKafkas(1.0)}

WORKLOADS = [
    Workload("1KiB", "records of 1 KiB to 6 partitions, as fast as one Java producer can, acks=all", 1024, 6,
             goals=CPU),
    Workload("100B", "records of 100 bytes, one Java producer", 100, 6, goals={"produce_cpu": AtMostKafkas(1 / 3)},
             share=0.3),
    Workload("16KiB", "records of 16 KiB, one Java producer", 16384, 6, goals=CPU),
    Workload("lz4", "records of 1 KiB, compressed by the Java producer", 1024, 6,
             ("acks=all", "compression.type=lz4"), share=0.5),
    Workload("zstd", "records of 1 KiB, compressed by the Java producer", 1024, 6,
             ("acks=all", "compression.type=zstd"), share=0.5),
    Workload("raw-1", "pre-encoded: 1 KiB records to 1 partition over 4 connections", 1024, 1, driver=replay,
             goals={**CPU, "produce_mb_per_s": AtLeastKafkas(2)}),
    Workload("raw-16", "pre-encoded: 1 KiB records to 16 partitions over 4 connections", 1024, 16, driver=replay,
             goals={**CPU, "produce_mb_per_s": AtLeastKafkas(2)}),
    Workload("raw-256", "pre-encoded: 1 KiB records to 256 partitions, 16 batches in a request", 1024, 256,
             driver=replay, per_request=16, goals={**CPU, "produce_mb_per_s": AtLeastKafkas(2)}),
    Workload("small", "pre-encoded: 64 producers, batches of one 1 KiB record, one request in flight each", 1024, 16,
             driver=replay, connections=64, in_flight=1, batch_bytes=1024, share=0.2,
             goals={"produce_mb_per_s": AtLeastKafkas(3)}),
    Workload("steady", "pre-encoded: 20 MB/s over 4 connections, acks=all", 1024, 16, driver=replay, rate=20_000_000,
             share=0.2, goals={"produce_p99": AtMostKafkas(0.5)}),
    Workload("tail", "pre-encoded: 2 MB/s, read at the tail by 500 consumers", 1024, 1, driver=replay.Tail,
             connections=1, readers=500, rate=2_000_000, share=0.02),
    Workload("catch-up", "pre-encoded: cold data read while more is produced", 1024, 16, driver=replay.CatchUp,
             goals={"consume_cpu": AtMostKafkas(1.0)}),
    # Kafka refuses to create 10,000 at once.
    Workload("trickle", "pre-encoded: 9,000 partitions, a 100-byte record each per turn, 1 MB/s", 100, 9_000,
             driver=replay, connections=4, readers=4, batch_bytes=100, per_request=100, rate=1_000_000, share=0.02),
]

# What a run measures unless told otherwise.
USUAL = ["1KiB", "100B", "raw-16", "small", "steady"]
