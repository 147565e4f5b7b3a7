"""Overlays on disk: a directory with the data and bitmap files, created whole, locked while open.

Owns the files' names, the lock, the pairing with the disk below and the choice of the key; the bytes are
those of `native/csrc/overlay.c`. Knows nothing of points or exports: the identity of the disk below is a text
that the caller chooses.
"""

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from native import blake3
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


_KEY_CHECK = b"vdr overlay key check"


class OverlayKeys(Protocol):
    """Whoever has the keys under which overlays are encrypted, such as the keyring of a storage."""

    @property
    def epoch(self) -> int:
        """The newest: new overlays are encrypted under it."""
        ...

    @property
    def epoch_count(self) -> int:
        """How many there are."""
        ...

    def overlay_key(self, overlay_id: bytes, epoch: int) -> bytes:
        """64 bytes, for one overlay alone."""
        ...


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
        cls,
        path: Path,
        lower: DiskSource,
        *,
        identity: str,
        block_bytes: int = BLOCK_BYTES,
        keys: OverlayKeys | None = None,
        limit_bytes: int = 0,
    ) -> "OverlayDisk":
        """Open the overlay in directory `path`, or make it there if the directory does not exist.

        `identity` names the disk below (such as `point 0123...`); an overlay made over another one, or over a
        disk of another size, or under another key, is refused: OverlayRefused. Damaged: its files are not
        what was written. StorageFull: there is no room to make it.

        With `keys` a new one is encrypted. `limit_bytes` bounds what its data takes (0: the file system
        alone does); a write beyond it fails with ENOSPC and can be repeated under a higher limit.
        """
        try:
            if not path.exists():
                _create(path, lower.size_bytes, identity, block_bytes, keys)
            opened = cls._open_existing(path, lower, identity, keys)
            opened._overlay.set_limit(limit_bytes)
            return opened
        except NativeError as error:
            if error.code == "version":
                raise OverlayRefused(path=path, reason="it was written by a newer version of vdr") from error
            raise Damaged(what=f"overlay {path}", reason="its files are not what was written") from error
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(path=path) from error
            raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error

    @classmethod
    def _open_existing(
        cls, path: Path, lower: DiskSource, identity: str, keys: OverlayKeys | None
    ) -> "OverlayDisk":
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
            key = _key_of(path, found, keys)
            return cls(path, Overlay.open_over(lower.native, data_fd, bitmap_fd, key))

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


def _key_check(key: bytes) -> bytes:
    return blake3.keyed(key[:32], _KEY_CHECK)[:16]


def _key_of(path: Path, found: OverlayIdentity, keys: OverlayKeys | None) -> bytes | None:
    if found.cipher == native_overlay.CIPHER_NONE:
        return None
    if keys is None:
        raise OverlayRefused(path=path, reason="it is encrypted, and the storage it is opened with is not")
    if found.key_epoch < keys.epoch_count:
        key = keys.overlay_key(found.overlay_id, found.key_epoch)
        if _key_check(key) == found.key_check:
            return key
    raise OverlayRefused(path=path, reason="it was written under another key")


def _new_identity(
    size_bytes: int, identity: str, block_bytes: int, keys: OverlayKeys | None
) -> OverlayIdentity:
    overlay_id = secrets.token_bytes(16)
    made = OverlayIdentity(overlay_id, lower_id(identity), size_bytes, block_bytes)
    if keys is None:
        return made
    return replace(
        made,
        cipher=native_overlay.CIPHER_AES_256_XTS,
        key_epoch=keys.epoch,
        key_check=_key_check(keys.overlay_key(overlay_id, keys.epoch)),
    )


def _create(path: Path, size_bytes: int, identity: str, block_bytes: int, keys: OverlayKeys | None) -> None:
    """Make an empty overlay under another name and rename it: a directory at `path` is always a whole one."""
    parents = list(path.absolute().parents)
    renamed = parents[: 1 + sum(not parent.exists() for parent in parents)]
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
            made = _new_identity(size_bytes, identity, block_bytes, keys)
            native_overlay.create(fds[0], fds[1], made)
        sync_directory(new)
        new.rename(path)
        for parent in renamed:
            sync_directory(parent)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
