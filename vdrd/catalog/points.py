"""Restore points, as the nodes announce them."""

import sqlite3
from collections.abc import Iterable

import msgspec

from schemas.api.points import PointInfo, PointList
from schemas.api.words import BackupType, ObjectKind
from schemas.control import PointRecord
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none, to_ms
from vdrd.model.errors import NotFound

_POINT = (
    "SELECT points.*, storages.name AS storage_name, storages.is_online AS is_online, storages.tenant_id"
    " AS tenant_id"
    " FROM points JOIN storages USING (storage_id)"
)


def _info(row: sqlite3.Row) -> PointInfo:
    return PointInfo(
        id=row["point_id"],
        time=from_ms(row["time_ms"]),
        object_name=row["object_name"],
        kind=ObjectKind(row["kind"]),
        backup_type=BackupType(row["backup_type"]),
        source=row["source"],
        host_id=row["host_id"],
        host_name=row["host_name"],
        storage_id=row["storage_id"],
        storage_name=row["storage_name"],
        job_id=row["job_id"],
        run_id=row["run_id"],
        parent_id=row["parent_id"],
        logical_bytes=row["logical_bytes"],
        new_bytes=row["new_bytes"],
        stored_bytes=row["stored_bytes"],
        duration_seconds=max(0.0, (row["time_ms"] - row["started_at_ms"]) / 1000),
        warning_count=row["warning_count"],
        verified_at=from_ms_or_none(row["verified_at_ms"]),
        verified_ok=None if row["verified_ok"] is None else bool(row["verified_ok"]),
        is_online=bool(row["is_online"]),
        locked_until=from_ms_or_none(row["locked_until_ms"]),
        is_held=bool(row["is_held"]),
    )


def get(connection: sqlite3.Connection, point_id: str) -> PointInfo:
    """The point. Raises NotFound."""
    row = connection.execute(f"{_POINT} WHERE point_id = ?", [point_id]).fetchone()
    if row is None:
        raise NotFound(what="point", name=point_id)
    return _info(row)


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: PointList
) -> tuple[list[PointInfo], str | None]:
    """Points, newest first."""
    conditions = (
        Filter()
        .equals("tenant_id", tenant_id)
        .equals("host_id", request.host_id)
        .equals("job_id", request.job_id)
        .equals("storage_id", request.storage_id)
        .equals("object_name", request.object_name)
        .equals("kind", request.kind)
    )
    if request.since is not None:
        conditions.where("time_ms >= ?", to_ms(request.since))
    if request.until is not None:
        conditions.where("time_ms < ?", to_ms(request.until))
    return page(
        connection,
        _POINT,
        conditions,
        key=["time_ms", "point_id"],
        cursor=request.cursor,
        limit=request.limit,
        make=_info,
        descending=True,
    )


def count(connection: sqlite3.Connection) -> int:
    """Number of points."""
    (number,) = connection.execute("SELECT count(*) FROM points").fetchone()
    return int(number)


def latest_id(
    connection: sqlite3.Connection, storage_id: str, object_name: str, backup_type: BackupType | None = None
) -> str | None:
    """Newest point of an object in a storage, of that type if one is given."""
    row = connection.execute(
        "SELECT point_id FROM points WHERE object_name = ? AND storage_id = ? AND (? IS NULL OR"
        " backup_type = ?)"
        " ORDER BY time_ms DESC, point_id DESC LIMIT 1",
        [object_name, storage_id, backup_type, backup_type],
    ).fetchone()
    return None if row is None else str(row["point_id"])


def are_known(connection: sqlite3.Connection, point_ids: Iterable[str]) -> bool:
    """True if every one of these points is in the catalog."""
    return all(
        connection.execute("SELECT 1 FROM points WHERE point_id = ?", [point_id]).fetchone() is not None
        for point_id in point_ids
    )


