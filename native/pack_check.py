"""Checking the records of a closed pack (contract: `csrc/pack_check.h`)."""

from native import buffer
from native._core import ffi, lib
from native.aead import Aead, Algorithm
from native.buffer import Buffer
from native.chunk import KEY_TABLE_BYTES, Decoder
from native.err import NativeError, check


class PackChecker:
    """What one thread needs to check packs: a decoder and a window of memory."""

    def __init__(self) -> None:
        self._decoder = Decoder()
        self._window = ffi.new("uint8_t[]", lib.VDR_PACK_CHECK_WINDOW_BYTES)
        self._read = ffi.new("uint64_t *")

    def records(self, fd: int, aead: Aead | None, id_keys: bytes, rows: Buffer) -> tuple[bytes, int]:
        """Read and open every record that `rows` (48 bytes each) names: a byte for each, 0 where it is good,
        and the bytes read."""
        table = buffer.readable(rows, "vdr_chunk_row")
        status = bytearray(len(table))
        check(
            lib.vdr_pack_check_records(
                fd,
                ffi.NULL if aead is None else aead.handle,
                Algorithm.NONE if aead is None else aead.algorithm,
                self._decoder.handle,
                buffer.key(id_keys, KEY_TABLE_BYTES),
                table,
                len(table),
                self._window,
                buffer.writable(status, "int8_t"),
                self._read,
            ),
            "pack check",
        )
        return bytes(status), int(self._read[0])


def layout_end(rows: Buffer, offset: int) -> int | None:
    """Where the last record ends when they stand back to back from `offset` on; None when they do not."""
    table = buffer.readable(rows, "vdr_chunk_row")
    try:
        return check(lib.vdr_pack_check_layout(table, len(table), offset), "pack layout")
    except NativeError:
        return None
