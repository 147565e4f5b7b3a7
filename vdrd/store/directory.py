"""The files of a storage: every change to them passes through here, one method for each kind of step.

Translates OSError once: a full disk is StorageFull, any other failure StorageUnwritable. Tests derive from
`StorageDirectory` and break chosen steps. Knows nothing of what the files hold.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from vdrd.model.errors import StorageFull, StorageUnwritable, VdrError

_FULL = (errno.ENOSPC, errno.EDQUOT)


class StorageDirectory:
    """Paths are relative to `root`. Thread-safe, as the calls below it are."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        """Absolute path of a file."""
        return self.root / name

    @contextmanager
    def step(self, operation: str, name: str) -> Iterator[None]:
        """Surrounds each change: translates its errors."""
        try:
            yield
        except OSError as error:
            if error.errno in _FULL:
                raise StorageFull(path=self.root) from error
            reason = (error.strerror or "error").lower()
            raise StorageUnwritable(path=self.path(name), reason=reason) from error

    def make_directory(self, name: str) -> None:
        """Make a directory that is not there, mode 0700."""
        with self.step("make-directory", name):
            self.path(name).mkdir(mode=0o700)

    def create(self, name: str) -> int:
        """Make a file that is not there, mode 0600; returns a descriptor to read and write."""
        with self.step("create", name):
            return os.open(self.path(name), os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def write(self, fd: int, data: bytes | bytearray | memoryview, offset: int, name: str) -> None:
        """Write all of `data`."""
        with self.step("write", name):
            view = memoryview(data)
            while view:
                written = os.pwrite(fd, view, offset)
                view = view[written:]
                offset += written

    def truncate(self, fd: int, length_bytes: int, name: str) -> None:
        """Cut a file."""
        with self.step("truncate", name):
            os.ftruncate(fd, length_bytes)

    def sync(self, fd: int, name: str) -> None:
        """Return when the file's bytes are durable."""
        with self.step("sync", name):
            os.fsync(fd)

    def sync_directory(self, name: str) -> None:
        """Return when the names in a directory are durable."""
        with self.step("sync-directory", name):
            fd = os.open(self.path(name), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def rename(self, old: str, new: str) -> None:
        """Rename, replacing what is there."""
        with self.step("rename", new):
            self.path(old).rename(self.path(new))

    def remove(self, name: str) -> None:
        """Remove a file; no error when it is gone already."""
        with self.step("remove", name), suppress(FileNotFoundError):
            self.path(name).unlink()

    def write_file(self, name: str, data: bytes) -> None:
        """Put a small file in place, replacing an older one; durable on return, or nothing has changed."""
        partial = f"tmp/{name.replace('/', '-')}.new"
        self.remove(partial)
        with self.clearing(partial):
            fd = self.create(partial)
            try:
                self.write(fd, data, 0, partial)
                self.sync(fd, partial)
            finally:
                os.close(fd)
            self.rename(partial, name)
        self.sync_directory(str(Path(name).parent))

    @contextmanager
    def clearing(self, name: str) -> Iterator[None]:
        """Remove a file whose making failed: a full disk needs the space."""
        try:
            yield
        except VdrError:
            with suppress(VdrError):
                self.remove(name)
            raise
