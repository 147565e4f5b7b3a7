"""`live.bin`: how much of each pack points reach, as the last collection counted, and which points those
were."""

import hmac
import struct
from dataclasses import dataclass

from native import blake3
from native.crc32c import crc32c
from vdrd.formats.binary import check_length, check_that

VERSION = 2
MAGIC = b"VDRLIVE1"
HEADER_BYTES = 64
MAC_BYTES = 32
POINT_BYTES = 16
WHAT = "live counts"

HEADER = struct.Struct("<8sHHI16sII20sI")
ROW = struct.Struct("<16sII")


@dataclass(frozen=True, slots=True)
class LiveCounts:
    """Live bytes and chunks by pack id, and the ids of the points they were counted for."""

    packs: dict[bytes, tuple[int, int]]
    points: frozenset[str]
    deferred_packs: int = 0
    """Packs that were to go and could not."""


def encode_live(counts: LiveCounts, storage_id: bytes, record_key: bytes) -> bytes:
    """The file."""
    numbers = len(counts.packs), storage_id, len(counts.points), counts.deferred_packs
    head = HEADER.pack(MAGIC, VERSION, 0, *numbers, bytes(20), 0)[:-4]
    rows = b"".join(ROW.pack(pack_id, *live) for pack_id, live in sorted(counts.packs.items()))
    names = b"".join(bytes.fromhex(name) for name in sorted(counts.points))
    data = head + crc32c(head).to_bytes(4, "little") + rows + names
    return data + blake3.keyed(record_key, data)


def is_outdated(data: bytes) -> bool:
    """True for the file of an earlier version: it is made anew by the next collection."""
    return data[:10] == MAGIC + (1).to_bytes(2, "little")


def decode_live(data: bytes, storage_id: bytes, record_key: bytes) -> LiveCounts:
    """Raises Damaged."""
    check_that(len(data) >= HEADER_BYTES + MAC_BYTES, WHAT, "they are cut short")
    magic, version, reserved, count, owner, points, deferred, rest, crc = HEADER.unpack(data[:HEADER_BYTES])
    check_that(magic == MAGIC and crc == crc32c(data[: HEADER_BYTES - 4]), WHAT, "their header does not hold")
    check_that(version == VERSION and not reserved and not any(rest), WHAT, "they are of no known version")
    check_that(owner == storage_id, WHAT, "they belong to another storage")
    rows_bytes = count * ROW.size
    body = data[HEADER_BYTES:-MAC_BYTES]
    check_length(WHAT, "table", body, rows_bytes + points * POINT_BYTES)
    mac = blake3.keyed(record_key, data[:-MAC_BYTES])
    check_that(hmac.compare_digest(mac, data[-MAC_BYTES:]), WHAT, "their MAC does not hold")
    names = (body[at : at + POINT_BYTES].hex() for at in range(rows_bytes, len(body), POINT_BYTES))
    return LiveCounts(
        {pack_id: (live_bytes, chunks) for pack_id, live_bytes, chunks in ROW.iter_unpack(body[:rows_bytes])},
        frozenset(names),
        deferred,
    )
