"""Sets of block numbers (contract: `csrc/bitmap.h`)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Self

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer

_RUNS_PER_CALL = 4096


class Bitmap:
    """Bits 0 to `bits` - 1, kept in `memory`: whole little-endian 64-bit words, not copied.

    Ranges are half-open and must lie inside the map; anything else is a ValueError. Not safe against other
    threads.
    """

    def __init__(self, bits: int, memory: Buffer | None = None) -> None:
        word_count = -(-bits // 64)
        self.bits = bits
        self.memory = bytearray(word_count * 8) if memory is None else memory
        self._words = buffer.writable(self.memory, "uint64_t")
        if len(buffer.writable(self.memory)) != word_count * 8:
            raise ValueError(f"a bitmap of {bits} bits needs {word_count * 8} bytes of memory")

    def set(self, begin: int, end: int) -> None:
        """Put a range into the set."""
        lib.vdr_bitmap_set(self._words, *self._range(begin, end))

    def clear(self, begin: int, end: int) -> None:
        """Take a range out of the set."""
        lib.vdr_bitmap_clear(self._words, *self._range(begin, end))

    def __contains__(self, bit: int) -> bool:
        return 0 <= bit < self.bits and bool(lib.vdr_bitmap_test(self._words, bit))

    def count(self, begin: int = 0, end: int | None = None) -> int:
        """Number of set bits in the range."""
        return int(lib.vdr_bitmap_count(self._words, *self._range(begin, end)))

    def __ior__(self, other: Bitmap) -> Self:
        lib.vdr_bitmap_or(self._words, self._same(other), len(self._words))
        return self

    def __iand__(self, other: Bitmap) -> Self:
        lib.vdr_bitmap_and(self._words, self._same(other), len(self._words))
        return self

    def __isub__(self, other: Bitmap) -> Self:
        lib.vdr_bitmap_andnot(self._words, self._same(other), len(self._words))
        return self

    def next_set(self, begin: int = 0, end: int | None = None) -> int:
        """First set bit in the range, or the range's end."""
        return int(lib.vdr_bitmap_next_set(self._words, *self._range(begin, end)))

    def next_clear(self, begin: int = 0, end: int | None = None) -> int:
        """First clear bit in the range, or the range's end."""
        return int(lib.vdr_bitmap_next_clear(self._words, *self._range(begin, end)))

    def runs(self, begin: int = 0, end: int | None = None) -> Iterator[tuple[int, int]]:
        """Runs of set bits in the range, in order."""
        at, stop = self._range(begin, end)
        found = ffi.new("vdr_bitmap_run[]", _RUNS_PER_CALL)
        while True:
            count = lib.vdr_bitmap_runs(self._words, at, stop, found, _RUNS_PER_CALL)
            for i in range(count):
                yield found[i].begin, found[i].end
            if count < _RUNS_PER_CALL:
                return
            at = found[count - 1].end

    def _range(self, begin: int, end: int | None) -> tuple[int, int]:
        stop = self.bits if end is None else end
        if not 0 <= begin <= stop <= self.bits:
            raise ValueError(f"[{begin}, {stop}) is not a range of a bitmap of {self.bits} bits")
        return begin, stop

    def _same(self, other: Bitmap) -> object:
        if other.bits != self.bits:
            raise ValueError(f"bitmaps of {self.bits} and {other.bits} bits cannot be combined")
        return other._words
