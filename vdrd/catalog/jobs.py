"""Jobs: their rows, sources and the moment they fire next."""

import sqlite3
from dataclasses import dataclass
from itertools import groupby

import msgspec

from schemas.api.jobs import JobInfo, JobList, JobOptions, JobSource
from schemas.api.schedules import Schedule
from schemas.api.words import BackupType, ObjectKind, RunState
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none
from vdrd.model.errors import Conflict, NotFound

_JOB = (
    "SELECT jobs.*, storages.name AS storage_name, last.run_id AS last_run_id, last.state AS last_run_state,"
    " last.created_at_ms AS last_run_at_ms FROM jobs JOIN storages USING (storage_id)"
    " LEFT JOIN runs AS last ON last.run_id = (SELECT run_id FROM runs WHERE runs.job_id = jobs.job_id"
    " ORDER BY sequence DESC LIMIT 1)"
)
_PREFIXED = f"SELECT * FROM ({_JOB})"


def _info(connection: sqlite3.Connection, row: sqlite3.Row) -> JobInfo:
    sources = connection.execute(
        "SELECT host_id, path FROM job_sources WHERE job_id = ? ORDER BY position", [row["job_id"]]
    ).fetchall()
    return JobInfo(
        id=row["job_id"],
        name=row["name"],
        kind=ObjectKind(row["kind"]),
        storage_id=row["storage_id"],
        storage_name=row["storage_name"],
        sources=[
            JobSource(host_id=host_id, paths=[source["path"] for source in group])
            for host_id, group in groupby(sources, key=lambda source: str(source["host_id"]))
        ],
        schedules=msgspec.json.decode(row["schedules_json"], type=list[Schedule]),
        options=msgspec.json.decode(row["options_json"], type=JobOptions),
        is_enabled=bool(row["is_enabled"]),
        created_at=from_ms(row["created_at_ms"]),
        created_by=row["created_by"],
        revision=row["revision"],
        next_run_at=from_ms_or_none(row["next_run_at_ms"]) if row["is_enabled"] else None,
        last_run_id=row["last_run_id"],
        last_run_state=None if row["last_run_state"] is None else RunState(row["last_run_state"]),
        last_run_at=from_ms_or_none(row["last_run_at_ms"]),
    )


def get(connection: sqlite3.Connection, job_id: str) -> JobInfo:
    """The job. Raises NotFound."""
    row = connection.execute(f"{_PREFIXED} WHERE job_id = ?", [job_id]).fetchone()
    if row is None:
        raise NotFound(what="job", name=job_id)
    return _info(connection, row)


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: JobList
) -> tuple[list[JobInfo], str | None]:
    """Jobs by name."""
    conditions = (
        Filter()
        .equals("tenant_id", tenant_id)
        .contains("name", request.search)
        .equals("kind", request.kind)
        .equals("storage_id", request.storage_id)
        .equals("is_enabled", request.is_enabled)
    )
    if request.host_id is not None:
        conditions.where("job_id IN (SELECT job_id FROM job_sources WHERE host_id = ?)", request.host_id)
    return page(
        connection,
        _PREFIXED,
        conditions,
        key=["name"],
        cursor=request.cursor,
        limit=request.limit,
        make=lambda row: _info(connection, row),
    )


def count(connection: sqlite3.Connection) -> int:
    """Number of jobs."""
    (number,) = connection.execute("SELECT count(*) FROM jobs").fetchone()
    return int(number)


def _put_sources(connection: sqlite3.Connection, job_id: str, sources: list[JobSource]) -> None:
    connection.execute("DELETE FROM job_sources WHERE job_id = ?", [job_id])
    rows = [(source.host_id, path) for source in sources for path in source.paths]
    # Sources of one host stand together, whatever order they were given in; each path once.
    hosts = list(dict.fromkeys(host_id for host_id, _ in rows))
    ordered = sorted(dict.fromkeys(rows), key=lambda row: hosts.index(row[0]))
    connection.executemany(
        "INSERT INTO job_sources (job_id, position, host_id, path) VALUES (?, ?, ?, ?)",
        [(job_id, position, host_id, path) for position, (host_id, path) in enumerate(ordered)],
    )


def create(
    connection: sqlite3.Connection,
    *,
    job_id: str,
    tenant_id: str,
    name: str,
    kind: ObjectKind,
    storage_id: str,
    sources: list[JobSource],
    schedules: list[Schedule],
    options: JobOptions,
    is_enabled: bool,
    created_by: str,
    now_ms: int,
) -> None:
    """Add a job. Raises Conflict if the name is taken."""
    try:
        connection.execute(
            "INSERT INTO jobs (job_id, tenant_id, name, kind, storage_id, schedules_json, options_json,"
            " is_enabled,"
            " created_at_ms, created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                job_id,
                tenant_id,
                name,
                kind,
                storage_id,
                msgspec.json.encode(schedules).decode(),
                msgspec.json.encode(options).decode(),
                is_enabled,
                now_ms,
                created_by,
            ],
        )
    except sqlite3.IntegrityError as error:
        raise _taken(name) from error
    _put_sources(connection, job_id, sources)


def _taken(name: str) -> Conflict:
    return Conflict(what=f"there is a job {name} already", remedy="choose another name")


