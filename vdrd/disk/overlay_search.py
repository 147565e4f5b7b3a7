"""Overlays that sessions left: finds them below directories, tells what they are, takes them away.

Knows a point only as the name of a disk below (`point ID`), which the caller gives.
"""

import fcntl
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from native import overlay as native_overlay
from native.err import NativeError
from vdrd.disk.overlay import BITMAP_NAME, DATA_NAME, lower_id, sync_directory
from vdrd.model.errors import OverlayRefused, StorageUnwritable

FILES_SUFFIX = ".files"
"""Next to an overlay: the files that clients put beside its disk."""

_DEPTH_MAX = 2
_DISCARDED = ".discarded"


@dataclass(frozen=True, slots=True)
class FoundOverlay:
    """An overlay's directory, as it is without opening the disk below."""

    path: Path
    identity: str | None
    """Of the disk below; None if it is none of those that were asked for."""
    size_bytes: int
    stored_bytes: int
    modified_ns: int
    is_encrypted: bool
    is_open: bool
    """A session has it open now."""


def find_overlays(places: Iterable[Path], identities: Iterable[str]) -> list[FoundOverlay]:
    """Overlays in `places` and up to two directories below, by path. What cannot be read is left out."""
    names = {lower_id(identity): identity for identity in identities}
    found = {path: _describe(path, names) for place in places for path in _candidates(place, 0)}
    return [overlay for _, overlay in sorted(found.items()) if overlay is not None]


def _candidates(place: Path, depth: int) -> Iterator[Path]:
    if (place / BITMAP_NAME).is_file() and (place / DATA_NAME).is_file():
        yield place
        return
    if depth == _DEPTH_MAX or not place.is_dir():
        return
    for child in sorted(place.iterdir()):
        is_other = child.is_symlink() or child.suffix in (FILES_SUFFIX, ".new", _DISCARDED)
        if not is_other and child.is_dir():
            yield from _candidates(child, depth + 1)


def _describe(path: Path, names: dict[bytes, str]) -> FoundOverlay | None:
    try:
        with (path / BITMAP_NAME).open("rb") as bitmap:
            identity = native_overlay.identify(bitmap.fileno())
            status = [(path / DATA_NAME).stat(), os.fstat(bitmap.fileno())]
            is_open = not _try_lock(bitmap.fileno())
    except (OSError, NativeError):
        return None
    return FoundOverlay(
        path=path,
        identity=names.get(identity.lower_id),
        size_bytes=identity.size_bytes,
        stored_bytes=sum(one.st_blocks * 512 for one in status),
        modified_ns=status[0].st_mtime_ns,
        is_encrypted=identity.cipher != native_overlay.CIPHER_NONE,
        is_open=is_open,
    )


def _try_lock(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def discard_overlay(path: Path) -> None:
    """Take an overlay away with the files beside its disk: first from its name, durably, then its bytes.

    Raises OverlayRefused while a session has it open, StorageUnwritable when it cannot be removed.
    """
    gone = path.with_name(path.name + _DISCARDED)
    try:
        with (path / BITMAP_NAME).open("rb") as bitmap:
            if not _try_lock(bitmap.fileno()):
                raise OverlayRefused(path=path, reason="another process has it open")
            shutil.rmtree(gone, ignore_errors=True)
            path.rename(gone)
            sync_directory(path.parent)
        shutil.rmtree(gone)
        shutil.rmtree(path.with_name(path.name + FILES_SUFFIX), ignore_errors=True)
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