def of_run(connection: sqlite3.Connection, run_id: str) -> list[PointInfo]:
    """Points a run made, oldest first."""
    rows = connection.execute(f"{_POINT} WHERE run_id = ? ORDER BY time_ms, point_id", [run_id])
    return [_info(row) for row in rows]


def broken_ids(connection: sqlite3.Connection, storage_id: str, object_name: str) -> list[str]:
    """Points of an object that their last verification found damaged."""
    rows = connection.execute(
        "SELECT point_id FROM points WHERE object_name = ? AND storage_id = ? AND verified_ok = 0",
        [object_name, storage_id],
    )
    return [str(row["point_id"]) for row in rows]


def put(
    connection: sqlite3.Connection, storage_id: str, records: list[PointRecord], scan_id: str = ""
) -> None:
    """Note points a node has. A point that is known keeps what was noted about it here."""
    known_hosts = {row["host_id"] for row in connection.execute("SELECT host_id FROM hosts")}
    for record in records:
        host_id = record.labels.get("host-id")
        connection.execute(
            "INSERT INTO points (point_id, storage_id, time_ms, started_at_ms, object_name, kind,"
            " backup_type, source,"
            " host_id, host_name, job_id, run_id, parent_id, logical_bytes, new_bytes, stored_bytes,"
            " warning_count, locked_until_ms, is_held,"
            " scan_id) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
            " ON CONFLICT (point_id) DO UPDATE SET storage_id = excluded.storage_id,"
            " host_id = excluded.host_id, locked_until_ms = excluded.locked_until_ms,"
            " is_held = excluded.is_held, scan_id = excluded.scan_id",
            [
                record.point_id,
                storage_id,
                to_ms(record.time),
                to_ms(record.started_at),
                record.object_name,
                record.kind,
                record.backup_type,
                record.source,
                host_id if host_id in known_hosts else None,
                record.host_name,
                record.labels.get("job-id"),
                record.labels.get("run-id"),
                record.parent_id,
                record.logical_bytes,
                record.new_bytes,
                record.stored_bytes,
                record.warning_count,
                None if record.locked_until is None else to_ms(record.locked_until),
                record.is_held,
                scan_id,
            ],
        )


def note_lock(connection: sqlite3.Connection, storage_id: str, record: PointRecord) -> None:
    """The lock of a point, as its node says."""
    connection.execute(
        "UPDATE points SET locked_until_ms = ?, is_held = ? WHERE storage_id = ? AND point_id = ?",
        [
            None if record.locked_until is None else to_ms(record.locked_until),
            record.is_held,
            storage_id,
            record.point_id,
        ],
    )


def end_scan(connection: sqlite3.Connection, storage_id: str, scan_id: str, also_there: list[str]) -> int:
    """Drop points of a storage that a finished scan did not see, but for those announced while it went on.

    Returns how many.
    """
    return connection.execute(
        "DELETE FROM points WHERE storage_id = ? AND scan_id <> ?"
        " AND point_id NOT IN (SELECT value FROM json_each(?))",
        [storage_id, scan_id, msgspec.json.encode(also_there).decode()],
    ).rowcount


def drop(connection: sqlite3.Connection, storage_id: str, point_ids: list[str]) -> None:
    """Forget points that are gone from their storage."""
    connection.executemany(
        "DELETE FROM points WHERE storage_id = ? AND point_id = ?",
        [(storage_id, point_id) for point_id in point_ids],
    )


def note_verified(
    connection: sqlite3.Connection, storage_id: str, point_ids: list[str], is_ok: bool, now_ms: int
) -> None:
    """The result of a verification; without ids of every point of the storage."""
    if point_ids:
        connection.executemany(
            "UPDATE points SET verified_at_ms = ?, verified_ok = ? WHERE storage_id = ? AND point_id = ?",
            [(now_ms, is_ok, storage_id, point_id) for point_id in point_ids],
        )
    else:
        connection.execute(
            "UPDATE points SET verified_at_ms = ?, verified_ok = ? WHERE storage_id = ?",
            [now_ms, is_ok, storage_id],
        )
