"""Mounts a file system of ours by FUSE and serves it on Trio until told to stop or unmounted from outside.

Knows nothing of what is mounted: `disk_fs` and `tree_fs` are file systems.
"""

import errno
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pyfuse3
import trio

from vdrd.model.errors import NotFound, TargetRefused

log = logging.getLogger(__name__)

_OPTIONS = frozenset(
    {"fsname=vdr", "subtype=vdr", "ro", "nosuid", "nodev", "allow_other", "default_permissions"}
)
"""What a point holds was somebody's: its set-uid programs and devices must not work here."""


def check_mountpoint(path: Path) -> None:
    """Raises NotFound or TargetRefused when nothing can be mounted at `path`."""
    if not path.exists():
        raise NotFound(what="mountpoint", name=path)
    if not path.is_dir():
        raise TargetRefused(path=path, reason="it is not a directory")
    if any(path.iterdir()):
        raise TargetRefused(path=path, reason="it is not empty")


@asynccontextmanager
async def mounted(operations: pyfuse3.Operations, path: Path) -> AsyncIterator[trio.Event]:
    """`operations` mounted at `path`, an empty directory, while the context lasts; then unmounted.

    The event is set when somebody else unmounts it. Only one mount per process, a limit of the library.
    Raises NotFound or TargetRefused; leaves nothing mounted in any case.
    """
    check_mountpoint(path)
    try:
        pyfuse3.init(operations, str(path), set(_OPTIONS))
    except RuntimeError as error:
        raise TargetRefused(path=path, reason="FUSE cannot mount there (is /dev/fuse usable?)") from error
    ended = trio.Event()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_serve, ended)
            try:
                yield ended
            finally:
                nursery.cancel_scope.cancel()
    finally:
        # Lazily: programs that have files open keep them until they close them.
        pyfuse3.close(unmount=True)


async def _serve(ended: trio.Event) -> None:
    await pyfuse3.main()
    ended.set()


def failed(error: Exception, what: str) -> pyfuse3.FUSEError:
    """What a program is told when the store behind a file fails; the log has the reason."""
    log.warning("mounted file failed file=%s reason=%s", what, error)
    return pyfuse3.FUSEError(errno.EIO)
