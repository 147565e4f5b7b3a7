"""Disks of the C core: the handle that every native server, restore and overlay reads and writes through."""

from collections.abc import Iterator
from typing import Any

from native._core import ffi, lib
from native.buffer import readable, writable
from native.err import check

EXTENT_DATA: int = lib.VDR_EXTENT_DATA
EXTENT_ZERO: int = lib.VDR_EXTENT_ZERO
EXTENT_HOLE: int = lib.VDR_EXTENT_HOLE

_EXTENTS_PER_CALL = 1024


class Disk:
    """Owns one reference to a `vdr_disk`. Thread-safe but for `close`, which comes after all other calls.

    Native users (an overlay, an export) hold references of their own, so closing this one never pulls a disk
    from under them. Errors: OSError from the system (EROFS for a write to a read-only disk), NativeError for
    everything else.
    """

    def __init__(self, handle: Any) -> None:
        self._handle = handle
        self._is_open = True
        self.size_bytes: int = lib.vdr_disk_size_bytes(handle)
        self.is_writable = bool(lib.vdr_disk_is_writable(handle))

    @classmethod
    def open_file(cls, fd: int, *, writable: bool = False) -> "Disk":
        """Disk over the file or block device behind `fd`, which stays the caller's to close."""
        out = ffi.new("vdr_disk **")
        check(lib.vdr_disk_file_open(fd, writable, out), "open disk")
        return cls(out[0])

    @classmethod
    def open_memory(cls, size_bytes: int) -> "Disk":
        """Writable disk of zeros in memory."""
        out = ffi.new("vdr_disk **")
        check(lib.vdr_disk_memory_open(size_bytes, out), "open memory disk")
        return cls(out[0])

    @property
    def handle(self) -> Any:
        """The `vdr_disk *` to hand to native code. Whoever keeps it longer than the call retains it."""
        if not self._is_open:
            raise ValueError("the disk is closed")
        return self._handle

    def read_into(self, offset_bytes: int, buffer: bytearray | memoryview) -> None:
        """Fill `buffer`, all of it, from `offset_bytes`."""
        view = writable(buffer)
        check(lib.vdr_disk_read(self.handle, offset_bytes, view, len(view)), f"read at {offset_bytes}")

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Bytes of a range, for small reads."""
        buffer = bytearray(length_bytes)
        self.read_into(offset_bytes, buffer)
        return bytes(buffer)

    def write(self, offset_bytes: int, data: bytes | bytearray | memoryview) -> None:
        """Write all of `data`; durable after `flush`."""
        view = readable(data)
        check(lib.vdr_disk_write(self.handle, offset_bytes, view, len(view)), f"write at {offset_bytes}")

    def zero(self, offset_bytes: int, length_bytes: int) -> None:
        """Make a range read as zero and give its space back where possible; durable after `flush`."""
        check(lib.vdr_disk_zero(self.handle, offset_bytes, length_bytes), f"zero at {offset_bytes}")

    def flush(self) -> None:
        """Return when everything written before is durable."""
        check(lib.vdr_disk_flush(self.handle), "flush")

    def extents(self, offset_bytes: int, length_bytes: int) -> Iterator[tuple[int, int, int]]:
        """Yield (offset, length, kind) that cover the range in order; neighbours may be of one kind."""
        end = offset_bytes + length_bytes
        batch = ffi.new("vdr_extent[]", _EXTENTS_PER_CALL)
        while offset_bytes < end:
            count = check(
                lib.vdr_disk_extents(self.handle, offset_bytes, end - offset_bytes, batch, _EXTENTS_PER_CALL),
                f"extents at {offset_bytes}",
            )
            for extent in batch[0:count]:
                yield extent.offset_bytes, extent.length_bytes, extent.kind
                offset_bytes = extent.offset_bytes + extent.length_bytes

    def fail_reads(self, offset_bytes: int, length_bytes: int, code: int = lib.VDR_E_IO) -> None:
        """Memory disk only: let reads that touch the range fail with `code`. Length 0 ends it."""
        check(lib.vdr_disk_memory_fail_reads(self.handle, offset_bytes, length_bytes, code), "fail reads")

    def close(self) -> None:
        """Drop this reference. Calling it again does nothing."""
        if self._is_open:
            self._is_open = False
            lib.vdr_disk_close(self._handle)

    def __enter__(self) -> "Disk":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
