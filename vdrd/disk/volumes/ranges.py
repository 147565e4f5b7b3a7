"""Ranges of a disk that volumes stand on, with a small cache of blocks. Must not know what the bytes mean."""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol

READ_BYTES_MAX = 1 << 20
"""No single read is longer: a length out of a damaged structure must not take memory."""
_BLOCK_BYTES = 1 << 16
_BLOCKS_KEPT = 512
_AHEAD_BLOCKS = 4


class Unreadable(Exception):
    """A volume, or a part of it, is damaged or of a kind that is not known. The message says what."""


class Range(Protocol):
    """Bytes of a disk in an order of their own."""

    size_bytes: int

    def read(self, offset: int, length: int) -> bytes:
        """All of a range. Raises Unreadable beyond the end and above READ_BYTES_MAX."""
        ...

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Where the bytes stand on the disk: (offset, length) in order. Raises Unreadable beyond the end."""
        ...


def check_range(offset: int, length: int, size_bytes: int) -> None:
    """Raise Unreadable unless the range lies within `size_bytes`."""
    if offset < 0 or length < 0 or offset + length > size_bytes:
        raise Unreadable(f"it points at byte {offset}, beyond its end")


class WholeDisk:
    """The disk itself, block by block through a function that reads it."""

    def __init__(self, read: Callable[[int, int], bytes], size_bytes: int) -> None:
        self._read = read
        self.size_bytes = size_bytes
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self._next = -1

    def read(self, offset: int, length: int) -> bytes:
        """See Range."""
        check_range(offset, length, self.size_bytes)
        if length > READ_BYTES_MAX:
            raise Unreadable(f"it asks for {length} bytes at once")
        number, skipped = divmod(offset, _BLOCK_BYTES)
        if skipped + length <= _BLOCK_BYTES:
            return self._block(number)[skipped : skipped + length]
        last = (offset + length - 1) // _BLOCK_BYTES
        return b"".join(self._block(n) for n in range(number, last + 1))[skipped : skipped + length]

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """See Range."""
        check_range(offset, length, self.size_bytes)
        yield offset, length

    def _block(self, number: int) -> bytes:
        block = self._blocks.get(number)
        if block is not None:
            self._blocks.move_to_end(number)
            return block
        # Tables are read in sequence: then a few blocks come at once.
        count = _AHEAD_BLOCKS if number == self._next else 1
        start = number * _BLOCK_BYTES
        data = self._read(start, min(count * _BLOCK_BYTES, self.size_bytes - start))
        self._next = number + count
        for i in range(count):
            self._blocks[number + i] = data[i * _BLOCK_BYTES : (i + 1) * _BLOCK_BYTES]
        while len(self._blocks) > _BLOCKS_KEPT:
            self._blocks.popitem(last=False)
        return self._blocks[number]


class Slice:
    """One run of another range: a partition."""

    def __init__(self, whole: Range, start: int, size_bytes: int) -> None:
        check_range(start, size_bytes, whole.size_bytes)
        self._whole = whole
        self._start = start
        self.size_bytes = size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """See Range."""
        check_range(offset, length, self.size_bytes)
        return self._whole.read(self._start + offset, length)

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """See Range."""
        check_range(offset, length, self.size_bytes)
        return self._whole.pieces(self._start + offset, length)


class Stripe(NamedTuple):
    """A run of a physical volume that one stripe of a segment fills."""

    whole: Range
    start: int


class Segment(NamedTuple):
    """A run of a logical volume: over one stripe, or over several in turn of `stripe_bytes`."""

    start: int
    length: int
    stripe_bytes: int
    stripes: tuple[Stripe, ...]


class Joined:
    """Segments back to back: a logical volume."""

    def __init__(self, segments: list[Segment]) -> None:
        self._segments = segments
        self._starts = [segment.start for segment in segments]
        self.size_bytes = segments[-1].start + segments[-1].length if segments else 0

    def read(self, offset: int, length: int) -> bytes:
        """See Range."""
        if length > READ_BYTES_MAX:
            raise Unreadable(f"it asks for {length} bytes at once")
        return b"".join(whole.read(at, count) for whole, at, count in self._parts(offset, length))

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """See Range."""
        for whole, at, count in self._parts(offset, length):
            yield from whole.pieces(at, count)

    def _parts(self, offset: int, length: int) -> Iterator[tuple[Range, int, int]]:
        check_range(offset, length, self.size_bytes)
        end = offset + length
        while offset < end:
            segment = self._segments[bisect_right(self._starts, offset) - 1]
            within = offset - segment.start
            count = min(segment.length - within, end - offset)
            if len(segment.stripes) == 1:
                stripe, at = segment.stripes[0], within
            else:
                number, skipped = divmod(within, segment.stripe_bytes)
                row, column = divmod(number, len(segment.stripes))
                stripe, at = segment.stripes[column], row * segment.stripe_bytes + skipped
                count = min(count, segment.stripe_bytes - skipped)
            yield stripe.whole, stripe.start + at, count
            offset += count
