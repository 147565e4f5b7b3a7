"""From a disk to an export: read-only as it is, or writable over an overlay that a restart finds again."""

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from fuse_nfs.export import LOOPBACK, Export, Scratch
from native.nfs import Network
from vdrd.disk.overlay import OverlayDisk, OverlayKeys
from vdrd.disk.overlay_search import FILES_SUFFIX
from vdrd.disk.source import DiskSource
from vdrd.model.errors import StorageFull, StorageUnwritable


def scratch_path(overlay_path: Path) -> Path:
    """Where the files beside a disk are, whose overlay is in `overlay_path`."""
    return overlay_path.with_name(overlay_path.name + FILES_SUFFIX)


@contextmanager
def opened_export(
    lower: DiskSource,
    *,
    name: str,
    identity: str,
    overlay_path: Path | None = None,
    clients: tuple[Network, ...] = LOOPBACK,
    modified_ns: int = 0,
    keys: OverlayKeys | None = None,
    limit_bytes: int = 0,
) -> Iterator[Export]:
    """An export of `lower` as `name`, to be added to a server within the context and removed before it ends.

    With `overlay_path` it is writable: writes go to the overlay in that directory, which is made if missing
    and else must be over the disk that `identity` names (OverlayRefused, Damaged). Files that clients put
    beside the disk are kept next to it (`scratch_path`). `keys` and `limit_bytes` are those of the overlay.
    Leaving the context makes writes durable; StorageFull or StorageUnwritable tells when that failed. `lower`
    stays the caller's to close.
    """
    if overlay_path is None:
        yield Export(name, lower, is_writable=False, clients=clients, modified_ns=modified_ns)
        return
    with ExitStack() as stack:
        overlay = stack.enter_context(
            OverlayDisk.open(overlay_path, lower, identity=identity, keys=keys, limit_bytes=limit_bytes)
        )
        modified_ns = max(modified_ns, overlay.modified_ns)
        yield Export(
            name,
            overlay,
            is_writable=True,
            clients=clients,
            modified_ns=modified_ns,
            scratch=Scratch(scratch_path(overlay_path)),
        )
        try:
            overlay.flush()
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(path=overlay_path) from error
            raise StorageUnwritable(path=overlay_path, reason=(error.strerror or "error").lower()) from error
