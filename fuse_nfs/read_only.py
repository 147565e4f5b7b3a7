"""What every file system of a point answers the same."""

import pyfuse3

_BLOCK_BYTES = 4096


class ReadOnlyFileSystem(pyfuse3.Operations):
    """Base of file systems that never change: nothing is free, closing means nothing."""

    def __init__(self, size_bytes: int, files: int) -> None:
        super().__init__()
        self._size_bytes = size_bytes
        self._file_count = files

    async def statfs(self, ctx: pyfuse3.RequestContext) -> pyfuse3.StatvfsData:  # noqa: D102
        space = pyfuse3.StatvfsData()
        space.f_bsize = space.f_frsize = _BLOCK_BYTES
        space.f_blocks = -(-self._size_bytes // _BLOCK_BYTES)
        space.f_bfree = space.f_bavail = 0
        space.f_files = self._file_count
        space.f_ffree = space.f_favail = 0
        space.f_namemax = 255
        return space

    async def flush(self, fh: pyfuse3.FileHandleT) -> None:  # noqa: D102
        return

    async def release(self, fh: pyfuse3.FileHandleT) -> None:  # noqa: D102
        return

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:  # noqa: D102
        return
