"""Runs: the table of states, guarded moves between them, logs.

Every move names the state it leaves and, where an agent or node had a say, the attempt it speaks of; a move
that no longer
fits does nothing and says so. That is what makes late, repeated and lost messages harmless.
"""

import sqlite3

import msgspec

from schemas.api.runs import LogLine, RunInfo, RunList, RunLog, RunProgress
from schemas.api.words import OPEN_STATES, BackupType, LogLevel, RunKind, RunState
from schemas.control import LoggedLine, RunSpec
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none, to_ms
from vdrd.model.errors import NotFound

MOVES: dict[RunState, frozenset[RunState]] = {
    RunState.QUEUED: frozenset({RunState.PREPARING, RunState.FAILED, RunState.CANCELLED}),
    RunState.PREPARING: frozenset({RunState.RUNNING, RunState.QUEUED, RunState.FAILED, RunState.CANCELLED}),
    RunState.RUNNING: frozenset(
        {RunState.DONE, RunState.WARNING, RunState.FAILED, RunState.CANCELLED, RunState.QUEUED}
    ),
    RunState.DONE: frozenset(),
    RunState.WARNING: frozenset(),
    RunState.FAILED: frozenset(),
    RunState.CANCELLED: frozenset(),
}
"""Which state may follow which. Back to queued means another attempt."""

_LOG_TEXT_MAX = 8192
"""Characters of a line: two paths of the longest kind."""
_LOG_PAGE_BYTES = 256 << 10
"""A page of the log ends with the line that reaches this, so that it fits into one message."""
_LOG_LINES_MAX = 100_000
"""Lines kept per run; a source with more unreadable files is listed in its point, not here."""


def _info(connection: sqlite3.Connection, row: sqlite3.Row) -> RunInfo:
    kind = RunKind(row["kind"])
    if kind in {RunKind.BACKUP_DISK, RunKind.BACKUP_FILES}:
        point_ids = [
            point["point_id"]
            for point in connection.execute(
                "SELECT point_id FROM points WHERE run_id = ? ORDER BY time_ms, point_id", [row["run_id"]]
            )
        ]
    else:
        spec = msgspec.json.decode(row["spec_json"], type=RunSpec)
        point_ids = [spec.restore.point_id] if spec.restore is not None else list(spec.point_ids)
    return RunInfo(
        id=row["run_id"],
        kind=kind,
        state=RunState(row["state"]),
        job_id=row["job_id"],
        job_name=row["job_name"],
        host_id=row["host_id"],
        host_name=row["host_name"],
        node_id=row["node_id"],
        storage_id=row["storage_id"],
        storage_name=row["storage_name"],
        batch_id=row["batch_id"],
        backup_type=None if row["backup_type"] is None else BackupType(row["backup_type"]),
        attempt=row["attempt"],
        attempts_max=row["attempts_max"],
        created_by=row["created_by"],
        created_at=from_ms(row["created_at_ms"]),
        not_before=from_ms(row["not_before_ms"]),
        started_at=from_ms_or_none(row["started_at_ms"]),
        ended_at=from_ms_or_none(row["ended_at_ms"]),
        progress=msgspec.json.decode(row["progress_json"], type=RunProgress),
        warning_count=row["warning_count"],
        error_code=row["error_code"],
        error=row["error"],
        point_ids=point_ids,
    )


