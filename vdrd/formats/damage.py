"""Damage marks: which records of which packs were found not to hold. Bytes to values and back."""

import hmac
import struct
from collections.abc import Iterable
from typing import NamedTuple

from native import blake3
from native.crc32c import crc32c
from vdrd.formats.binary import check_length, check_that

VERSION = 1
MAGIC = b"VDRDAMG1"
HEADER_BYTES = 64
MAC_BYTES = 32
FILE_BYTES_MAX = 64 << 20
"""More than a million marks: such a storage is lost anyway."""

HEADER = struct.Struct("<8sHHI16s28sI")
ROW = struct.Struct("<16sII32s")
ROWS_MAX = (FILE_BYTES_MAX - HEADER_BYTES - MAC_BYTES) // ROW.size

FRAME_OFFSET = 0
"""In place of a record's offset: header, table or trailer of the pack do not hold."""
FRAME_ID = bytes(32)


class Mark(NamedTuple):
    """One record that does not hold, or with FRAME_OFFSET and FRAME_ID what frames the records."""

    pack_id: bytes
    offset: int
    chunk_id: bytes


def encode_marks(marks: Iterable[Mark], storage_id: bytes, record_key: bytes) -> bytes:
    """The file; of more than ROWS_MAX marks the first."""
    rows = [ROW.pack(mark.pack_id, mark.offset, 0, mark.chunk_id) for mark in sorted(marks)[:ROWS_MAX]]
    head = HEADER.pack(MAGIC, VERSION, 0, len(rows), storage_id, bytes(28), 0)[:-4]
    data = head + crc32c(head).to_bytes(4, "little") + b"".join(rows)
    return data + blake3.keyed(record_key, data)


def decode_marks(data: bytes, storage_id: bytes, record_key: bytes, what: str) -> list[Mark]:
    """Raises Damaged naming `what`."""
    check_that(HEADER_BYTES + MAC_BYTES <= len(data) <= FILE_BYTES_MAX, what, "they are cut short")
    magic, version, reserved, count, owner, rest, crc = HEADER.unpack(data[:HEADER_BYTES])
    check_that(magic == MAGIC and crc == crc32c(data[: HEADER_BYTES - 4]), what, "their header does not hold")
    check_that(version == VERSION and not reserved and not any(rest), what, "they are of no known version")
    check_that(owner == storage_id, what, "they belong to another storage")
    check_length(what, "table", data[HEADER_BYTES:-MAC_BYTES], count * ROW.size)
    mac = blake3.keyed(record_key, data[:-MAC_BYTES])
    check_that(hmac.compare_digest(mac, data[-MAC_BYTES:]), what, "their MAC does not hold")
    marks = []
    for pack_id, offset, reserved, chunk_id in ROW.iter_unpack(data[HEADER_BYTES:-MAC_BYTES]):
        check_that(not reserved, what, "a field is out of its range")
        marks.append(Mark(pack_id, offset, chunk_id))
    return marks
