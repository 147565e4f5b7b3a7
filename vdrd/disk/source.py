"""The one interface for 'something that can be read as a disk', and the base of all that native code backs.

Knows nothing of where the bytes come from: images, points, overlays and platforms implement it.
"""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, Self

from native.disk import EXTENT_DATA, EXTENT_HOLE, EXTENT_ZERO, Disk
from vdrd.model.extents import Extent, ExtentKind

_KINDS = {EXTENT_DATA: ExtentKind.DATA, EXTENT_ZERO: ExtentKind.ZERO, EXTENT_HOLE: ExtentKind.HOLE}


def extents_of(ranges: Iterable[tuple[int, int, int]]) -> Iterator[Extent]:
    """Extents of native (offset, length, kind) ranges; those of one kind that touch become one."""
    pending: Extent | None = None
    for offset, length, code in ranges:
        kind = _KINDS[code]
        if pending is not None and pending.kind is kind and pending.end_bytes == offset:
            pending = Extent(pending.offset_bytes, pending.length_bytes + length, kind)
            continue
        if pending is not None:
            yield pending
        pending = Extent(offset, length, kind)
    if pending is not None:
        yield pending


class DiskSource(Protocol):
    """A disk to read. Thread-safe and blocking; ranges lie within [0, size_bytes)."""

    @property
    def size_bytes(self) -> int:
        """Size, fixed while the source is open."""
        ...

    @property
    def native(self) -> Disk:
        """Handle for native servers and restores, which read without the interpreter."""
        ...

    def read_into(self, offset_bytes: int, buffer: bytearray | memoryview) -> None:
        """Fill all of `buffer`. Raises OSError or a VdrError; there is no short read."""
        ...

    def extents(self, offset_bytes: int, length_bytes: int) -> Iterator[Extent]:
        """Extents that cover the range in order, touching ones merged."""
        ...

    def close(self) -> None:
        """Release it; native users keep references of their own."""
        ...


class WritableDisk(DiskSource, Protocol):
    """A disk that takes writes too."""

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`; durable after `flush`."""
        ...

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        """Make a range read as zero and give its space back where possible."""
        ...

    def flush(self) -> None:
        """Return when everything written before is durable."""
        ...


class NativeDisk:
    """A WritableDisk over a native one, which it owns. Kinds of disk derive from it and add their opening."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    @property
    def size_bytes(self) -> int:
        """See DiskSource."""
        return self._disk.size_bytes

    @property
    def is_writable(self) -> bool:
        """True if writes can succeed at all."""
        return self._disk.is_writable

    @property
    def native(self) -> Disk:
        """See DiskSource."""
        return self._disk

    def read_into(self, offset_bytes: int, buffer: bytearray | memoryview) -> None:
        """See DiskSource."""
        self._disk.read_into(offset_bytes, buffer)

    def extents(self, offset_bytes: int, length_bytes: int) -> Iterator[Extent]:
        """See DiskSource."""
        return extents_of(self._disk.extents(offset_bytes, length_bytes))

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """See WritableDisk. OSError EROFS when opened read-only."""
        self._disk.write(offset_bytes, data)

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        """See WritableDisk."""
        self._disk.zero(offset_bytes, length_bytes)

    def flush(self) -> None:
        """See WritableDisk."""
        self._disk.flush()

    def close(self) -> None:
        """See DiskSource."""
        self._disk.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