def get(connection: sqlite3.Connection, run_id: str) -> RunInfo:
    """The run. Raises NotFound."""
    row = connection.execute("SELECT * FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        raise NotFound(what="run", name=run_id)
    return _info(connection, row)


def spec(connection: sqlite3.Connection, run_id: str) -> RunSpec:
    """What the run is to do in its present attempt. Raises NotFound."""
    row = connection.execute("SELECT spec_json, attempt FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if row is None:
        raise NotFound(what="run", name=run_id)
    return msgspec.structs.replace(
        msgspec.json.decode(row["spec_json"], type=RunSpec), attempt=int(row["attempt"])
    )


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: RunList
) -> tuple[list[RunInfo], str | None]:
    """Runs, newest first."""
    conditions = (
        Filter()
        .equals("tenant_id", tenant_id)
        .equals("job_id", request.job_id)
        .equals("host_id", request.host_id)
        .equals("storage_id", request.storage_id)
        .equals("batch_id", request.batch_id)
        .any_of("kind", request.kinds)
        .any_of("state", request.states)
    )
    if request.states and all(state in OPEN_STATES for state in request.states):
        conditions.where("ended_at_ms IS NULL")
    if request.since is not None:
        conditions.where("created_at_ms >= ?", to_ms(request.since))
    if request.until is not None:
        conditions.where("created_at_ms < ?", to_ms(request.until))
    return page(
        connection,
        "SELECT * FROM runs",
        conditions,
        key=["sequence"],
        cursor=request.cursor,
        limit=request.limit,
        make=lambda row: _info(connection, row),
        descending=True,
    )


def open_runs(connection: sqlite3.Connection) -> list[RunInfo]:
    """Every run that is not final, oldest first."""
    rows = connection.execute("SELECT * FROM runs WHERE ended_at_ms IS NULL ORDER BY sequence").fetchall()
    return [_info(connection, row) for row in rows]


def counts(connection: sqlite3.Connection, since_ms: int) -> dict[RunState, int]:
    """Open runs, and those that ended since, by state."""
    # Two halves, so that each is read from its own index, whatever the planner thinks of the grouping.
    rows = connection.execute(
        "SELECT state, count(*) AS number FROM ("
        "SELECT state FROM runs WHERE ended_at_ms IS NULL"
        " UNION ALL SELECT state FROM runs WHERE ended_at_ms >= ?) GROUP BY state",
        [since_ms],
    )
    return {RunState(row["state"]): int(row["number"]) for row in rows}


def create(
    connection: sqlite3.Connection,
    *,
    spec: RunSpec,
    tenant_id: str,
    batch_id: str,
    job_name: str,
    storage_name: str,
    attempts_max: int,
    retry_seconds: int,
    created_by: str,
    now_ms: int,
) -> None:
    """Queue a run."""
    is_backup = spec.kind in {RunKind.BACKUP_DISK, RunKind.BACKUP_FILES}
    connection.execute(
        "INSERT INTO runs (run_id, sequence, tenant_id, batch_id, kind, state, job_id, job_name,"
        " host_id, host_name,"
        " storage_id, storage_name, backup_type, spec_json, attempts_max, retry_seconds, created_by,"
        " created_at_ms,"
        " not_before_ms) VALUES (?, (SELECT coalesce(max(sequence), 0) + 1 FROM runs), ?, ?, ?,"
        " 'queued', ?, ?, ?, ?,"
        " ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            spec.run_id,
            tenant_id,
            batch_id,
            spec.kind,
            spec.job_id,
            job_name,
            spec.host_id,
            spec.host_name,
            spec.storage_id,
            storage_name,
            spec.backup_type if is_backup else None,
            msgspec.json.encode(spec).decode(),
            attempts_max,
            retry_seconds,
            created_by,
            now_ms,
            now_ms,
        ],
    )


def move(
    connection: sqlite3.Connection,
    run_id: str,
    to: RunState,
    *,
    now_ms: int,
    attempt: int | None = None,
    node_id: str | None = None,
    error_code: str = "",
    error: str = "",
    warning_count: int | None = None,
    progress: RunProgress | None = None,
) -> bool:
    """Move a run to `to` if the table of moves allows it from where it stands (and `attempt`, if given, is
    the present
    one). False if it does not, and nothing is changed."""
    row = connection.execute("SELECT state, attempt FROM runs WHERE run_id = ?", [run_id]).fetchone()
    if row is None or to not in MOVES[RunState(row["state"])]:
        return False
    if attempt is not None and attempt != row["attempt"]:
        return False
    connection.execute(
        "UPDATE runs SET state = ?, node_id = coalesce(?, node_id), error_code = ?, error = ?,"
        " warning_count = coalesce(?, warning_count), progress_json = coalesce(?, progress_json),"
        " started_at_ms = CASE WHEN ? THEN coalesce(started_at_ms, ?) ELSE started_at_ms END,"
        " ended_at_ms = ? WHERE run_id = ?",
        [
            to,
            node_id,
            error_code,
            error,
            warning_count,
            None if progress is None else msgspec.json.encode(progress).decode(),
            to is RunState.RUNNING,
            now_ms,
            now_ms if to.is_final else None,
            run_id,
        ],
    )
    return True


