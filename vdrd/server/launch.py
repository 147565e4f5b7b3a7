"""From a job to its queued runs: one per host. Used by the scheduler and by people who press the button."""

import sqlite3
from uuid import uuid4

from schemas.api.jobs import JobInfo
from schemas.api.words import BackupType, ObjectKind, RunKind
from schemas.control import BackupItem, RunSpec
from vdrd.catalog import hosts, jobs, runs

_KINDS = {ObjectKind.DISK: RunKind.BACKUP_DISK, ObjectKind.FILES: RunKind.BACKUP_FILES}


def new_id() -> str:
    """A fresh id."""
    return str(uuid4())


def queue_job(
    connection: sqlite3.Connection,
    job: JobInfo,
    *,
    tenant_id: str,
    backup_type: BackupType,
    host_ids: list[str],
    created_by: str,
    now_ms: int,
) -> tuple[str, list[str]]:
    """Write a queued run for each host of the job (or for those of `host_ids` only) and return batch and run
    ids.

    A host on which a run of this job is open already is left out: two runs of a job on one host would do the
    same work.
    """
    batch_id = new_id()
    run_ids = []
    for source in job.sources:
        if host_ids and source.host_id not in host_ids:
            continue
        if jobs.has_open_run(connection, job.id, source.host_id):
            continue
        host = hosts.get(connection, source.host_id)
        spec = RunSpec(
            run_id=new_id(),
            attempt=1,
            kind=_KINDS[job.kind],
            storage_id=job.storage_id,
            host_id=host.id,
            host_name=host.name,
            job_id=job.id,
            backup_type=backup_type,
            items=[
                BackupItem(
                    object_name=hosts.object_name(connection, host.id, job.kind, path, now_ms), path=path
                )
                for path in source.paths
            ],
            include=job.options.include,
            exclude=job.options.exclude,
            channel_count=job.options.channel_count,
        )
        runs.create(
            connection,
            spec=spec,
            tenant_id=tenant_id,
            batch_id=batch_id,
            job_name=job.name,
            storage_name=job.storage_name,
            attempts_max=job.options.retry_count + 1,
            retry_seconds=job.options.retry_delay_seconds,
            created_by=created_by,
            now_ms=now_ms,
        )
        run_ids.append(spec.run_id)
    return batch_id, run_ids
