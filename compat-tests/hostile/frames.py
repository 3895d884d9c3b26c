"""Requests of every API and version, made from Kafka's own message schemas, and ways to spoil them. Pure, given a seed.

The schemas come with the kafka-python package (`kafka/protocol/schemas/resources/*.json`). A well-formed request is
made of random values; the places of all its length prefixes are known, so that each of them can be made to lie.
"""

import json
import os
import re
import struct

INTEGERS = {"int8": 1, "int16": 2, "uint16": 2, "int32": 4, "uint32": 4, "int64": 8}
NAMES = ["hostile-a", "hostile-b", "hostile-c", "", "no such topic", "x" * 249]
# What a length is replaced with: as a four-byte number, and as a varint (values one above, as compact lengths are).
HUGE = [0x7FFFFFFF, 0x7FFFFFF7, -2]
HUGE_VARINTS = [bytes.fromhex("ffffffff0f"), bytes.fromhex("8080808008"), bytes.fromhex("ffffffffffffffffff01")]


class Versions:
    """A range such as `3-7`, `9+`, `4` or `none`."""

    def __init__(self, text):
        found = re.fullmatch(r"(\d+)(?:(\+)|-(\d+))?", text or "none")
        self.low, self.high = (1, 0) if found is None else (
            int(found[1]), 1 << 15 if found[2] else int(found[3] or found[1]))

    def __contains__(self, version):
        return self.low <= version <= self.high


def schemas():
    """{API key: schema} of all requests that the package knows."""
    import kafka.protocol.schemas.resources as package
    folder = os.path.dirname(package.__file__)
    requests = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith("Request.json"):
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = "".join(line for line in file if not line.lstrip().startswith("//"))
            schema = json.loads(text)
            requests[schema["apiKey"]] = schema
    return requests


class Encoder:
    """Encodes one request with random values. `marks` are its length prefixes: (position, size, is a varint)."""

    def __init__(self, schema, version, chance):
        self.schema, self.version, self.chance = schema, version, chance
        self.flexible = version in Versions(schema.get("flexibleVersions"))
        self.commons = {s["name"]: s["fields"] for s in schema.get("commonStructs", [])}
        self.out = bytearray()
        self.marks = []

    def body(self):
        """The body of the request."""
        self._struct(self.schema["fields"])
        return bytes(self.out)

    def _struct(self, fields):
        tagged = []
        for field in fields:
            if self.version not in Versions(field["versions"]):
                continue
            if self.version in Versions(field.get("taggedVersions")):
                tagged.append(field)
            else:
                self._field(field)
        if self.flexible:
            self._tags(tagged)

    def _tags(self, fields):
        chosen = sorted((f for f in fields if self.chance.random() < 0.5), key=lambda f: f["tag"])
        self._length(len(chosen), True, 0)
        for field in chosen:
            self.out += varint(field["tag"])
            inner = Encoder(self.schema, self.version, self.chance)
            inner._field(field)
            self._length(len(inner.out), True, 0)
            self.out += inner.out

    def _field(self, field):
        kind = field["type"]
        compact = self.flexible and field.get("flexibleVersions") != "none"
        null = self.version in Versions(field.get("nullableVersions")) and self.chance.random() < 0.2
        if kind.startswith("[]"):
            count = None if null else self.chance.choice([0, 1, 1, 2, 3])
            self._length(-1 if null else count, compact, 4)
            for _ in range(count or 0):
                self._value(kind[2:], field, compact)
        elif kind in ("string", "bytes", "records"):
            data = None if null else self._blob(kind, field)
            self._length(-1 if null else len(data), compact, 2 if kind == "string" else 4)
            self.out += data or b""
        elif kind in INTEGERS or kind in ("bool", "uuid", "float64"):
            self._value(kind, field, compact)
        else:  # a structure on its own; only a nullable one has a marker
            if self.version in Versions(field.get("nullableVersions")):
                self.out += b"\xff" if null else b"\x01"
            if not null:
                self._struct(field.get("fields") or self.commons[kind])

    def _value(self, kind, field, compact):
        chance = self.chance
        if kind in INTEGERS:
            size = INTEGERS[kind]
            top = (1 << (8 * size - 1)) - 1
            number = chance.choice([0, 0, 1, 1, 2, 3, -1, top, -top - 1])
            self.out += (number & ((1 << (8 * size)) - 1)).to_bytes(size, "big")
        elif kind == "bool":
            self.out.append(chance.randrange(2))
        elif kind == "uuid":
            self.out += chance.randbytes(16)
        elif kind == "float64":
            self.out += chance.randbytes(8)
        elif kind in ("string", "bytes"):
            data = self._blob(kind, field)
            self._length(len(data), compact, 2 if kind == "string" else 4)
            self.out += data
        else:
            self._struct(field.get("fields") or self.commons[kind])

    def _blob(self, kind, field):
        if kind == "records":
            return batch(self.chance)
        if kind == "string":
            return self.chance.choice(NAMES).encode()
        return self.chance.randbytes(self.chance.choice([0, 1, 20, 300]))

    def _length(self, count, compact, size):
        encoded = varint(count + 1 if size else count) if compact else count.to_bytes(size, "big", signed=True)
        self.marks.append((len(self.out), len(encoded), compact))
        self.out += encoded


