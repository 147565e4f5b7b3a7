"""Index segments: header, pack table and MAC around the sorted entries that native code writes and maps."""

import struct
from dataclasses import dataclass

from native.crc32c import crc32c
from vdrd.formats import pack as pack_format
from vdrd.formats.binary import check_length, check_that

VERSION = 1
MAGIC = b"VDRINDX1"
HEADER_BYTES = 64
PACK_ROW_BYTES = 32
ENTRY_BYTES = 48
MAC_BYTES = 32
PACKS_MAX = 1 << 26

HEADER = struct.Struct("<8sHHIQ16s20sI")
PACK_ROW = struct.Struct("<16sIBBHII")


@dataclass(frozen=True, slots=True)
class PackRow:
    """A pack that a segment names: its key domain and epoch, chunks and file length."""

    pack_id: bytes
    domain: int
    epoch: int
    chunk_count: int
    file_bytes: int

    @property
    def record_bytes(self) -> int:
        """Of its records alone, without header, table and trailer."""
        frame = pack_format.HEADER_BYTES + pack_format.TRAILER_BYTES
        return self.file_bytes - frame - self.chunk_count * pack_format.ROW_BYTES


@dataclass(frozen=True, slots=True)
class SegmentHeader:
    """What the first 64 bytes say."""

    pack_count: int
    entry_count: int
    storage_id: bytes

    @property
    def entries_offset(self) -> int:
        """Where the entries begin."""
        return HEADER_BYTES + self.pack_count * PACK_ROW_BYTES

    @property
    def file_bytes(self) -> int:
        """Length of the whole segment."""
        return self.entries_offset + self.entry_count * ENTRY_BYTES + MAC_BYTES


def encode_head(packs: list[PackRow], entry_count: int, storage_id: bytes) -> bytes:
    """Header and pack table."""
    body = HEADER.pack(MAGIC, VERSION, 0, len(packs), entry_count, storage_id, bytes(20), 0)[:-4]
    rows = b"".join(
        PACK_ROW.pack(row.pack_id, row.domain, row.epoch, 0, 0, row.chunk_count, row.file_bytes)
        for row in packs
    )
    return body + crc32c(body).to_bytes(4, "little") + rows


def decode_header(data: bytes, file_bytes: int, what: str) -> SegmentHeader:
    """Raises Damaged naming `what`, also when the lengths do not add up to the file's."""
    check_length(what, "header", data, HEADER_BYTES)
    magic, version, reserved, pack_count, entry_count, storage_id, rest, crc = HEADER.unpack(data)
    check_that(magic == MAGIC, what, "it does not begin as an index segment")
    check_that(crc == crc32c(data[:-4]), what, "the CRC of its header does not hold")
    check_that(version == VERSION and not reserved and not any(rest), what, "it is of no known version")
    header = SegmentHeader(pack_count, entry_count, storage_id)
    check_that(pack_count <= PACKS_MAX and header.file_bytes == file_bytes, what, "it is cut short")
    return header


def decode_pack_rows(data: bytes, header: SegmentHeader, what: str) -> list[PackRow]:
    """The packs a segment names."""
    check_length(what, "pack table", data, header.pack_count * PACK_ROW_BYTES)
    rows = []
    for pack_id, domain, epoch, reserved, reserved2, chunks, file_bytes in PACK_ROW.iter_unpack(data):
        check_that(not reserved and not reserved2, what, "its pack table is out of bounds")
        rows.append(PackRow(pack_id, domain, epoch, chunks, file_bytes))
    return rows
