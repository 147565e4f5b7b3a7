"""Pack files: header, table and trailer around the records that native code writes."""

import hmac
import struct
from dataclasses import dataclass

from native import blake3
from native.crc32c import crc32c
from vdrd.formats.binary import check_length, check_that

VERSION = 1
HEADER_MAGIC = b"VDRPACK1"
TRAILER_MAGIC = b"VDRPKEND"
HEADER_BYTES = 64
TRAILER_BYTES = 64
ROW_BYTES = 48
PACK_ID_BYTES = 16
PACK_BYTES_MAX = 1 << 30
ROWS_MAX = PACK_BYTES_MAX // 57

HEADER = struct.Struct("<8sHBBI16s16sQII")
ROW = struct.Struct("<32sIIIBBH")
TRAILER = struct.Struct("<QII32sII8s")


@dataclass(frozen=True, slots=True)
class PackHeader:
    """First 64 bytes of a pack. `encryption` is the number of native.aead.Algorithm."""

    encryption: int
    epoch: int
    domain: int
    storage_id: bytes
    pack_id: bytes
    created: int

    def encode(self) -> bytes:
        """The bytes."""
        fields = (self.encryption, self.epoch, self.domain, self.storage_id, self.pack_id, self.created)
        body = HEADER.pack(HEADER_MAGIC, VERSION, *fields, 0, 0)
        return body[:-4] + crc32c(body[:-4]).to_bytes(4, "little")


def decode_header(data: bytes, what: str) -> PackHeader:
    """Raises Damaged naming `what`."""
    check_length(what, "header", data, HEADER_BYTES)
    magic, version, encryption, epoch, domain, storage_id, pack_id, created, reserved, crc = HEADER.unpack(
        data
    )
    check_that(magic == HEADER_MAGIC, what, "it does not begin as a pack")
    check_that(crc == crc32c(data[:-4]), what, "the CRC of its header does not hold")
    check_that(
        version == VERSION and not reserved and encryption <= 2, what, "its header is of no known version"
    )
    return PackHeader(encryption, epoch, domain, storage_id, pack_id, created)


@dataclass(frozen=True, slots=True)
class PackTrailer:
    """Last 64 bytes of a pack."""

    table_offset: int
    count: int
    mac: bytes

    @property
    def table_bytes(self) -> int:
        """Length of the table before the trailer."""
        return self.count * ROW_BYTES


def encode_trailer(header: bytes, table: bytes, table_offset: int, table_key: bytes) -> bytes:
    """The trailer of a pack whose header and table these are."""
    start = struct.pack("<QII", table_offset, len(table) // ROW_BYTES, 0)
    body = start + blake3.keyed(table_key, header + table + start) + bytes(4)
    return body + crc32c(body).to_bytes(4, "little") + TRAILER_MAGIC


def decode_trailer(data: bytes, file_bytes: int, what: str) -> PackTrailer:
    """Raises Damaged naming `what`; checks that table and trailer fill the rest of the file."""
    check_length(what, "trailer", data, TRAILER_BYTES)
    table_offset, count, reserved, mac, reserved2, crc, magic = TRAILER.unpack(data)
    check_that(magic == TRAILER_MAGIC, what, "it is cut short: there is no trailer at its end")
    check_that(crc == crc32c(data[:52]), what, "the CRC of its trailer does not hold")
    check_that(not reserved and not reserved2 and count <= ROWS_MAX, what, "its trailer is out of bounds")
    trailer = PackTrailer(table_offset, count, mac)
    end = table_offset + trailer.table_bytes + TRAILER_BYTES
    check_that(table_offset >= HEADER_BYTES and end == file_bytes, what, "its table does not fit the file")
    return trailer


def check_table(header: bytes, table: bytes, trailer: PackTrailer, table_key: bytes, what: str) -> None:
    """Raise Damaged unless the table was written by a holder of the key."""
    start = struct.pack("<QII", trailer.table_offset, trailer.count, 0)
    mac = blake3.keyed(table_key, header + table + start)
    check_that(hmac.compare_digest(mac, trailer.mac), what, "the MAC of its table does not hold")
