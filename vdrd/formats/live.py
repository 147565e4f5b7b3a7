"""`live.bin`: how much of each pack points reach, as the last collection counted."""

import hmac
import struct
from dataclasses import dataclass

from native import blake3
from native.crc32c import crc32c
from vdrd.formats.binary import check_length, check_that

VERSION = 1
MAGIC = b"VDRLIVE1"
HEADER_BYTES = 64
MAC_BYTES = 32
WHAT = "live counts"

HEADER = struct.Struct("<8sHHI16s16s12sI")
ROW = struct.Struct("<16sII")


@dataclass(frozen=True, slots=True)
class LiveCounts:
    """Live bytes and chunks by pack id, and which points they were counted for."""

    points_digest: bytes
    packs: dict[bytes, tuple[int, int]]


def points_digest(point_ids: list[str]) -> bytes:
    """What identifies a set of points."""
    return blake3.digest(b"".join(bytes.fromhex(name) for name in sorted(point_ids)))[:16]


def encode_live(counts: LiveCounts, storage_id: bytes, record_key: bytes) -> bytes:
    """The file."""
    head = HEADER.pack(MAGIC, VERSION, 0, len(counts.packs), storage_id, counts.points_digest, bytes(12), 0)[
        :-4
    ]
    rows = b"".join(ROW.pack(pack_id, *live) for pack_id, live in sorted(counts.packs.items()))
    data = head + crc32c(head).to_bytes(4, "little") + rows
    return data + blake3.keyed(record_key, data)


def decode_live(data: bytes, storage_id: bytes, record_key: bytes) -> LiveCounts:
    """Raises Damaged."""
    check_that(len(data) >= HEADER_BYTES + MAC_BYTES, WHAT, "they are cut short")
    magic, version, reserved, count, owner, digest, rest, crc = HEADER.unpack(data[:HEADER_BYTES])
    check_that(magic == MAGIC and crc == crc32c(data[: HEADER_BYTES - 4]), WHAT, "their header does not hold")
    check_that(version == VERSION and not reserved and not any(rest), WHAT, "they are of no known version")
    check_that(owner == storage_id, WHAT, "they belong to another storage")
    check_length(WHAT, "table", data[HEADER_BYTES:-MAC_BYTES], count * ROW.size)
    mac = blake3.keyed(record_key, data[:-MAC_BYTES])
    check_that(hmac.compare_digest(mac, data[-MAC_BYTES:]), WHAT, "their MAC does not hold")
    rows = ROW.iter_unpack(data[HEADER_BYTES:-MAC_BYTES])
    return LiveCounts(digest, {pack_id: (live_bytes, chunks) for pack_id, live_bytes, chunks in rows})
