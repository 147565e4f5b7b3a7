"""A raw image file or a block device as a disk."""

import os
from pathlib import Path

from native.disk import Disk
from vdrd.disk.source import NativeDisk
from vdrd.model.errors import SourceUnreadable


class ImageDisk(NativeDisk):
    """Disk over a path. Extents of a file follow its holes; a block device is all data."""

    def __init__(self, path: Path, disk: Disk) -> None:
        super().__init__(disk)
        self.path = path

    @classmethod
    def open(cls, path: Path, *, writable: bool = False) -> "ImageDisk":
        """Open `path`. Raises SourceUnreadable when it cannot be opened or is no file or block device."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC | os.O_NONBLOCK
        try:
            # O_NONBLOCK: opening a fifo by mistake must not wait for a writer.
            fd = os.open(path, flags)
        except OSError as error:
            raise SourceUnreadable(path=path, reason=(error.strerror or "error").lower()) from error
        try:
            return cls(path, Disk.open_file(fd, writable=writable))
        except OSError as error:
            reason = "it is neither a regular file nor a block device"
            raise SourceUnreadable(path=path, reason=reason) from error
        finally:
            os.close(fd)
