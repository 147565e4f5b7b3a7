"""Bulk data written past the page cache.

What nobody reads soon need not be copied into pages that first have to be found: on a virtual machine a fresh
page costs ten times what the disk's own transfer does. Knows alignment and how a file system says no, not
what is written.
"""

import errno
import fcntl
import mmap
import os

ALIGN_BYTES = 4096
"""Offset, length and memory of a direct write are multiples of this; no file system asks for more."""


def aligned_buffer(length_bytes: int) -> memoryview:
    """Zeroed memory that direct writes can be made from."""
    return memoryview(mmap.mmap(-1, length_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))


def whole_bytes(length_bytes: int) -> int:
    """How much of so many bytes a direct write can take."""
    return length_bytes & -ALIGN_BYTES


def begin(fd: int) -> bool:
    """Make writes through `fd` direct; False where the file system has no such thing."""
    try:
        fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) | os.O_DIRECT)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        return False
    return True


def end(fd: int) -> None:
    """Make writes through `fd` ordinary again."""
    fcntl.fcntl(fd, fcntl.F_SETFL, fcntl.fcntl(fd, fcntl.F_GETFL) & ~os.O_DIRECT)


def is_refusal(error: BaseException | None) -> bool:
    """True for what a direct write raises on a file system that only says now that it has no such thing."""
    return isinstance(error, OSError) and error.errno == errno.EINVAL
