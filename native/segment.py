"""Manifest segments and entries (contracts: `csrc/segment.h`, `csrc/entry.h`)."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.err import NativeError, check

ENTRY_BYTES_MAX: int = lib.VDR_ENTRY_BYTES_MAX
ENTRY_FIXED_BYTES: int = lib.VDR_ENTRY_FIXED_BYTES
PIECE_BYTES: int = lib.VDR_ENTRY_PIECE_BYTES
EXTENTS_MAX: int = lib.VDR_ENTRY_EXTENTS_MAX
HOLE: int = lib.VDR_ENTRY_HOLE
PATH_BYTES_MAX: int = lib.VDR_ENTRY_PATH_BYTES_MAX
_OUT_BYTES = 2 << 20
_INFOS = 256
_PATHS_BYTES = 256 << 10


class SegmentInfo(NamedTuple):
    """A finished segment."""

    plain_bytes: int
    entry_count: int
    last_path: bytes


def is_safe_path(path: bytes) -> bool:
    """True for a relative path without empty, '.' or '..' components and NUL bytes."""
    return bool(lib.vdr_path_is_safe(buffer.readable(path), len(path)))


def path_hash(seed: int, path: bytes) -> int:
    """The hash that decides cuts."""
    return int(lib.vdr_path_hash(seed, buffer.readable(path), len(path)))


def check_segment(plain: bytes) -> int:
    """Check every bit of a segment; its number of entries. NativeError 'corrupt' or 'version'."""
    aligned = _aligned(plain)
    return check(lib.vdr_segment_check(aligned, len(plain)), "manifest segment")


def _aligned(data: Buffer) -> Any:
    """C pointer to `data`, which it keeps alive: to its own memory, or to a copy where that is not 8-byte
    aligned.
    """
    array = buffer.readable(data)
    if len(data) and int(ffi.cast("uintptr_t", array)) % 8 == 0:
        return array
    copy = ffi.new("uint8_t[]", len(data) + 8)
    ffi.memmove(copy, array, len(data))
    return copy


def loose_entries(plain: bytes) -> Iterator[bytes]:
    """Blocks of loose entries: all of a segment that is checked first. NativeError 'corrupt' or 'version'."""
    aligned = _aligned(plain)
    check(lib.vdr_segment_check(aligned, len(plain)), "manifest segment")
    cursor = ffi.new("vdr_segment_cursor *")
    lib.vdr_segment_begin(cursor, aligned, len(plain))
    out = ffi.new("uint64_t[]", ENTRY_BYTES_MAX // 4)
    room = ffi.cast("uint8_t *", out)
    while True:
        written = check(lib.vdr_segment_loosen_all(cursor, room, ffi.sizeof(out)), "manifest segment")
        if written == 0:
            return
        yield bytes(ffi.buffer(out, written))


def linked_offsets(block: bytes) -> Iterator[int]:
    """Offsets of the regular files with several names in a block of loose entries."""
    records = _aligned(block)
    at = 0
    while (at := int(lib.vdr_entry_find_linked(records, len(block), at))) < len(block):
        yield at
        at += int.from_bytes(block[at : at + 4], "little")


class SegmentBuilder:
    """Builds segments from loose entries in path order. Not to be used by two threads at once."""

    def __init__(self, cut_seed: int) -> None:
        handle = lib.vdr_segment_builder_open(cut_seed)
        if handle == ffi.NULL:
            raise MemoryError
        self._handle = ffi.gc(handle, lib.vdr_segment_builder_close)
        self._out = ffi.new("uint64_t[]", _OUT_BYTES // 8)
        self._infos = ffi.new("vdr_segment_info[]", _INFOS)
        self._paths = ffi.new("uint8_t[]", _PATHS_BYTES)
        self._used = ffi.new("size_t *")

    def append(
        self, records: Buffer, *, is_end: bool = False
    ) -> Iterator[tuple[memoryview, list[SegmentInfo]]]:
        """Take complete loose entries; yields finished segments back to back, with what each is.

        The view is valid until the next step. The iterator must be run to its end.
        """
        pointer = _aligned(records)
        self._used[0] = 0
        while True:
            count = check(
                lib.vdr_segment_builder_append(
                    self._handle,
                    pointer,
                    len(records),
                    self._used,
                    is_end,
                    ffi.cast("uint8_t *", self._out),
                    _OUT_BYTES,
                    self._infos,
                    _INFOS,
                    self._paths,
                    _PATHS_BYTES,
                ),
                "file manifest",
            )
            if count:
                yield self._finished(count)
            elif self._used[0] == len(records):
                return
            else:
                raise NativeError("space", "file manifest")

    def _finished(self, count: int) -> tuple[memoryview, list[SegmentInfo]]:
        infos = []
        path_at = total = 0
        for i in range(count):
            info = self._infos[i]
            path_end = path_at + info.last_path_bytes
            path = bytes(ffi.buffer(self._paths + path_at, info.last_path_bytes))
            path_at = path_end
            total += info.plain_bytes
            infos.append(SegmentInfo(info.plain_bytes, info.entry_count, path))
        return memoryview(ffi.buffer(self._out, total)), infos
