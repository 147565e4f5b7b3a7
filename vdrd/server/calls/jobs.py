"""Calls about jobs."""

import sqlite3

import msgspec
from msgspec import UNSET

from schemas.api.jobs import (
    JobClone,
    JobCreate,
    JobDelete,
    JobDisable,
    JobEdit,
    JobEnable,
    JobGet,
    JobInfo,
    JobList,
    JobPage,
    JobRunNow,
    JobSource,
    RunsStarted,
)
from schemas.api.values import Done
from vdrd.catalog import hosts, jobs, storages
from vdrd.catalog.times import from_ms
from vdrd.model.errors import BadArgument, Conflict
from vdrd.server import schedule
from vdrd.server.accounts import Caller
from vdrd.server.launch import new_id, queue_job
from vdrd.server.scheduler import plan_job
from vdrd.server.services import Services


def _check_sources(connection: sqlite3.Connection, sources: list[JobSource]) -> None:
    """Raise NotFound for an unknown host, BadArgument for a path that is not absolute."""
    for source in sources:
        hosts.get(connection, source.host_id)
        for path in source.paths:
            if not path.startswith("/"):
                raise BadArgument(field="sources", reason=f"{path} is not an absolute path")


async def _changed(services: Services, job_id: str) -> JobInfo:
    services.scheduler.wake()
    services.feed.publish("job", job_id)
    return await services.catalog.read(jobs.get, job_id)


async def list_jobs(services: Services, caller: Caller, request: JobList) -> JobPage:
    """Jobs by name."""
    items, cursor = await services.catalog.read(jobs.list_page, caller.tenant_id, request)
    return JobPage(items=items, next_cursor=cursor)


async def get_job(services: Services, _caller: Caller, request: JobGet) -> JobInfo:
    """One job."""
    return await services.catalog.read(jobs.get, request.id)


async def create_job(services: Services, caller: Caller, request: JobCreate) -> JobInfo:
    """Make a job and plan it."""
    schedule.check(request.schedules, from_ms(services.clock()))
    job_id = new_id()

    def work(connection: sqlite3.Connection) -> None:
        _check_sources(connection, request.sources)
        storage_id = request.storage_id
        if storage_id is None:
            every = storages.every(connection)
            if len(every) != 1:
                raise BadArgument(field="storage_id", reason=f"say which of the {len(every)} storages")
            storage_id = every[0].id
        storages.get(connection, storage_id)
        now_ms = services.clock()
        jobs.create(
            connection,
            job_id=job_id,
            tenant_id=caller.tenant_id,
            name=request.name,
            kind=request.kind,
            storage_id=storage_id,
            sources=request.sources,
            schedules=request.schedules,
            options=request.options,
            is_enabled=request.is_enabled,
            created_by=caller.name,
            now_ms=now_ms,
        )
        plan_job(connection, job_id, now_ms)

    await services.catalog.write(work)
    return await _changed(services, job_id)


def _edited(job: JobInfo, request: JobEdit) -> JobInfo:
    given = {
        field: value
        for field in ("name", "storage_id", "sources", "schedules", "options")
        if (value := getattr(request, field)) is not UNSET
    }
    return msgspec.structs.replace(job, **given)


async def edit_job(services: Services, _caller: Caller, request: JobEdit) -> JobInfo:
    """Change what is given."""

    def work(connection: sqlite3.Connection) -> None:
        job = jobs.get(connection, request.id)
        if request.revision is not None and request.revision != job.revision:
            raise Conflict(
                what=f"job {job.name} was changed by somebody else meanwhile",
                remedy="look at it again, then repeat",
            )
        edited = _edited(job, request)
        if edited.schedules != job.schedules:
            schedule.check(edited.schedules, from_ms(services.clock()))
        storages.get(connection, edited.storage_id)
        if edited.sources != job.sources:
            _check_sources(connection, edited.sources)
        jobs.replace(connection, edited)
        plan_job(connection, request.id, services.clock())

    await services.catalog.write(work)
    return await _changed(services, request.id)


async def clone_job(services: Services, caller: Caller, request: JobClone) -> JobInfo:
    """Copy a job; the copy is disabled."""
    job_id = new_id()

    def work(connection: sqlite3.Connection) -> None:
        job = jobs.get(connection, request.id)
        jobs.create(
            connection,
            job_id=job_id,
            tenant_id=caller.tenant_id,
            name=request.name,
            kind=job.kind,
            storage_id=job.storage_id,
            sources=job.sources,
            schedules=job.schedules,
            options=job.options,
            is_enabled=False,
            created_by=caller.name,
            now_ms=services.clock(),
        )

    await services.catalog.write(work)
    return await _changed(services, job_id)


async def _set_enabled(services: Services, job_id: str, is_enabled: bool) -> JobInfo:
    def work(connection: sqlite3.Connection) -> None:
        job = jobs.get(connection, job_id)
        if job.is_enabled != is_enabled:
            jobs.replace(connection, msgspec.structs.replace(job, is_enabled=is_enabled))
            plan_job(connection, job_id, services.clock())

    await services.catalog.write(work)
    return await _changed(services, job_id)


async def enable_job(services: Services, _caller: Caller, request: JobEnable) -> JobInfo:
    """Let the schedule fire."""
    return await _set_enabled(services, request.id, True)


async def disable_job(services: Services, _caller: Caller, request: JobDisable) -> JobInfo:
    """Keep the schedule from firing."""
    return await _set_enabled(services, request.id, False)


async def delete_job(services: Services, _caller: Caller, request: JobDelete) -> Done:
    """Delete a job."""
    await services.catalog.write(jobs.delete, request.id)
    services.scheduler.wake()
    services.feed.publish("job", request.id)
    return Done()


async def run_now(services: Services, caller: Caller, request: JobRunNow) -> RunsStarted:
    """Queue a run per host. Raises Conflict if every host has one open already."""

    def work(connection: sqlite3.Connection) -> tuple[str, list[str]]:
        job = jobs.get(connection, request.id)
        strangers = set(request.host_ids) - {source.host_id for source in job.sources}
        if strangers:
            raise BadArgument(field="host_ids", reason=f"not in this job: {', '.join(sorted(strangers))}")
        return queue_job(
            connection,
            job,
            tenant_id=caller.tenant_id,
            backup_type=request.backup_type,
            host_ids=request.host_ids,
            created_by=caller.name,
            now_ms=services.clock(),
        )

    batch_id, run_ids = await services.catalog.write(work)
    if not run_ids:
        raise Conflict(what="this job is running already", remedy="wait for its end or cancel it")
    for run_id in run_ids:
        await services.director.submit(run_id)
    services.feed.publish("job", request.id)
    return RunsStarted(batch_id=batch_id, run_ids=run_ids)


HANDLERS = {
    "job.list": list_jobs,
    "job.get": get_job,
    "job.create": create_job,
    "job.edit": edit_job,
    "job.clone": clone_job,
    "job.enable": enable_job,
    "job.disable": disable_job,
    "job.delete": delete_job,
    "job.run_now": run_now,
}
