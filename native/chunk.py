"""Chunk pipeline (contract: `csrc/chunk.h`)."""

from typing import Any

from native import buffer
from native._core import ffi, lib
from native.aead import Aead, Algorithm
from native.buffer import Buffer
from native.err import NativeError, check

CHUNK_BYTES_MAX: int = lib.VDR_CHUNK_BYTES_MAX
RECORD_HEADER_BYTES: int = lib.VDR_CHUNK_HEADER_BYTES
ENTRY_BYTES = 12
ROW_BYTES = 48
CODEC_RAW: int = lib.VDR_CHUNK_RAW
CODEC_ZSTD: int = lib.VDR_CHUNK_ZSTD
KEY_TABLE_BYTES = 32 * int(lib.VDR_CHUNK_KINDS)
"""Id keys by kind: an unused one, then those of kinds 1 to 4."""


def name_blocks(data: Buffer, block_bytes: int, id_key: bytes, zero: bytearray, ids: bytearray) -> int:
    """Flag all-zero blocks and name the others; returns how many are named."""
    array, flags, out = buffer.readable(data), buffer.writable(zero), buffer.writable(ids)
    _check_blocks(len(array), block_bytes, len(flags), len(out))
    key = buffer.key(id_key, 32)
    return check(lib.vdr_chunk_name_blocks(array, len(array), block_bytes, key, flags, out), "name blocks")


def read_blocks(
    fd: int,
    offset_bytes: int,
    *,
    data: bytearray | memoryview,
    block_bytes: int,
    id_key: bytes,
    zero: bytearray,
    ids: bytearray,
) -> int:
    """Fill `data` from a file and name its blocks; returns the bytes read, fewer only at the file's end."""
    array, flags, out = buffer.writable(data), buffer.writable(zero), buffer.writable(ids)
    _check_blocks(len(array), block_bytes, len(flags), len(out))
    result = lib.vdr_chunk_read_blocks(
        fd, offset_bytes, array, len(array), block_bytes, buffer.key(id_key, 32), flags, out
    )
    return check(result, f"read at {offset_bytes}")


