"""The records that every client writes and must read back byte for byte.

Record `i` is a function of `i` alone (and of the run's base time), the same in all five languages. The set holds every
shape a record can have: no key, tombstone, empty value, binary values up to 2 KiB, no headers, several headers of one
name, empty and null header values, explicit timestamps.
"""

import time
from dataclasses import dataclass
from typing import Optional

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
# One second apart and an hour ago: explicit, but far from every retention and future-timestamp rule.
BASE_MS = (int(time.time()) - 3600) * 1000


@dataclass(frozen=True)
class Record:
    """What a producer decides about a record."""

    key: Optional[bytes]
    value: Optional[bytes]
    headers: tuple
    timestamp_ms: int


@dataclass(frozen=True)
class Received:
    """A record as a consumer sees it."""

    topic: str
    partition: int
    offset: int
    record: Record


def sample(i, null_headers=True):
    """Record `i`. `null_headers=False` leaves out the header that some libraries cannot send."""
    key = None if i % 7 == 3 else b"key-%d" % i
    value = bytes((i * 31 + j * 7) & 0xFF for j in range(10 + (i * 37) % 2000))
    if i % 13 == 6:
        value = b""
    if i % 11 == 5:
        key, value = b"gone-%d" % i, None
    headers = []
    if i % 2 == 0:
        headers = [("trace", b"t-%d" % i), ("empty", b""), ("trace", b"again")]
        if null_headers:
            headers.append(("nothing", None))
    return Record(key, value, tuple(headers), BASE_MS + i * 1000)


def text(value):
    """A record that carries only a value, for checks in which nothing else matters."""
    return Record(None, value.encode(), (), BASE_MS)


def same(expected, got, where):
    """Raises unless the two records are equal, naming the first field that differs."""
    for field in ("key", "value", "headers", "timestamp_ms"):
        want, have = getattr(expected, field), getattr(got, field)
        if want != have:
            raise AssertionError(f"{where}: {field} is {have!r:.120}, expected {want!r:.120}")
