"""Retention of jobs: after every run of an object and once a day, the node of its storage is told what to
keep.

The server knows policies and what is in use, the storage its points, its locks and its time; so the server
asks and the node decides and removes.
"""

import logging
import sqlite3

import trio

from schemas.api.jobs import JobOptions
from schemas.api.runs import RunInfo
from schemas.control import PointsRetain, PointsRetained
from vdrd.catalog import exports, jobs, points, settings, storages
from vdrd.catalog.times import from_ms
from vdrd.model.errors import NotFound, VdrError
from vdrd.model.retention import RetentionPolicy, combined
from vdrd.server.services import Services

log = logging.getLogger(__name__)

DAY_MS = 86_400_000
LOOK_AGAIN_SECONDS = 600.0
"""How often the task looks whether a day has passed; a clock that was set is noticed within it."""
_RETAIN_SECONDS = 300.0
_LAST_NAME = "retained_at_ms"


def policy_of(options: JobOptions) -> RetentionPolicy:
    """The retention of a job."""
    return RetentionPolicy(
        options.keep_last,
        options.keep_days,
        options.keep_weekly,
        options.keep_monthly,
        options.keep_yearly,
    )


async def retain_after(services: Services, run: RunInfo) -> None:
    """Apply retention to the objects of a run that ended well. Root of a task."""
    if run.storage_id is None or not run.point_ids:
        return
    try:
        made = [await services.catalog.read(points.get, point_id) for point_id in run.point_ids]
    except NotFound:
        return
    except VdrError as error:
        log.warning("retention failed run=%s reason=%s", run.id, error.message)
        return
    for name in dict.fromkeys(point.object_name for point in made):
        await _retain(services, run.storage_id, name)


async def keep_retaining(services: Services) -> None:
    """Apply retention to every object once a day, so that points also go where no run is made any more."""
    while True:
        try:
            await retain_if_due(services)
        except VdrError as error:
            log.warning("daily retention failed reason=%s", error.message)
        await trio.sleep(LOOK_AGAIN_SECONDS)


async def retain_if_due(services: Services) -> None:
    """Apply retention to every object if a day has passed since, or the clock was set back."""
    last_ms = await services.catalog.read(_last_ms)
    now_ms = services.clock()
    if last_ms is not None and last_ms <= now_ms < last_ms + DAY_MS:
        return
    if last_ms is not None:
        for storage_id, name in await services.catalog.read(jobs.protected):
            await _retain(services, storage_id, name)
    await services.catalog.write(settings.put, _LAST_NAME, str(now_ms))


def _last_ms(connection: sqlite3.Connection) -> int | None:
    text = settings.get(connection, _LAST_NAME)
    return None if text is None else int(text)


async def _retain(services: Services, storage_id: str, object_name: str) -> None:
    """Have the node apply what the jobs of an object say, and note what went. What fails is tried again the
    next day."""
    try:
        options = await services.catalog.read(jobs.options_for, storage_id, object_name)
        policy = combined(policy_of(each) for each in options)
        if policy.is_empty:
            return
        storage = await services.catalog.read(storages.get, storage_id)
        ask = PointsRetain(
            storage_id=storage_id,
            object_name=object_name,
            now=from_ms(services.clock()),
            keep_last=policy.keep_last,
            keep_days=policy.keep_days,
            keep_weekly=policy.keep_weekly,
            keep_monthly=policy.keep_monthly,
            keep_yearly=policy.keep_yearly,
            used_ids=await services.catalog.read(exports.point_ids, storage_id),
            broken_ids=await services.catalog.read(points.broken_ids, storage_id, object_name),
        )
        answer = await services.peers.ask(
            storage.node_id, f"node {storage.node_name}", ask, PointsRetained, _RETAIN_SECONDS
        )
        await services.catalog.write(points.drop, storage_id, answer.forgotten_ids)
    except VdrError as error:
        log.warning("retention failed object=%s storage=%s reason=%s", object_name, storage_id, error.message)
        return
    for point_id in answer.forgotten_ids:
        services.feed.publish("point", point_id)
    if answer.is_clock_doubtful:
        log.warning("retention holds back: the node's clock was set forward storage=%s", storage_id)
    if answer.forgotten_ids or answer.blocked_ids:
        log.info(
            "points expired object=%s storage=%s count=%d blocked=%d",
            object_name,
            storage_id,
            len(answer.forgotten_ids),
            len(answer.blocked_ids),
        )
