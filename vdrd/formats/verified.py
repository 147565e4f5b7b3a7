"""`verified.bin`: the packs that an unfinished verification of all data has found whole."""

import hmac
import struct
from collections.abc import Iterable

from native import blake3
from native.crc32c import crc32c
from vdrd.formats.binary import check_length, check_that
from vdrd.formats.pack import PACK_ID_BYTES

VERSION = 2
"""In files of version 1 packs may stand that nobody has read: they are worth nothing."""
MAGIC = b"VDRVRFY1"
HEADER_BYTES = 64
MAC_BYTES = 32
WHAT = "progress of a verification"

HEADER = struct.Struct("<8sHHI16s28sI")


def encode_verified(pack_ids: Iterable[bytes], storage_id: bytes, record_key: bytes) -> bytes:
    """The file."""
    rows = sorted(pack_ids)
    head = HEADER.pack(MAGIC, VERSION, 0, len(rows), storage_id, bytes(28), 0)[:-4]
    data = head + crc32c(head).to_bytes(4, "little") + b"".join(rows)
    return data + blake3.keyed(record_key, data)


def decode_verified(data: bytes, storage_id: bytes, record_key: bytes) -> set[bytes]:
    """Raises Damaged."""
    check_that(len(data) >= HEADER_BYTES + MAC_BYTES, WHAT, "it is cut short")
    magic, version, reserved, count, owner, rest, crc = HEADER.unpack(data[:HEADER_BYTES])
    check_that(magic == MAGIC and crc == crc32c(data[: HEADER_BYTES - 4]), WHAT, "its header does not hold")
    check_that(version == VERSION and not reserved and not any(rest), WHAT, "it is of no known version")
    check_that(owner == storage_id, WHAT, "it belongs to another storage")
    rows = data[HEADER_BYTES:-MAC_BYTES]
    check_length(WHAT, "table", rows, count * PACK_ID_BYTES)
    mac = blake3.keyed(record_key, data[:-MAC_BYTES])
    check_that(hmac.compare_digest(mac, data[-MAC_BYTES:]), WHAT, "its MAC does not hold")
    return {rows[at : at + PACK_ID_BYTES] for at in range(0, len(rows), PACK_ID_BYTES)}