def header(schema, version, correlation):
    """The request header, flexible or not."""
    flexible = version in Versions(schema.get("flexibleVersions"))
    return struct.pack(">hhih", schema["apiKey"], version, correlation, 7) + b"hostile" + (b"\0" if flexible else b"")


def frame(payload):
    """With its length in front."""
    return struct.pack(">i", len(payload)) + payload


def varint(number):
    """An unsigned varint."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def lies(schema, version, chance, correlation):
    """Well-formed requests in which one length prefix claims billions; once with what follows it and once without."""
    encoder = Encoder(schema, version, chance)
    body = encoder.body()
    head = header(schema, version, correlation)
    for position, size, compact in encoder.marks:
        for huge in HUGE_VARINTS if compact else [h.to_bytes(size, "big", signed=True) for h in HUGE if fits(h, size)]:
            yield frame(head + body[:position] + huge + body[position + size:])
            yield frame(head + body[:position] + huge)


def fits(number, size):
    """True when a signed number of `size` bytes can hold it; two-byte string lengths cannot claim billions."""
    return -(1 << (8 * size - 1)) <= number < 1 << (8 * size - 1)


def mutate(payload, chance):
    """Spoils a request in one to three ways and returns the bytes to send, length prefix included."""
    data = bytearray(payload)
    for _ in range(chance.choice([1, 1, 2, 3])):
        at = chance.randrange(len(data)) if data else 0
        way = chance.randrange(7)
        if way == 0 and data:
            data[at] ^= 1 << chance.randrange(8)
        elif way == 1 and data:
            data[at] = chance.choice([0, 1, 0x7F, 0x80, 0xFF])
        elif way == 2:
            del data[at:]
        elif way == 3:
            data[at:at] = chance.randbytes(chance.choice([1, 4, 50]))
        elif way == 4:
            del data[at:at + chance.choice([1, 4, 20])]
        elif way == 5:
            data[at:at + 4] = chance.choice([b"\x7f\xff\xff\xff", b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x80\0\0\0"])
        else:
            data += data[at:]
    whole = bytearray(frame(bytes(data)))
    if chance.random() < 0.05:  # the length itself
        whole[0:4] = struct.pack(">i", chance.choice([0, 1, len(data) // 2, len(data) + 1, len(data) + 1000]))
    return bytes(whole)


CRC_TABLE = []
for remainder in range(256):
    for _ in range(8):
        remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    CRC_TABLE.append(remainder)


def crc32c(data):
    """The checksum of record batches."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = CRC_TABLE[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def batch(chance):
    """A record batch with a right checksum, around records and header fields that need not be right."""
    record = b"\0\0\0\x01" + varint(2 * 5) + b"value" + b"\0"  # attributes, deltas, no key, value, no headers
    records = varint(2 * len(record)) + record
    if chance.random() < 0.3:
        records = chance.randbytes(chance.choice([0, 1, 30, 300]))
    count = chance.choice([1, 1, 1, 0, -1, 0x7FFFFFFF])
    attributes = chance.choice([0, 0, 0, 1, 2, 3, 4, 7, 8, 0x10, 0x20, -1])
    producer, epoch, sequence = chance.choice([(-1, -1, -1), (-1, -1, -1), (5, 0, 0), (5, -1, 7)])
    # Only a plain batch counts its records truly; the last offset is one below the count.
    tail = struct.pack(">hiqqqhii", attributes, chance.choice([0, 0, 0, 5, -1, 0x7FFFFFFF]), 1_700_000_000_000,
                       1_700_000_000_000, producer, epoch, sequence, count) + records
    body = struct.pack(">ibI", 0, chance.choice([2, 2, 2, 2, 0, 1, 3]), crc32c(tail)) + tail
    return struct.pack(">qi", 0, len(body)) + body
