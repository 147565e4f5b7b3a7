"""One volume of a disk, a partition or a logical volume, written to a file or a device.

A file is written beside its name and renamed when it is complete; holes stay holes. On a device, what the
volume has as
zeros is zeroed.
"""

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from native.disk import Disk
from vdrd.disk.source import DiskSource
from vdrd.model.errors import StorageFull, TargetOccupied, TargetRefused, VdrError
from vdrd.model.extents import ExtentKind
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.model.reports import RestoreReport

_COPY_BYTES = 4 << 20
_MARK_BYTES = 1 << 20


def restore_volume(
    disk: DiskSource,
    places: list[tuple[int, int]],
    target_path: Path,
    *,
    overwrite: bool,
    progress: ProgressSink,
    cancel: Cancel,
) -> RestoreReport:
    """Write the runs `places` (offset, length) of a disk, one after the other, to `target_path`.

    A file is made, or with `overwrite` replaced; a block device must be there, and blank without
    `overwrite`. Raises
    TargetRefused, TargetOccupied, StorageFull, Damaged, Cancelled. After a failure a file is as it was; a
    device is not.
    """
    size_bytes = sum(length for _, length in places)
    copy = _Copy(disk, places, size_bytes, progress, cancel)
    try:
        mode = target_path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    else:
        if stat.S_ISREG(mode) and not overwrite:
            raise TargetOccupied(path=target_path, reason="it exists")
    try:
        if stat.S_ISBLK(mode):
            copy.to_device(target_path, overwrite)
        elif stat.S_ISREG(mode):
            copy.to_file(target_path)
        else:
            raise TargetRefused(path=target_path, reason="it is neither a file nor a block device")
    except OSError as error:
        raise _refused(target_path, error) from error
    return RestoreReport(logical_bytes=size_bytes, written_bytes=copy.written_bytes)


def _refused(path: Path, error: OSError) -> VdrError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(path=path)
    return TargetRefused(path=path, reason=(error.strerror or "error").lower())


class _Copy:
    def __init__(
        self,
        disk: DiskSource,
        places: list[tuple[int, int]],
        size_bytes: int,
        progress: ProgressSink,
        cancel: Cancel,
    ) -> None:
        self._disk = disk
        self._places = places
        self._size_bytes = size_bytes
        self._progress = progress
        self._cancel = cancel
        self.written_bytes = 0

    def to_file(self, path: Path) -> None:
        partial = path.with_name(f"vdr-{secrets.token_hex(8)}.partial")
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            try:
                os.ftruncate(fd, self._size_bytes)
                with Disk.open_file(fd, writable=True) as target:
                    self._write(target, zeroes=False)
                os.fsync(fd)
            finally:
                os.close(fd)
            partial.rename(path)
        except BaseException:
            with suppress(OSError):
                partial.unlink()
            raise

    def to_device(self, path: Path, overwrite: bool) -> None:
        # O_EXCL: refuses a device that is mounted or part of another one.
        fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        try:
            device_bytes = os.lseek(fd, 0, os.SEEK_END)
            if device_bytes < self._size_bytes:
                reason = f"it has {device_bytes} bytes, the volume {self._size_bytes}"
                raise TargetRefused(path=path, reason=reason)
            marks = (os.pread(fd, _MARK_BYTES, at) for at in (0, max(0, device_bytes - _MARK_BYTES)))
            if not overwrite and any(map(any, marks)):
                raise TargetOccupied(path=path, reason="the device is not blank")
            with Disk.open_file(fd, writable=True) as target:
                self._write(target, zeroes=True)
            os.fsync(fd)
        finally:
            os.close(fd)

    def _write(self, target: Disk, *, zeroes: bool) -> None:
        buffer = memoryview(bytearray(_COPY_BYTES))
        at = 0
        for offset, length, is_data in self._runs():
            self._cancel.check()
            if is_data:
                self._disk.read_into(offset, buffer[:length])
                target.write(at, buffer[:length])
                self.written_bytes += length
            elif zeroes:
                target.zero(at, length)
            at += length
            self._progress(Progress("restore", at, self._size_bytes))

    def _runs(self) -> Iterator[tuple[int, int, bool]]:
        """Data in pieces of at most the buffer, and whole holes, in order."""
        for offset, length in self._places:
            for extent in self._disk.extents(offset, length):
                is_data = extent.kind is ExtentKind.DATA
                step = _COPY_BYTES if is_data else extent.length_bytes
                for at in range(extent.offset_bytes, extent.end_bytes, step):
                    yield at, min(step, extent.end_bytes - at), is_data
