"""Merges a scan with the manifest before it into batches to read (contract: `csrc/merge.h`)."""

from enum import IntEnum
from typing import Any, NamedTuple

from native import buffer
from native._core import ffi, lib
from native.err import check

_OUT_BYTES = 1 << 20


class MergeStep(IntEnum):
    """`vdr_merge_step_result`."""

    WANTS_SCAN = lib.VDR_MERGE_WANTS_SCAN
    WANTS_OLD = lib.VDR_MERGE_WANTS_OLD
    BATCH = lib.VDR_MERGE_BATCH
    END = lib.VDR_MERGE_END


class MergeCounts(NamedTuple):
    """`vdr_merge_counts`."""

    entries: int
    unchanged: int
    changed: int
    added: int
    read_bytes: int
    logical_bytes: int


class Merge:
    """One merge. For one thread."""

    def __init__(self, cut_seed: int, *, reads_all: bool) -> None:
        handle = lib.vdr_merge_open(cut_seed, reads_all)
        if handle == ffi.NULL:
            raise MemoryError
        self._handle = ffi.gc(handle, lib.vdr_merge_close)
        self._out = ffi.new("uint64_t[]", _OUT_BYTES // 8)
        self._io = ffi.new("vdr_merge_io *")
        self._io.out = ffi.cast("uint8_t *", self._out)
        self._io.out_bytes = _OUT_BYTES
        self._old: Any = None

    def step(self) -> MergeStep:
        """Go on until something is wanted or a batch is complete."""
        return MergeStep(check(lib.vdr_merge_step(self._handle, self._io), "file manifest"))

    def give_scan(self, pointer: Any, entries_bytes: int, *, is_end: bool) -> None:
        """More scanned entries; `pointer` must stay valid until the next WANTS_SCAN."""
        self._io.scan = pointer
        self._io.scan_bytes = entries_bytes
        self._io.scan_used = 0
        self._io.scan_is_end = is_end

    def give_old(self, segment: bytes | None) -> None:
        """The next segment of the manifest before, checked by `segment.check_segment`; None when there is
        none.
        """
        if segment is None:
            self._io.old_is_end = 1
            return
        self._old = buffer.readable(segment)
        self._io.old = self._old
        self._io.old_bytes = len(segment)
        self._io.old_is_new = 1

    def take_batch(self) -> bytes:
        """The batch, as loose entries."""
        batch = bytes(ffi.buffer(self._out, self._io.out_used))
        self._io.out_used = 0
        return batch

    def counts(self) -> MergeCounts:
        """Entries so far, by what became of them."""
        counts = ffi.new("vdr_merge_counts *")
        lib.vdr_merge_counts_get(self._handle, counts)
        return MergeCounts(
            counts.entries,
            counts.unchanged,
            counts.changed,
            counts.added,
            counts.read_bytes,
            counts.logical_bytes,
        )