def requeue(
    connection: sqlite3.Connection,
    run_id: str,
    *,
    attempt: int,
    not_before_ms: int,
    error_code: str,
    error: str,
) -> bool:
    """Queue another attempt after attempt number `attempt`. False if the run has moved on meanwhile."""
    return bool(
        connection.execute(
            "UPDATE runs SET state = 'queued', attempt = attempt + 1, not_before_ms = ?, error_code = ?,"
            " error = ?"
            " WHERE run_id = ? AND attempt = ? AND state IN ('preparing', 'running')",
            [not_before_ms, error_code, error, run_id, attempt],
        ).rowcount
    )


def retry_rule(connection: sqlite3.Connection, run_id: str) -> tuple[int, int]:
    """Most attempts, and seconds before the first retry."""
    row = connection.execute(
        "SELECT attempts_max, retry_seconds FROM runs WHERE run_id = ?", [run_id]
    ).fetchone()
    return int(row["attempts_max"]), int(row["retry_seconds"])


def ask_cancel(connection: sqlite3.Connection, run_id: str) -> bool:
    """Note that somebody wants the run stopped. False if it has ended already. Raises NotFound."""
    get(connection, run_id)
    return bool(
        connection.execute(
            "UPDATE runs SET is_cancel_asked = 1 WHERE run_id = ? AND ended_at_ms IS NULL", [run_id]
        ).rowcount
    )


def is_cancel_asked(connection: sqlite3.Connection, run_id: str) -> bool:
    """True once somebody wants the run stopped."""
    row = connection.execute("SELECT is_cancel_asked FROM runs WHERE run_id = ?", [run_id]).fetchone()
    return row is not None and bool(row["is_cancel_asked"])


def put_progress(connection: sqlite3.Connection, progress_by_run: dict[str, RunProgress]) -> None:
    """Note how far open runs are."""
    connection.executemany(
        "UPDATE runs SET progress_json = ? WHERE run_id = ? AND ended_at_ms IS NULL",
        [(msgspec.json.encode(progress).decode(), run_id) for run_id, progress in progress_by_run.items()],
    )


def add_log(connection: sqlite3.Connection, run_id: str, attempt: int, lines: list[LoggedLine]) -> None:
    """Append lines to the run's log; beyond the bound they are dropped, and a long one is cut."""
    row = connection.execute(
        "SELECT coalesce(max(sequence), 0) AS last, (SELECT 1 FROM runs WHERE run_id = ?) AS known FROM"
        " run_log"
        " WHERE run_id = ?",
        [run_id, run_id],
    ).fetchone()
    if row["known"] is None:
        return
    room = max(0, _LOG_LINES_MAX - int(row["last"]))
    connection.executemany(
        "INSERT INTO run_log (run_id, sequence, attempt, time_ms, level, text) VALUES (?, ?, ?, ?, ?, ?)",
        [
            (run_id, row["last"] + number, attempt, to_ms(line.time), line.level, line.text[:_LOG_TEXT_MAX])
            for number, line in enumerate(lines[:room], start=1)
        ],
    )


_LEVELS_FROM: dict[LogLevel, list[str]] = {
    LogLevel.INFO: ["info", "warning", "error"],
    LogLevel.WARNING: ["warning", "error"],
    LogLevel.ERROR: ["error"],
}


def log(connection: sqlite3.Connection, request: RunLog) -> tuple[list[LogLine], bool]:
    """Lines after a sequence number, and whether that is all there is now. Raises NotFound."""
    get(connection, request.id)
    conditions = (
        Filter()
        .equals("run_id", request.id)
        .where("sequence > ?", request.after_sequence)
        .any_of("level", _LEVELS_FROM[request.level or LogLevel.INFO])
    )
    rows = connection.execute(
        f"SELECT * FROM run_log{conditions.sql} ORDER BY sequence LIMIT ?",
        [*conditions.values, request.limit + 1],
    ).fetchall()
    lines: list[LogLine] = []
    page_bytes = 0
    for row in rows[: request.limit]:
        lines.append(
            LogLine(
                sequence=row["sequence"],
                time=from_ms(row["time_ms"]),
                level=LogLevel(row["level"]),
                text=row["text"],
                attempt=row["attempt"],
            )
        )
        page_bytes += len(row["text"].encode())
        if page_bytes >= _LOG_PAGE_BYTES:
            break
    return lines, len(lines) == len(rows)
