"""Starts jobs when their schedules say so. The catalog holds when each fires next; this task only waits for
the first.

A firing missed while the server was down is made up for once, however many were missed. Planning after a
firing starts
from now, so a clock that jumped forward fires once and one that jumped back waits for the planned moment
again.
"""

import logging
import sqlite3

import trio

from vdrd.catalog import jobs
from vdrd.catalog.database import Catalog
from vdrd.catalog.settings import TENANT_DEFAULT
from vdrd.catalog.times import from_ms, to_ms
from vdrd.model.errors import VdrError
from vdrd.server import schedule
from vdrd.server.clock import Clock
from vdrd.server.director import Director
from vdrd.server.launch import queue_job

log = logging.getLogger(__name__)

CATALOG_RETRY_SECONDS = 10.0
"""How long to wait for a catalog that took nothing."""
LOOK_AGAIN_SECONDS = 60.0
"""The longest sleep: a wall clock that was set is noticed within it."""


def plan_job(connection: sqlite3.Connection, job_id: str, now_ms: int, fired_ms: int | None = None) -> None:
    """Work out when the job fires next and write it down. Call it after every change of a job and after every
    firing."""
    job = jobs.get(connection, job_id)
    last_ms = fired_ms if fired_ms is not None else jobs.fired_at_ms(connection, job_id)
    last = None if last_ms is None else from_ms(last_ms)
    planned = schedule.plan(job.schedules, from_ms(now_ms), last) if job.is_enabled else None
    next_ms, backup_type = (None, None) if planned is None else (to_ms(planned[0]), planned[1])
    jobs.put_plan(connection, job_id, next_ms=next_ms, backup_type=backup_type, fired_ms=fired_ms)


class Scheduler:
    """The task that fires jobs."""

    def __init__(self, catalog: Catalog, director: Director, clock: Clock) -> None:
        self._catalog = catalog
        self._director = director
        self._clock = clock
        self._changed = trio.Event()

    def wake(self) -> None:
        """A plan changed: look at it."""
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Fire what is due, for ever."""
        while True:
            changed = self._changed
            seconds = LOOK_AGAIN_SECONDS
            try:
                for firing in await self._catalog.read(jobs.due, self._clock()):
                    await self._fire(firing)
                next_ms = await self._catalog.read(jobs.next_due_ms)
            except VdrError as error:
                # A catalog whose disk is full fires nothing, and must not take the server down.
                log.warning("no job started, trying again reason=%s", error.message)
                await trio.sleep(CATALOG_RETRY_SECONDS)
                continue
            if next_ms is not None:
                seconds = min(seconds, max(0.0, (next_ms - self._clock()) / 1000))
            with trio.move_on_after(seconds):
                await changed.wait()

    async def _fire(self, firing: jobs.Firing) -> None:
        try:
            run_ids = await self._catalog.write(self._queue, firing)
        except VdrError as error:
            log.warning("job not started job=%s reason=%s", firing.job_id, error.message)
            await self._catalog.write(self._skip, firing)
            return
        log.info("job fired job=%s runs=%d type=%s", firing.job_id, len(run_ids), firing.backup_type)
        for run_id in run_ids:
            await self._director.submit(run_id)

    def _queue(self, connection: sqlite3.Connection, firing: jobs.Firing) -> list[str]:
        now_ms = self._clock()
        job = jobs.get(connection, firing.job_id)
        _, run_ids = queue_job(
            connection,
            job,
            tenant_id=TENANT_DEFAULT,
            backup_type=firing.backup_type,
            host_ids=[],
            created_by="schedule",
            now_ms=now_ms,
        )
        plan_job(connection, job.id, now_ms, fired_ms=now_ms)
        return run_ids

    def _skip(self, connection: sqlite3.Connection, firing: jobs.Firing) -> None:
        plan_job(connection, firing.job_id, self._clock(), fired_ms=self._clock())
