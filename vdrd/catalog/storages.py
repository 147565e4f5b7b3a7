"""Places where points live, as their nodes describe them."""

import sqlite3

from schemas.api.storages import StorageInfo, StorageList
from schemas.api.words import Encryption
from schemas.control import StorageAnnounced, StorageAssigned
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none
from vdrd.model.errors import Conflict, NotFound

_STORAGE = (
    "SELECT storages.*, nodes.name AS node_name,"
    " (SELECT count(*) FROM points WHERE points.storage_id = storages.storage_id) AS point_count"
    " FROM storages JOIN nodes USING (node_id)"
)


def _info(row: sqlite3.Row) -> StorageInfo:
    return StorageInfo(
        id=row["storage_id"],
        name=row["name"],
        node_id=row["node_id"],
        node_name=row["node_name"],
        path=row["path"],
        encryption=Encryption(row["encryption"]),
        compression=row["compression"],
        is_online=bool(row["is_online"]),
        problem=row["problem"],
        created_at=from_ms(row["created_at_ms"]),
        point_count=row["point_count"],
        stored_bytes=row["stored_bytes"],
        capacity_bytes=row["capacity_bytes"],
        free_bytes=row["free_bytes"],
        measured_at=from_ms_or_none(row["measured_at_ms"]),
    )


def get(connection: sqlite3.Connection, storage_id: str) -> StorageInfo:
    """The storage. Raises NotFound."""
    row = connection.execute(f"{_STORAGE} WHERE storage_id = ?", [storage_id]).fetchone()
    if row is None:
        raise NotFound(what="storage", name=storage_id)
    return _info(row)


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: StorageList
) -> tuple[list[StorageInfo], str | None]:
    """Storages by name."""
    return page(
        connection,
        f"SELECT * FROM ({_STORAGE})",
        Filter().equals("tenant_id", tenant_id).equals("node_id", request.node_id),
        key=["name"],
        cursor=request.cursor,
        limit=request.limit,
        make=_info,
    )


def every(connection: sqlite3.Connection) -> list[StorageInfo]:
    """All storages by name."""
    return [_info(row) for row in connection.execute(f"{_STORAGE} ORDER BY storages.name")]


def check_free(connection: sqlite3.Connection, node_id: str, name: str, path: str) -> None:
    """Raise Conflict if the name, or the directory on that node, is taken."""
    if connection.execute("SELECT 1 FROM storages WHERE name = ?", [name]).fetchone() is not None:
        raise Conflict(what=f"there is a storage {name} already", remedy="choose another name")
    row = connection.execute(
        "SELECT name FROM storages WHERE node_id = ? AND path = ?", [node_id, path]
    ).fetchone()
    if row is not None:
        raise Conflict(what=f"{path} is storage {row['name']} already", remedy="choose another directory")


def create(
    connection: sqlite3.Connection,
    *,
    tenant_id: str,
    node_id: str,
    name: str,
    key_file: str | None,
    announced: StorageAnnounced,
    now_ms: int,
) -> None:
    """Add a storage that its node has open."""
    check_free(connection, node_id, name, announced.path)
    connection.execute(
        "INSERT INTO storages (storage_id, tenant_id, node_id, name, path, key_file, encryption, compression,"
        " created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            announced.storage_id,
            tenant_id,
            node_id,
            name,
            announced.path,
            key_file,
            announced.encryption,
            announced.compression,
            now_ms,
        ],
    )
    note_announced(connection, node_id, announced, now_ms)


def note_announced(
    connection: sqlite3.Connection, node_id: str, announced: StorageAnnounced, now_ms: int
) -> bool:
    """The node's word on one of its storages. False if it is none of its own."""
    changed = connection.execute(
        "UPDATE storages SET is_online = ?, problem = ?, stored_bytes = ?, capacity_bytes = ?,"
        " free_bytes = ?,"
        " measured_at_ms = ? WHERE storage_id = ? AND node_id = ?",
        [
            announced.is_online,
            announced.problem,
            announced.stored_bytes,
            announced.capacity_bytes,
            announced.free_bytes,
            now_ms,
            announced.storage_id,
            node_id,
        ],
    ).rowcount
    return bool(changed)


def of_node(connection: sqlite3.Connection, node_id: str) -> list[StorageAssigned]:
    """What a node is to open."""
    rows = connection.execute("SELECT * FROM storages WHERE node_id = ? ORDER BY name", [node_id])
    return [
        StorageAssigned(
            storage_id=row["storage_id"], name=row["name"], path=row["path"], key_file=row["key_file"]
        )
        for row in rows
    ]


def check_unused(connection: sqlite3.Connection, storage_id: str) -> None:
    """Raise Conflict while a job, an open run or an export uses it."""
    for what, sql in (
        ("jobs write to it", "SELECT name FROM jobs WHERE storage_id = ? LIMIT 5"),
        (
            "runs use it",
            "SELECT run_id AS name FROM runs WHERE storage_id = ? AND ended_at_ms IS NULL LIMIT 5",
        ),
        ("points of it are exported", "SELECT object_name AS name FROM exports WHERE storage_id = ? LIMIT 5"),
    ):
        names = [row["name"] for row in connection.execute(sql, [storage_id])]
        if names:
            raise Conflict(what=f"{what}: {', '.join(names)}", remedy="end or move them first")


def delete(connection: sqlite3.Connection, storage_id: str) -> None:
    """Forget a storage and its points in the catalog. Raises Conflict as `check_unused` does."""
    check_unused(connection, storage_id)
    connection.execute("DELETE FROM storages WHERE storage_id = ?", [storage_id])
