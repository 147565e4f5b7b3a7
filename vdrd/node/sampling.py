"""A random sample of every storage's data, read once a day: rot is found before a restore meets it.

What is found is remembered in the storage, so the next backup mends it, and told with the storage until it is
mended. When each storage's last sample was stands in a file, so a node that is started daily does it too.
"""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path

import trio

from vdrd.model.errors import Cancelled, NotFound, VdrError
from vdrd.model.progress import Cancel
from vdrd.node.storages import StorageKeeper
from vdrd.store.verify import VerifyReport

log = logging.getLogger(__name__)

LOOK_SECONDS = 300.0
DAY_SECONDS = 24 * 3600.0
_POINTS_TOLD_MAX = 10


class Sampling:
    """The task. Runs on the loop; the work is in a thread."""

    def __init__(
        self,
        keeper: StorageKeeper,
        state_file: Path,
        percent: float,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`percent` of the stored data a day; 0: none."""
        self._keeper = keeper
        self._state_file = state_file
        self._share = min(max(percent, 0.0), 100.0) / 100
        self._clock = clock
        self._reading = ""

    def is_used(self, storage_id: str) -> bool:
        """True while it reads there."""
        return self._reading == storage_id

    async def run(self) -> None:
        """Look now and then, for ever."""
        while self._share:
            await trio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Read a sample of each storage whose last one is a day old, one storage after the other."""
        done_at = await trio.to_thread.run_sync(self._load)
        for storage_id in self._keeper.open_ids():
            now = self._clock()
            # One never met before waits for a day: an appliance has other things to do when it is new.
            last = done_at.setdefault(storage_id, now)
            if last <= now < last + DAY_SECONDS:
                continue
            done_at[storage_id] = now
            await self._sample(storage_id)
        await trio.to_thread.run_sync(self._save, done_at)

    async def _sample(self, storage_id: str) -> None:
        cancel = Cancel()
        self._reading = storage_id
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_request_at_end, cancel)
                report = await trio.to_thread.run_sync(self._sample_now, storage_id, cancel)
                nursery.cancel_scope.cancel()
        finally:
            self._reading = ""
        if report is None:
            return
        if not report.damages:
            log.info("sample whole storage=%s read_bytes=%d", storage_id, report.read_bytes)
            return
        log.warning(
            "sample damaged storage=%s damages=%d points=%d first_points=%s",
            storage_id,
            len(report.damages),
            len(report.affected_points),
            ",".join(report.affected_points[:_POINTS_TOLD_MAX]),
        )

    def _sample_now(self, storage_id: str, cancel: Cancel) -> VerifyReport | None:
        """In a thread."""
        try:
            return self._keeper.storage(storage_id).verify(sample=self._share, cancel=cancel)
        except (Cancelled, NotFound):
            return None  # the node stops, or the storage went
        except VdrError as error:
            log.warning("sample failed storage=%s reason=%s", storage_id, error.message)
            return None

    def _load(self) -> dict[str, float]:
        try:
            found = json.loads(self._state_file.read_bytes())
            return {str(name): float(seconds) for name, seconds in found.items()}
        except (OSError, ValueError, TypeError, AttributeError):
            return {}

    def _save(self, done_at: dict[str, float]) -> None:
        kept = {name: done_at[name] for name in self._keeper.open_ids() if name in done_at}
        partial = self._state_file.with_suffix(".partial")
        try:
            partial.write_text(json.dumps(kept) + "\n", encoding="utf-8")
            partial.replace(self._state_file)
        except OSError as error:
            log.warning("time of samples not kept path=%s reason=%s", self._state_file, error.strerror)


async def _request_at_end(cancel: Cancel) -> None:
    """Stop the work in the thread when the node stops."""
    try:
        await trio.sleep_forever()
    finally:
        cancel.request()
