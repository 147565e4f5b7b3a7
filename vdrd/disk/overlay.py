"""Overlays on disk: a directory with the data and bitmap files, created whole, locked while open.

Owns the files' names, the lock and the pairing with the disk below; the bytes are those of
`native/csrc/overlay.c`. Knows nothing of points or exports: the identity of the disk below is a text that the
caller chooses.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from native import overlay as native_overlay
from native.err import NativeError
from native.overlay import Overlay, OverlayIdentity, OverlayStatistics
from vdrd.disk.source import DiskSource, NativeDisk, extents_of
from vdrd.model.errors import Damaged, OverlayRefused, StorageFull, StorageUnwritable
from vdrd.model.extents import Extent

DATA_NAME = "data"
BITMAP_NAME = "bitmap"

BLOCK_BYTES = 4096
"""What guests' file systems write; smaller writes cost a read of the block from below, once."""


def lower_id(identity: str) -> bytes:
    """The 32 bytes under which the bitmap file knows the disk below."""
    return hashlib.sha256(b"vdr overlay over " + identity.encode()).digest()


class OverlayDisk(NativeDisk):
    """A writable disk over `lower`, which is never written. One opener at a time."""

    def __init__(self, path: Path, overlay: Overlay) -> None:
        super().__init__(overlay)
        self.path = path
        self._overlay = overlay

    @classmethod
    def open(
        cls, path: Path, lower: DiskSource, *, identity: str, block_bytes: int = BLOCK_BYTES
    ) -> "OverlayDisk":
        """Open the overlay in directory `path`, or make it there if the directory does not exist.

        `identity` names the disk below (such as `point 0123...`); an overlay made over another one, or over a
        disk of another size, is refused: OverlayRefused. Damaged: its files are not what was written.
        StorageFull: there is no room to make it.
        """
        try:
            if not path.exists():
                _create(path, lower.size_bytes, identity, block_bytes)
            return cls._open_existing(path, lower, identity)
        except NativeError as error:
            if error.code == "version":
                raise OverlayRefused(path=path, reason="it was written by a newer version of vdr") from error
            raise Damaged(what=f"overlay {path}", reason="its files are not what was written") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(path=path) from error
            raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error

    @classmethod
    def _open_existing(cls, path: Path, lower: DiskSource, identity: str) -> "OverlayDisk":
        with ExitStack() as stack:
            data_fd = os.open(path / DATA_NAME, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, data_fd)
            bitmap_fd = os.open(path / BITMAP_NAME, os.O_RDWR | os.O_CLOEXEC)
            stack.callback(os.close, bitmap_fd)
            try:
                # Held until the native side closes its duplicates of the descriptor.
                fcntl.flock(bitmap_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise OverlayRefused(path=path, reason="another process has it open") from error
            found = native_overlay.identify(bitmap_fd)
            if found.lower_id != lower_id(identity) or found.size_bytes != lower.size_bytes:
                raise OverlayRefused(path=path, reason=f"it does not belong to {identity}")
            return cls(path, Overlay.open_over(lower.native, data_fd, bitmap_fd))

    def changed(self) -> Iterator[Extent]:
        """Ranges that the overlay holds, in order: what was written or zeroed since it was made."""
        return extents_of(self._overlay.changed())

    def statistics(self) -> OverlayStatistics:
        """How much it holds now."""
        return self._overlay.statistics()

    @property
    def modified_ns(self) -> int:
        """When its data file was last written, in ns since the epoch."""
        return (self.path / DATA_NAME).stat().st_mtime_ns


def _create(path: Path, size_bytes: int, identity: str, block_bytes: int) -> None:
    """Make an empty overlay under another name and rename it: a directory at `path` is always a whole one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(path.name + ".new")
    shutil.rmtree(new, ignore_errors=True)
    new.mkdir(mode=0o700)
    try:
        with ExitStack() as stack:
            fds = []
            for name in (DATA_NAME, BITMAP_NAME):
                fds.append(os.open(new / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                stack.callback(os.close, fds[-1])
            made = OverlayIdentity(secrets.token_bytes(16), lower_id(identity), size_bytes, block_bytes)
            native_overlay.create(fds[0], fds[1], made)
        _sync_directory(new)
        new.rename(path)
        _sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
