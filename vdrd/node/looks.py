"""Points that people look into: opened for the first look, kept for the next ones, closed when nobody comes
back.

A page, a search and each part of a download are looks of their own, and opening a disk's files costs a
process. All
methods but `close_idle`'s caller are for threads; looks at one point wait for each other.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from vdrd.disk.source import NativeDisk
from vdrd.files.browse import FileTree
from vdrd.jobs.disk_files import DiskFiles
from vdrd.model.errors import PeerBusy
from vdrd.model.points import DiskRoot
from vdrd.store.storage import Storage

log = logging.getLogger(__name__)

OPEN_MAX = 8
"""Points open at once: a disk's process may take several hundred MiB when its file system is hostile."""
IDLE_SECONDS = 60.0

Files = FileTree | DiskFiles


@dataclass(eq=False)
class _Open:
    storage_id: str
    files: Files
    closing: ExitStack
    lock: threading.Lock = field(default_factory=threading.Lock)
    users: int = 0
    used_at: float = 0.0


class PointLooks:
    """All open points of this node by id."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}

    @contextmanager
    def files(self, storage_id: str, storage: Storage, point_id: str) -> Iterator[Files]:
        """The files of a point, for this thread alone. Raises NotFound, Damaged, PeerBusy."""
        opened = self._acquire(storage_id, storage, point_id)
        try:
            with opened.lock:
                yield opened.files
        finally:
            with self._lock:
                opened.users -= 1
                opened.used_at = time.monotonic()

    def _acquire(self, storage_id: str, storage: Storage, point_id: str) -> _Open:
        with self._lock:
            opened = self._open.get(point_id)
            if opened is None:
                self._make_room()
                opened = self._open[point_id] = _opened(storage_id, storage, point_id)
            opened.users += 1
            return opened

    def _make_room(self) -> None:
        if len(self._open) < OPEN_MAX:
            return
        idle = [(one.used_at, point_id) for point_id, one in self._open.items() if not one.users]
        if not idle:
            raise PeerBusy(peer="the node")
        self._open.pop(min(idle)[1]).closing.close()

    def close_idle(self, *, older_seconds: float = IDLE_SECONDS) -> None:
        """Close what nobody looked into for so long."""
        now = time.monotonic()
        self._close(lambda one: now - one.used_at >= older_seconds)

    def close_storage(self, storage_id: str) -> None:
        """Close all points of a storage that nobody looks into right now."""
        self._close(lambda one: one.storage_id == storage_id)

    def close_points(self, point_ids: Iterable[str]) -> None:
        """Close these points, which were forgotten, where nobody looks into them right now: their space is
        to come back."""
        gone = frozenset(point_ids)
        with self._lock:
            over = [point_id for point_id in gone & self._open.keys() if not self._open[point_id].users]
            closing = [self._open.pop(point_id).closing for point_id in over]
        for one in closing:
            one.close()

    def is_used(self, storage_id: str) -> bool:
        """True while somebody looks into a point of the storage."""
        with self._lock:
            return any(one.users > 0 for one in self._open.values() if one.storage_id == storage_id)

    def close(self) -> None:
        """Close all that nobody looks into right now."""
        self._close(lambda _: True)

    def _close(self, is_over: Callable[[_Open], bool]) -> None:
        with self._lock:
            over = [point_id for point_id, one in self._open.items() if not one.users and is_over(one)]
            closing = [self._open.pop(point_id).closing for point_id in over]
        for one in closing:
            one.close()


def _opened(storage_id: str, storage: Storage, point_id: str) -> _Open:
    point = storage.point(point_id)
    root, reader = point.draft.root, storage.reader_of(point.draft.domain)
    with ExitStack() as closing:
        closing.enter_context(storage.hold(point))
        files: Files
        if isinstance(root, DiskRoot):
            disk = closing.enter_context(NativeDisk(reader.open_disk(root)))
            files = closing.enter_context(DiskFiles(disk))
        else:
            files = FileTree(root, reader)
        return _Open(storage_id, files, closing.pop_all())
