"""Points that are served as disks."""

import sqlite3
from dataclasses import dataclass

from schemas.api.points import ExportInfo, ExportList
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms
from vdrd.model.errors import NotFound


@dataclass(frozen=True, slots=True)
class Export:
    """An export as its node has to serve it."""

    export_id: str
    node_id: str
    storage_id: str
    point_id: str
    is_writable: bool


def _info(row: sqlite3.Row) -> ExportInfo:
    return ExportInfo(
        id=row["export_id"],
        point_id=row["point_id"],
        object_name=row["object_name"],
        node_id=row["node_id"],
        url=row["url"],
        mount_command=row["mount_command"],
        is_writable=bool(row["is_writable"]),
        is_online=False,
        cache_bytes=0,
        started_at=from_ms(row["created_at_ms"]),
        started_by=row["created_by"],
    )


def _export(row: sqlite3.Row) -> Export:
    return Export(
        row["export_id"], row["node_id"], row["storage_id"], row["point_id"], bool(row["is_writable"])
    )


def get(connection: sqlite3.Connection, export_id: str) -> Export:
    """The export. Raises NotFound."""
    row = connection.execute("SELECT * FROM exports WHERE export_id = ?", [export_id]).fetchone()
    if row is None:
        raise NotFound(what="export", name=export_id)
    return _export(row)


def info(connection: sqlite3.Connection, export_id: str) -> ExportInfo:
    """The export as consoles see it, not online. Raises NotFound."""
    row = connection.execute("SELECT * FROM exports WHERE export_id = ?", [export_id]).fetchone()
    if row is None:
        raise NotFound(what="export", name=export_id)
    return _info(row)


def of_node(connection: sqlite3.Connection, node_id: str) -> list[Export]:
    """What a node is to serve."""
    rows = connection.execute("SELECT * FROM exports WHERE node_id = ? ORDER BY created_at_ms", [node_id])
    return [_export(row) for row in rows]


def of_point(connection: sqlite3.Connection, point_id: str) -> list[str]:
    """Ids of the exports of a point."""
    rows = connection.execute("SELECT export_id FROM exports WHERE point_id = ?", [point_id])
    return [row["export_id"] for row in rows]


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: ExportList
) -> tuple[list[ExportInfo], str | None]:
    """Exports, newest first."""
    return page(
        connection,
        "SELECT * FROM exports",
        Filter().equals("tenant_id", tenant_id),
        key=["created_at_ms", "export_id"],
        cursor=request.cursor,
        limit=request.limit,
        make=_info,
        descending=True,
    )


def create(
    connection: sqlite3.Connection,
    *,
    export: Export,
    tenant_id: str,
    object_name: str,
    created_by: str,
    now_ms: int,
) -> None:
    """Add an export."""
    connection.execute(
        "INSERT INTO exports (export_id, tenant_id, node_id, storage_id, point_id, object_name, is_writable,"
        " created_at_ms, created_by) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            export.export_id,
            tenant_id,
            export.node_id,
            export.storage_id,
            export.point_id,
            object_name,
            export.is_writable,
            now_ms,
            created_by,
        ],
    )


def note_served(connection: sqlite3.Connection, export_id: str, url: str, mount_command: str) -> None:
    """Where the node serves it."""
    connection.execute(
        "UPDATE exports SET url = ?, mount_command = ? WHERE export_id = ?", [url, mount_command, export_id]
    )


def delete(connection: sqlite3.Connection, export_id: str) -> None:
    """Forget an export."""
    connection.execute("DELETE FROM exports WHERE export_id = ?", [export_id])


def point_ids(connection: sqlite3.Connection, storage_id: str) -> list[str]:
    """Points of a storage that are exported."""
    rows = connection.execute("SELECT DISTINCT point_id FROM exports WHERE storage_id = ?", [storage_id])
    return [str(row["point_id"]) for row in rows]
