"""Machines that run jobs and own storages."""

import sqlite3

from schemas.api.hosts import NodeInfo, NodeList
from schemas.api.words import Presence
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms_or_none
from vdrd.model.errors import NotFound

_NODE = (
    "SELECT nodes.*, (SELECT count(*) FROM storages WHERE storages.node_id = nodes.node_id) AS storage_count,"
    " (SELECT count(*) FROM runs WHERE runs.node_id = nodes.node_id AND ended_at_ms IS NULL"
    "  AND state IN ('preparing', 'running')) AS running_count FROM nodes"
)


def _info(row: sqlite3.Row) -> NodeInfo:
    if row["is_revoked"]:
        presence = Presence.REVOKED
    else:
        presence = Presence.NEVER_SEEN if row["last_seen_at_ms"] is None else Presence.OFFLINE
    return NodeInfo(
        id=row["node_id"],
        name=row["name"],
        presence=presence,
        data_address=row["data_address"],
        version=row["version"],
        is_draining=bool(row["is_draining"]),
        storage_count=row["storage_count"],
        running_count=row["running_count"],
        last_seen_at=from_ms_or_none(row["last_seen_at_ms"]),
    )


def get(connection: sqlite3.Connection, node_id: str) -> NodeInfo:
    """The node, as far as the catalog knows (never 'online'). Raises NotFound."""
    row = connection.execute(f"{_NODE} WHERE node_id = ?", [node_id]).fetchone()
    if row is None:
        raise NotFound(what="node", name=node_id)
    return _info(row)


def list_page(connection: sqlite3.Connection, request: NodeList) -> tuple[list[NodeInfo], str | None]:
    """Nodes by name."""
    return page(
        connection, _NODE, Filter(), key=["name"], cursor=request.cursor, limit=request.limit, make=_info
    )


def all_ids(connection: sqlite3.Connection) -> list[str]:
    """Ids of the nodes that may link."""
    return [row["node_id"] for row in connection.execute("SELECT node_id FROM nodes WHERE is_revoked = 0")]


def draining_ids(connection: sqlite3.Connection) -> list[str]:
    """Ids of the nodes on which nothing is to be started."""
    return [row["node_id"] for row in connection.execute("SELECT node_id FROM nodes WHERE is_draining = 1")]


def create(connection: sqlite3.Connection, node_id: str, wanted_name: str, now_ms: int) -> str:
    """Add a node; if the name is taken, with a number behind it. A node that is known keeps its name."""
    row = connection.execute("SELECT name FROM nodes WHERE node_id = ?", [node_id]).fetchone()
    if row is not None:
        return str(row["name"])
    taken = {row["name"] for row in connection.execute("SELECT name FROM nodes")}
    name, number = wanted_name, 1
    while name in taken:
        number += 1
        name = f"{wanted_name}-{number}"
    connection.execute(
        "INSERT INTO nodes (node_id, name, enrolled_at_ms) VALUES (?, ?, ?)", [node_id, name, now_ms]
    )
    return name


def is_known(connection: sqlite3.Connection, node_id: str) -> bool:
    """True if the node may link."""
    row = connection.execute("SELECT 1 FROM nodes WHERE node_id = ? AND is_revoked = 0", [node_id]).fetchone()
    return row is not None


def note_registered(
    connection: sqlite3.Connection, node_id: str, *, data_address: str, version: str, now_ms: int
) -> None:
    """What the node said about itself at registration."""
    connection.execute(
        "UPDATE nodes SET data_address = ?, version = ?, last_seen_at_ms = ? WHERE node_id = ?",
        [data_address, version, now_ms, node_id],
    )


def note_gone(connection: sqlite3.Connection, node_id: str, now_ms: int) -> None:
    """The node's link ended now; its storages cannot be reached."""
    connection.execute("UPDATE nodes SET last_seen_at_ms = ? WHERE node_id = ?", [now_ms, node_id])
    connection.execute(
        "UPDATE storages SET is_online = 0, problem = 'its node is not online' WHERE node_id = ?", [node_id]
    )


def set_draining(connection: sqlite3.Connection, node_id: str, is_draining: bool) -> None:
    """Stop or resume placing runs there. Raises NotFound."""
    changed = connection.execute(
        "UPDATE nodes SET is_draining = ? WHERE node_id = ?", [is_draining, node_id]
    ).rowcount
    if not changed:
        raise NotFound(what="node", name=node_id)