def replace(connection: sqlite3.Connection, job: JobInfo) -> None:
    """Write the name, storage, sources, schedules, options and enabled state of `job`, and count the edit.

    Raises Conflict if the name is taken or somebody else edited it since `job` was read.
    """
    try:
        changed = connection.execute(
            "UPDATE jobs SET name = ?, storage_id = ?, schedules_json = ?, options_json = ?, is_enabled = ?,"
            " revision = revision + 1 WHERE job_id = ? AND revision = ?",
            [
                job.name,
                job.storage_id,
                msgspec.json.encode(job.schedules).decode(),
                msgspec.json.encode(job.options).decode(),
                job.is_enabled,
                job.id,
                job.revision,
            ],
        ).rowcount
    except sqlite3.IntegrityError as error:
        raise _taken(job.name) from error
    if not changed:
        raise Conflict(
            what=f"job {job.name} was changed by somebody else meanwhile",
            remedy="look at it again, then repeat",
        )
    _put_sources(connection, job.id, job.sources)


def delete(connection: sqlite3.Connection, job_id: str) -> None:
    """Delete a job. Raises NotFound; Conflict while a run of it is open."""
    open_run = connection.execute(
        "SELECT 1 FROM runs WHERE job_id = ? AND ended_at_ms IS NULL LIMIT 1", [job_id]
    ).fetchone()
    if open_run is not None:
        raise Conflict(what="a run of this job is open", remedy="cancel it or wait for its end, then delete")
    if connection.execute("DELETE FROM jobs WHERE job_id = ?", [job_id]).rowcount == 0:
        raise NotFound(what="job", name=job_id)


def has_open_run(connection: sqlite3.Connection, job_id: str, host_id: str) -> bool:
    """True while a run of the job on that host is open."""
    row = connection.execute(
        "SELECT 1 FROM runs WHERE job_id = ? AND host_id = ? AND ended_at_ms IS NULL LIMIT 1",
        [job_id, host_id],
    ).fetchone()
    return row is not None


@dataclass(frozen=True, slots=True)
class Firing:
    """A job whose moment has come."""

    job_id: str
    planned_ms: int
    backup_type: BackupType


def due(connection: sqlite3.Connection, now_ms: int) -> list[Firing]:
    """Enabled jobs to start now, the longest due first."""
    rows = connection.execute(
        "SELECT job_id, next_run_at_ms, next_type FROM jobs WHERE is_enabled = 1 AND next_run_at_ms <= ?"
        " ORDER BY next_run_at_ms",
        [now_ms],
    )
    return [Firing(row["job_id"], row["next_run_at_ms"], BackupType(row["next_type"])) for row in rows]


def next_due_ms(connection: sqlite3.Connection) -> int | None:
    """When the first job fires; None if none ever does."""
    row = connection.execute(
        "SELECT min(next_run_at_ms) AS first FROM jobs WHERE is_enabled = 1 AND next_run_at_ms IS NOT NULL"
    ).fetchone()
    return None if row["first"] is None else int(row["first"])


def enabled_ids(connection: sqlite3.Connection) -> list[str]:
    """Jobs whose schedule counts."""
    return [row["job_id"] for row in connection.execute("SELECT job_id FROM jobs WHERE is_enabled = 1")]


def fired_at_ms(connection: sqlite3.Connection, job_id: str) -> int | None:
    """When its schedule fired last, by plan."""
    row = connection.execute("SELECT fired_at_ms FROM jobs WHERE job_id = ?", [job_id]).fetchone()
    return None if row is None or row["fired_at_ms"] is None else int(row["fired_at_ms"])


def put_plan(
    connection: sqlite3.Connection,
    job_id: str,
    *,
    next_ms: int | None,
    backup_type: BackupType | None,
    fired_ms: int | None,
) -> None:
    """Set when the job fires next, and when it fired last (None keeps that)."""
    connection.execute(
        "UPDATE jobs SET next_run_at_ms = ?, next_type = ?, fired_at_ms = coalesce(?, fired_at_ms) WHERE"
        " job_id = ?",
        [next_ms, backup_type, fired_ms, job_id],
    )


def options_for(connection: sqlite3.Connection, storage_id: str, object_name: str) -> list[JobOptions]:
    """Options of every job, enabled or not, that protects the object into this storage."""
    rows = connection.execute(
        "SELECT DISTINCT jobs.job_id, jobs.options_json FROM objects JOIN job_sources USING (host_id, path)"
        " JOIN jobs ON jobs.job_id = job_sources.job_id AND jobs.kind = objects.kind"
        " WHERE objects.object_name = ? AND jobs.storage_id = ?",
        [object_name, storage_id],
    )
    return [msgspec.json.decode(row["options_json"], type=JobOptions) for row in rows]


def protected(connection: sqlite3.Connection) -> list[tuple[str, str]]:
    """Storage and object of everything that a job protects and that has points, in order."""
    rows = connection.execute(
        "SELECT DISTINCT jobs.storage_id, objects.object_name FROM jobs JOIN job_sources USING (job_id)"
        " JOIN objects ON objects.host_id = job_sources.host_id AND objects.path = job_sources.path"
        " AND objects.kind = jobs.kind WHERE EXISTS (SELECT 1 FROM points WHERE points.object_name ="
        " objects.object_name AND points.storage_id = jobs.storage_id) ORDER BY 1, 2"
    )
    return [(row["storage_id"], row["object_name"]) for row in rows]
