"""Who may have a storage open: one writing process, any number of readers.

`lock` is held exclusively by the writer as long as it lives (the system lets go of it with the process).
`lock.read` is held shared by each reading process, and exclusively for the moment in which a pack is
removed.
"""

import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vdrd.model.errors import StorageLocked, StorageUnwritable

_HOLDER_BYTES_MAX = 256


class StorageLock:
    """Locks of one open storage. Closing the process releases them too."""

    def __init__(self, root: Path, *, writable: bool) -> None:
        """Raises StorageLocked when another process (or this one) writes already."""
        self._root = root
        self._writer_fd = self._acquire_writer() if writable else None
        try:
            self._reader_fd = self._open("lock.read", writable=writable)
            if not writable and self._reader_fd is not None:
                fcntl.flock(self._reader_fd, fcntl.LOCK_SH)
        except BaseException:
            self._close(self._writer_fd)
            raise

    def _open(self, name: str, *, writable: bool) -> int | None:
        flags = os.O_CLOEXEC | (os.O_RDWR | os.O_CREAT if writable else os.O_RDONLY)
        try:
            return os.open(self._root / name, flags, 0o600)
        except OSError as error:
            if not writable:
                return None  # a copy on read-only media may lack it: nobody removes packs there
            reason = (error.strerror or "error").lower()
            raise StorageUnwritable(path=self._root / name, reason=reason) from error

    def _acquire_writer(self) -> int | None:
        fd = self._open("lock", writable=True)
        assert fd is not None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(fd, _HOLDER_BYTES_MAX, 0).decode(errors="replace").strip()
            os.close(fd)
            raise StorageLocked(path=self._root, holder=holder or "another process") from error
        # Who holds it is for people. A full disk must not keep anybody from removing points.
        with suppress(OSError):
            holder_text = f"process {os.getpid()} on {socket.gethostname()}\n".encode()
            os.ftruncate(fd, os.pwrite(fd, holder_text, 0))
        return fd

    @contextmanager
    def no_readers(self) -> Iterator[bool]:
        """Keep reading processes out, if there are none now: yields whether that worked. Does not wait."""
        assert self._reader_fd is not None
        try:
            fcntl.flock(self._reader_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        try:
            yield True
        finally:
            fcntl.flock(self._reader_fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Release everything."""
        self._close(self._reader_fd)
        self._close(self._writer_fd)
        self._reader_fd = self._writer_fd = None

    @staticmethod
    def _close(fd: int | None) -> None:
        if fd is not None:
            os.close(fd)
