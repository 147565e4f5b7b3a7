"""A file system with one file: the disk of a point."""

import errno
import os
import stat

import pyfuse3
import trio

from fuse_nfs.export import DISK_NAME
from fuse_nfs.mount import failed
from fuse_nfs.read_only import ReadOnlyFileSystem
from native.err import NativeError
from vdrd.disk.source import DiskSource

_DISK_INODE = pyfuse3.InodeT(2)
_READERS = 4
_KEPT_SECONDS = 3600.0
"""The content never changes, so the kernel may keep names and attributes."""


class DiskFileSystem(ReadOnlyFileSystem):
    """`/disk.raw`, read-only. Reads run in threads: they decompress."""

    def __init__(self, disk: DiskSource, modified_ns: int) -> None:
        super().__init__(disk.size_bytes, files=1)
        self._disk = disk
        self._modified_ns = modified_ns
        self._limiter = trio.CapacityLimiter(_READERS)

    def _attributes(self, inode: int) -> pyfuse3.EntryAttributes:
        is_disk = inode == _DISK_INODE
        entry = pyfuse3.EntryAttributes()
        entry.st_ino = pyfuse3.InodeT(inode)
        entry.st_mode = pyfuse3.ModeT(stat.S_IFREG | 0o400 if is_disk else stat.S_IFDIR | 0o555)
        entry.st_nlink = 1 if is_disk else 2
        entry.st_size = self._disk.size_bytes if is_disk else 0
        entry.st_blksize = 1 << 16
        entry.st_blocks = entry.st_size // 512
        entry.st_atime_ns = entry.st_mtime_ns = entry.st_ctime_ns = self._modified_ns
        entry.entry_timeout = entry.attr_timeout = _KEPT_SECONDS
        return entry

    async def lookup(  # noqa: D102
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        if parent_inode != pyfuse3.ROOT_INODE or name != DISK_NAME.encode():
            raise pyfuse3.FUSEError(errno.ENOENT)
        return self._attributes(_DISK_INODE)

    async def getattr(  # noqa: D102
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return self._attributes(inode)

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:  # noqa: D102
        return pyfuse3.FileHandleT(inode)

    async def readdir(  # noqa: D102
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        if start_id == 0:
            pyfuse3.readdir_reply(token, DISK_NAME.encode(), self._attributes(_DISK_INODE), 1)

    async def open(  # noqa: D102
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise pyfuse3.FUSEError(errno.EROFS)
        return pyfuse3.FileInfo(fh=pyfuse3.FileHandleT(inode), keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:  # noqa: D102
        length = max(0, min(size, self._disk.size_bytes - off))
        buffer = bytearray(length)
        try:
            await trio.to_thread.run_sync(self._disk.read_into, off, buffer, limiter=self._limiter)
        except (OSError, NativeError) as error:
            raise failed(error, DISK_NAME) from error
        return bytes(buffer)