def _check_blocks(data_bytes: int, block_bytes: int, flags: int, ids_bytes: int) -> None:
    blocks = -(-data_bytes // block_bytes)
    if flags < blocks or ids_bytes < 32 * blocks:
        raise ValueError(f"room for {blocks} blocks is needed")


class Encoder:
    """Reusable compression state. Not to be used by two threads at once."""

    def __init__(self, level: int | None) -> None:
        handle = lib.vdr_encoder_open(level or 0)
        if handle == ffi.NULL:
            raise NativeError("argument", f"compression level {level}")
        self._handle = ffi.gc(handle, lib.vdr_encoder_close)

    def encode(
        self,
        data: Buffer,
        offsets: Buffer,
        lengths: Buffer,
        *,
        kind: int,
        out: bytearray | memoryview,
        select: "Buffer | None" = None,
    ) -> tuple[bytes, int]:
        """Encode the selected pieces of `data` into `out`; returns the table and the bytes written.

        `offsets` is a buffer of uint64, `lengths` of uint32; `select` holds a byte a piece, None takes all.
        """
        array, room = buffer.readable(data), buffer.writable(out)
        starts, sizes = buffer.readable(offsets, "uint64_t"), buffer.readable(lengths, "uint32_t")
        count = len(sizes)
        flags = ffi.NULL if select is None else buffer.readable(select)
        if len(starts) != count or (select is not None and len(flags) != count):
            raise ValueError("offsets, lengths and select do not belong together")
        if count and max(o + n for o, n in zip(starts, sizes, strict=True)) > len(array):
            raise ValueError("a piece lies outside the data")
        table = bytearray(ENTRY_BYTES * count)
        entries = buffer.writable(table, "vdr_chunk_entry")
        written = check(
            lib.vdr_encoder_run(
                self._handle, array, starts, sizes, flags, count, kind, entries, room, len(room)
            ),
            "encode",
        )
        chosen = count if select is None else count - bytes(select).count(0)
        return bytes(table[: ENTRY_BYTES * chosen]), written


class Decoder:
    """Reusable decompression state. Not to be used by two threads at once."""

    def __init__(self) -> None:
        handle = lib.vdr_decoder_open()
        if handle == ffi.NULL:
            raise MemoryError
        self.handle: Any = ffi.gc(handle, lib.vdr_decoder_close)

    def check(self, ids: Buffer, table: Buffer, payload: Buffer, id_keys: bytes) -> int | None:
        """Check that each chunk decodes to what its id names: None, or the number of the first that fails."""
        id_array, entries = buffer.readable(ids), buffer.readable(table, "vdr_chunk_entry")
        data, keys = buffer.readable(payload), buffer.key(id_keys, KEY_TABLE_BYTES)
        count = len(entries)
        if len(id_array) != 32 * count:
            raise ValueError("one id for each entry is needed")
        bad = ffi.new("uint64_t *")
        result = lib.vdr_decoder_check(self.handle, id_array, entries, count, data, len(data), keys, bad)
        if result in (lib.VDR_E_CORRUPT, lib.VDR_E_CODEC):
            return int(bad[0])
        check(result, "check chunks")
        return None


def sealed_bytes(table: Buffer, skip: "Buffer | None", encryption: int) -> int:
    """Bytes of the records that `seal` would write. NativeError 'argument' when an entry is out of bounds."""
    entries = buffer.readable(table, "vdr_chunk_entry")
    flags = ffi.NULL if skip is None else buffer.readable(skip)
    return check(lib.vdr_chunk_sealed_bytes(entries, flags, len(entries), encryption), "seal")


def seal(
    aead: Aead | None,
    ids: Buffer,
    table: Buffer,
    payload: Buffer,
    *,
    skip: Buffer,
    pack: int,
    pack_offset: int,
    out: bytearray | memoryview,
) -> tuple[int, bytearray]:
    """Write pack records to `out`; returns the bytes written and the places (16 bytes a chunk)."""
    id_array, entries = buffer.readable(ids), buffer.readable(table, "vdr_chunk_entry")
    data, flags, room = buffer.readable(payload), buffer.readable(skip), buffer.writable(out)
    count = len(entries)
    if len(id_array) != 32 * count or len(flags) != count:
        raise ValueError("one id and one flag for each entry is needed")
    places = bytearray(16 * count)
    written = check(
        lib.vdr_chunk_seal(
            ffi.NULL if aead is None else aead.handle,
            Algorithm.NONE if aead is None else aead.algorithm,
            id_array,
            entries,
            flags,
            count,
            data,
            len(data),
            pack,
            pack_offset,
            room,
            len(room),
            buffer.writable(places, "vdr_place"),
        ),
        "seal",
    )
    return written, places


def rows(ids: Buffer, table: Buffer, places: Buffer) -> bytes:
    """Rows (48 bytes each) of the chunks that `seal` gave a place."""
    id_array, entries = buffer.readable(ids), buffer.readable(table, "vdr_chunk_entry")
    spots = buffer.readable(places, "vdr_place")
    count = len(entries)
    if len(id_array) != 32 * count or len(spots) != count:
        raise ValueError("one id and one place for each entry is needed")
    out = bytearray(ROW_BYTES * count)
    filled = lib.vdr_chunk_rows(id_array, entries, spots, count, buffer.writable(out, "vdr_chunk_row"))
    return bytes(out[: ROW_BYTES * filled])


def walk(pack: Buffer, offset: int, encryption: int, *, rows_max: int) -> tuple[bytes, int]:
    """Rows (48 bytes each) of the whole records from `offset` on, and where the last of them ends."""
    array = buffer.readable(pack)
    rows = bytearray(ROW_BYTES * rows_max)
    end = ffi.new("uint64_t *")
    count = check(
        lib.vdr_chunk_walk(
            array, len(array), offset, encryption, buffer.writable(rows, "vdr_chunk_row"), rows_max, end
        ),
        "walk",
    )
    return bytes(rows[: ROW_BYTES * count]), int(end[0])
