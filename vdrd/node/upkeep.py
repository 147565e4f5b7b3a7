"""Upkeep of a node's storages: collections that nobody asked for, after points went, within a window and a
rate.

A collection begins some time after the last removal, so that the retention of many objects is one collection,
and is cut off when the window ends: what it did stays done, and the next one goes on from there.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time

import trio

from vdrd.model.errors import BadInput, Cancelled, VdrError
from vdrd.model.progress import Cancel
from vdrd.model.rate import RateLimit
from vdrd.node.config import NodeConfig
from vdrd.node.storages import StorageKeeper
from vdrd.store.collect import CollectReport

log = logging.getLogger(__name__)

LOOK_SECONDS = 60.0
DELAY_SECONDS = 600.0
"""After the last removal."""
PAUSE_SECONDS = 3600.0
"""Between two collections of a storage, whatever goes meanwhile: packs in use would be looked at for
nothing."""

_WINDOW = re.compile(r"([01]\d|2[0-4]):([0-5]\d)-([01]\d|2[0-4]):([0-5]\d)")
_DAY_MINUTES = 24 * 60


@dataclass(frozen=True, slots=True)
class DayWindow:
    """A part of every day, by the machine's wall clock; it may go past midnight."""

    begin_minute: int
    end_minute: int

    @classmethod
    def parse(cls, text: str) -> "DayWindow":
        """Of `22:00-06:00`. Raises BadInput."""
        match = _WINDOW.fullmatch(text)
        if match is None:
            raise BadInput(what=f"{text} is no window of time; write 22:00-06:00")
        hours = [int(digits) for digits in match.groups()]
        begin, end = hours[0] * 60 + hours[1], hours[2] * 60 + hours[3]
        if begin >= _DAY_MINUTES or end > _DAY_MINUTES or begin == end:
            raise BadInput(what=f"{text} is no window of time; all day is 00:00-24:00")
        return cls(begin, end)

    def contains(self, moment: time) -> bool:
        """True while it is open."""
        minute = moment.hour * 60 + moment.minute
        if self.begin_minute < self.end_minute:
            return self.begin_minute <= minute < self.end_minute
        return minute >= self.begin_minute or minute < self.end_minute


class Upkeep:
    """The task, and what it is told. Runs on the loop; the work is in a thread."""

    def __init__(
        self,
        keeper: StorageKeeper,
        config: NodeConfig,
        now: Callable[[], time] = lambda: datetime.now().astimezone().time(),
    ) -> None:
        """Raises BadInput for a window that cannot be."""
        self._keeper = keeper
        self._window = DayWindow.parse(config.collect_window)
        self._rate = RateLimit(config.collect_bytes_per_second or None)
        self._now = now
        self._changed_at: dict[str, float] = {}
        self._collected_at: dict[str, float] = {}
        self._began_at = trio.current_time()
        self._collecting = ""

    def note_removed(self, storage_id: str) -> None:
        """Points of a storage went."""
        self._changed_at[storage_id] = trio.current_time()

    def is_used(self, storage_id: str) -> bool:
        """True while it collects there."""
        return self._collecting == storage_id

    async def run(self) -> None:
        """Look every minute, for ever."""
        while True:
            await trio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Collect wherever it is time to, one storage after the other."""
        for storage_id in self._keeper.open_ids():
            if self._is_due(storage_id):
                await self._collect(storage_id)

    def _is_due(self, storage_id: str) -> bool:
        now = trio.current_time()
        changed_at = self._changed_at.get(storage_id, self._began_at)
        collected_at = self._collected_at.get(storage_id, -PAUSE_SECONDS)
        is_rested = now >= changed_at + DELAY_SECONDS and now >= collected_at + PAUSE_SECONDS
        return is_rested and self._window.contains(self._now())

    async def _collect(self, storage_id: str) -> None:
        """Collect if something may be free. One line in the log tells the outcome."""
        cancel = Cancel()
        began_at = trio.current_time()
        self._collecting = storage_id
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._watch_window, cancel)
                report = await trio.to_thread.run_sync(self._collect_now, storage_id, cancel)
                nursery.cancel_scope.cancel()
        finally:
            self._collecting = ""
        if report is None:
            return
        self._collected_at[storage_id] = trio.current_time()
        log.info(
            "storage collected storage=%s freed_bytes=%d moved_bytes=%d dead_bytes=%d deferred_packs=%d"
            " locked_packs=%d seconds=%.0f",
            storage_id,
            report.freed_bytes,
            report.moved_bytes,
            report.dead_bytes,
            report.deferred_packs,
            report.locked_packs,
            trio.current_time() - began_at,
        )

    def _collect_now(self, storage_id: str, cancel: Cancel) -> CollectReport | None:
        """In a thread. None when nothing can be free, and when it came to no end."""
        try:
            storage = self._keeper.storage(storage_id)
            return storage.collect(rate=self._rate, cancel=cancel) if storage.wants_collection() else None
        except Cancelled:
            log.info("collection cut off storage=%s", storage_id)
        except VdrError as error:
            log.warning("collection failed storage=%s reason=%s", storage_id, error.message)
            self._collected_at[storage_id] = trio.from_thread.run_sync(trio.current_time)
        return None

    async def _watch_window(self, cancel: Cancel) -> None:
        """Cut the collection off when the window ends, or with the node."""
        try:
            while self._window.contains(self._now()):  # noqa: ASYNC110 - a wall clock raises no event
                await trio.sleep(LOOK_SECONDS)
        finally:
            cancel.request()
