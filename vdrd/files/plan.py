"""Decides what a backup has to read: scans the tree, merges it with the manifest before, and gives batches in
path order.

Runs in a thread of its own, a bounded number of batches ahead of the readers. Must not know how anything is
read or stored.
"""

import queue
import threading
from collections.abc import Callable, Iterator
from typing import TypeVar

from native.event import Event
from native.merge import Merge, MergeCounts, MergeStep
from native.scan import Scan
from vdrd.files.tree import TreeReader
from vdrd.model.errors import Damaged
from vdrd.model.progress import Cancel

T = TypeVar("T")

AHEAD_BATCHES = 4
"""Batches planned ahead: enough to keep the readers busy over a slow directory, at most 4 MiB."""


class Plan:
    """The batches of one backup. Counts and owners are complete when the batches have ended."""

    def __init__(
        self,
        scan: Scan,
        *,
        cut_seed: int,
        parent: TreeReader | None,
        reads_all: bool,
        on_event: Callable[[Event], None],
        cancel: Cancel,
    ) -> None:
        self._scan = scan
        self._merge = Merge(cut_seed, reads_all=reads_all)
        self._parent = parent
        self._cancel = cancel
        self._on_event = on_event
        self.is_complete = False
        """Every entry of the tree was seen."""
        self.is_parent_damaged = False
        """The manifest before could not be read to its end; what it did not tell was read."""

    def batches(self) -> Iterator[bytes]:
        """Batches of loose entries, the last maybe empty."""
        old = self._old_segments()
        while True:
            match self._merge.step():
                case MergeStep.WANTS_SCAN:
                    self._cancel.check()
                    entries_bytes = self._scan.next_bytes()
                    for event in self._scan.events.drain():
                        self._on_event(event)
                    self._merge.give_scan(self._scan.pointer, entries_bytes, is_end=self._scan.is_end)
                case MergeStep.WANTS_OLD:
                    self._merge.give_old(next(old, None))
                case MergeStep.BATCH:
                    yield self._merge.take_batch()
                case MergeStep.END:
                    self.is_complete = True
                    yield self._merge.take_batch()
                    return

    def _old_segments(self) -> Iterator[bytes]:
        if self._parent is None:
            return
        try:
            yield from self._parent.segments_from(b"")
        except Damaged:
            self.is_parent_damaged = True

    def counts(self) -> MergeCounts:
        """Entries so far."""
        return self._merge.counts()

    def owners(self, *, groups: bool = False) -> list[int]:
        """User or group ids of all entries."""
        return self._scan.owners(groups=groups)


class Ahead(Iterator[T]):
    """Runs an iterator in a thread, at most `AHEAD_BATCHES` items ahead. Close it, or run it to its end."""

    def __init__(self, items: Callable[[], Iterator[T]], name: str) -> None:
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(AHEAD_BATCHES)
        self._items = items
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for item in self._items():
                self._queue.put((item, None))
                if self._is_closed:
                    return
        except BaseException as error:
            self._queue.put((None, error))
        else:
            self._queue.put((None, StopIteration()))

    def __next__(self) -> T:
        item, error = self._queue.get()
        if error is not None:
            self._thread.join()
            raise error
        assert item is not None
        return item

    def close(self) -> None:
        """End the thread."""
        self._is_closed = True
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue
