"""Records of NTFS: fixups, attributes, runs of clusters (format: the Linux-NTFS project's documentation)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple

from vdrd.disk.volumes.file_system import HOLE, RUNS_MAX, Run
from vdrd.disk.volumes.ranges import Unreadable

_FIXUP_BYTES = 512
_END = 0xFFFFFFFF


class Attribute(NamedTuple):
    """One attribute, or a part of one with many runs. `value` is None when it stands in clusters."""

    type: int
    name: str
    flags: int
    value: bytes | None
    first_cluster: int
    unit_log: int
    """Clusters of a compression unit, as a power of two."""
    size_bytes: int
    written_bytes: int
    runs: bytes


def fixed_up(raw: bytes, magic: bytes) -> bytes:
    """A record with the last bytes of its sectors put back. Raises Unreadable when it was torn."""
    if not raw.startswith(magic):
        raise Unreadable("a record is damaged")
    at, count = struct.unpack_from("<HH", raw, 4)
    if count < 2 or at + 2 * count > len(raw) or (count - 1) * _FIXUP_BYTES > len(raw):
        raise Unreadable("a record is damaged")
    out = bytearray(raw)
    mark = raw[at : at + 2]
    for i in range(1, count):
        end = i * _FIXUP_BYTES
        if raw[end - 2 : end] != mark:
            raise Unreadable("a record is damaged")
        out[end - 2 : end] = raw[at + 2 * i : at + 2 * i + 2]
    return bytes(out)


def attributes_in(record: bytes) -> Iterator[Attribute]:
    """All attributes of a record."""
    at = struct.unpack_from("<H", record, 20)[0]
    while at + 8 <= len(record):
        kind, length = struct.unpack_from("<II", record, at)
        if kind == _END:
            return
        if length < 24 or at + length > len(record):
            raise Unreadable("a record is damaged")
        yield _attribute(kind, record[at : at + length])
        at += length


def _attribute(kind: int, raw: bytes) -> Attribute:
    is_elsewhere, name_length, name_at, flags = struct.unpack_from("<BBHH", raw, 8)
    name = raw[name_at : name_at + 2 * name_length].decode("utf-16-le", "replace")
    if not is_elsewhere:
        length, at = struct.unpack_from("<IH", raw, 16)
        if at + length > len(raw):
            raise Unreadable("a record is damaged")
        return Attribute(kind, name, flags, raw[at : at + length], 0, 0, length, length, b"")
    first, _, runs_at, unit_log = struct.unpack_from("<QQHH", raw, 16)
    size, written = (0, 0) if first else struct.unpack_from("<QQ", raw, 48)
    return Attribute(kind, name, flags, None, first, unit_log, size, written, raw[runs_at:])


def cluster_runs(parts: list[Attribute], cluster_bytes: int) -> Iterator[Run]:
    """Runs of an attribute in clusters; sparse ones are holes."""
    count = 0
    expected = 0
    for part in sorted(parts, key=lambda one: one.first_cluster):
        if part.first_cluster != expected:
            raise Unreadable("a file lacks some of its runs")
        cluster = 0
        at = 0
        while at < len(part.runs) and part.runs[at]:
            length_bytes, offset_bytes = part.runs[at] & 0xF, part.runs[at] >> 4
            middle = at + 1 + length_bytes
            length = int.from_bytes(part.runs[at + 1 : middle], "little")
            offset = int.from_bytes(part.runs[middle : middle + offset_bytes], "little", signed=True)
            at = middle + offset_bytes
            cluster += offset
            count += 1
            if not length or cluster < 0 or length_bytes > 8 or offset_bytes > 8 or count > RUNS_MAX:
                raise Unreadable("a list of runs is damaged")
            place = cluster * cluster_bytes if offset_bytes else HOLE
            yield Run(expected * cluster_bytes, length * cluster_bytes, place)
            expected += length


def lznt1_decompressed(raw: bytes, plain_bytes_max: int) -> bytes:
    """LZNT1 (format: Microsoft Xpress and LZNT1, MS-XCA 2.5). Raises Unreadable, IndexError."""
    out = bytearray()
    at = 0
    while at + 2 <= len(raw) and len(out) < plain_bytes_max:
        header = raw[at] | raw[at + 1] << 8
        if not header:
            break
        end = at + 3 + (header & 0xFFF)
        chunk = raw[at + 2 : end]
        out += _chunk(chunk) if header & 0x8000 else chunk
        if len(out) % 4096:
            out += bytes(4096 - len(out) % 4096)
        at = end
    return bytes(out[:plain_bytes_max])


def _chunk(raw: bytes) -> bytes:
    out = bytearray()
    at = 0
    while at < len(raw) and len(out) < 4096:
        flags = raw[at]
        at += 1
        for bit in range(8):
            if at >= len(raw):
                break
            if not flags >> bit & 1:
                out.append(raw[at])
                at += 1
                continue
            token = raw[at] | raw[at + 1] << 8
            at += 2
            # The further in, the more bits say how far back.
            shift = 12
            place = len(out) - 1
            while place >= 0x10:
                shift -= 1
                place >>= 1
            distance, length = (token >> shift) + 1, (token & (1 << shift) - 1) + 3
            begin = len(out) - distance
            if begin < 0:
                raise Unreadable("a compressed run is damaged")
            piece = bytes(out[begin : begin + length])
            out += (piece * (length // len(piece) + 1))[:length]
    return bytes(out[:4096])
