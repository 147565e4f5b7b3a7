"""Protected machines, and the objects under protection on them."""

import sqlite3
from dataclasses import dataclass

import msgspec

from schemas.api.hosts import HostInfo, HostList
from schemas.api.words import LinkMode, Presence
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none
from vdrd.model.errors import Conflict, NotFound

_HOST = (
    "SELECT hosts.*,"
    " (SELECT max(time_ms) FROM points WHERE points.host_id = hosts.host_id) AS last_success_ms,"
    " (SELECT count(*) FROM points WHERE points.host_id = hosts.host_id) AS point_count FROM hosts"
)


def _info(row: sqlite3.Row) -> HostInfo:
    if row["is_revoked"]:
        presence = Presence.REVOKED
    else:
        presence = Presence.NEVER_SEEN if row["last_seen_at_ms"] is None else Presence.OFFLINE
    return HostInfo(
        id=row["host_id"],
        name=row["name"],
        host_name=row["host_name"],
        link_mode=LinkMode(row["link_mode"]),
        presence=presence,
        address=row["address"],
        agent_version=row["agent_version"],
        operating_system=row["operating_system"],
        capabilities=msgspec.json.decode(row["capabilities_json"], type=list[str]),
        enrolled_at=from_ms(row["enrolled_at_ms"]),
        last_seen_at=from_ms_or_none(row["last_seen_at_ms"]),
        last_success_at=from_ms_or_none(row["last_success_ms"]),
        point_count=row["point_count"],
        clock_skew_seconds=row["clock_skew_ms"] / 1000,
    )


def get(connection: sqlite3.Connection, host_id: str) -> HostInfo:
    """The host, as far as the catalog knows (never 'online'). Raises NotFound; a deleted host is not
    found."""
    row = connection.execute(f"{_HOST} WHERE host_id = ? AND is_revoked = 0", [host_id]).fetchone()
    if row is None:
        raise NotFound(what="host", name=host_id)
    return _info(row)


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: HostList, online_ids: frozenset[str]
) -> tuple[list[HostInfo], str | None]:
    """Hosts by name. `online_ids` are those with a link, for the filter by presence."""
    conditions = Filter().equals("tenant_id", tenant_id).contains("name", request.search)
    if request.presence is not Presence.REVOKED:
        conditions.where("is_revoked = 0")
    else:
        conditions.where("is_revoked = 1")
    if request.presence is Presence.ONLINE:
        conditions.where("host_id IN (SELECT value FROM json_each(?))", _json(online_ids))
    elif request.presence is Presence.OFFLINE:
        conditions.where("host_id NOT IN (SELECT value FROM json_each(?))", _json(online_ids))
        conditions.where("last_seen_at_ms IS NOT NULL")
    elif request.presence is Presence.NEVER_SEEN:
        conditions.where("last_seen_at_ms IS NULL")
    return page(
        connection, _HOST, conditions, key=["name"], cursor=request.cursor, limit=request.limit, make=_info
    )


def _json(values: frozenset[str]) -> str:
    return msgspec.json.encode(sorted(values)).decode()


def count(connection: sqlite3.Connection) -> int:
    """Number of hosts that are not deleted."""
    (number,) = connection.execute("SELECT count(*) FROM hosts WHERE is_revoked = 0").fetchone()
    return int(number)


def create(
    connection: sqlite3.Connection,
    *,
    host_id: str,
    tenant_id: str,
    wanted_name: str,
    link_mode: LinkMode = LinkMode.ACTIVE,
    address: str | None = None,
    now_ms: int,
) -> str:
    """Add a host; if the name is taken, with a number behind it. Returns the name it got."""
    taken = {row["name"].casefold() for row in connection.execute("SELECT name FROM hosts")}
    name, number = wanted_name, 1
    while name.casefold() in taken:
        number += 1
        name = f"{wanted_name}-{number}"
    connection.execute(
        "INSERT INTO hosts (host_id, tenant_id, name, link_mode, address, enrolled_at_ms) VALUES (?, ?,"
        " ?, ?, ?, ?)",
        [host_id, tenant_id, name, link_mode, address, now_ms],
    )
    return name


def rename(connection: sqlite3.Connection, host_id: str, name: str) -> None:
    """Give a host another name. Raises NotFound, Conflict."""
    try:
        changed = connection.execute(
            "UPDATE hosts SET name = ? WHERE host_id = ? AND is_revoked = 0", [name, host_id]
        ).rowcount
    except sqlite3.IntegrityError as error:
        raise Conflict(what=f"there is a host {name} already", remedy="choose another name") from error
    if not changed:
        raise NotFound(what="host", name=host_id)


def delete(connection: sqlite3.Connection, host_id: str, force: bool) -> None:
    """Mark a host as deleted and revoke its certificates; its name becomes free.

    Raises NotFound; Conflict while a job names it and `force` is not set (with it, the job loses the host).
    """
    get(connection, host_id)
    jobs = [
        row["name"]
        for row in connection.execute(
            "SELECT DISTINCT jobs.name FROM jobs JOIN job_sources USING (job_id) WHERE host_id = ? ORDER"
            " BY 1",
            [host_id],
        )
    ]
    if jobs and not force:
        raise Conflict(
            what=f"jobs protect this host: {', '.join(jobs[:5])}",
            remedy="take it out of them first, or delete with force",
        )
    connection.execute("DELETE FROM job_sources WHERE host_id = ?", [host_id])
    connection.execute(
        "UPDATE hosts SET is_revoked = 1, name = name || ' (deleted ' || host_id || ')' WHERE host_id = ?",
        [host_id],
    )


def is_known(connection: sqlite3.Connection, host_id: str) -> bool:
    """True if the host may link: enrolled and not deleted."""
    row = connection.execute("SELECT 1 FROM hosts WHERE host_id = ? AND is_revoked = 0", [host_id]).fetchone()
    return row is not None


def note_registered(
    connection: sqlite3.Connection,
    host_id: str,
    *,
    host_name: str,
    address: str,
    agent_version: str,
    operating_system: str,
    capabilities: list[str],
    clock_skew_ms: int,
    now_ms: int,
) -> None:
    """What the agent said about itself at registration. A passive host keeps the address it is dialled at."""
    connection.execute(
        "UPDATE hosts SET host_name = ?, address = CASE link_mode WHEN 'passive' THEN address ELSE ? END,"
        " agent_version = ?, operating_system = ?, capabilities_json = ?, clock_skew_ms = ?,"
        " last_seen_at_ms = ?"
        " WHERE host_id = ?",
        [
            host_name,
            address,
            agent_version,
            operating_system,
            msgspec.json.encode(capabilities).decode(),
            clock_skew_ms,
            now_ms,
            host_id,
        ],
    )


def note_seen(connection: sqlite3.Connection, host_id: str, now_ms: int) -> None:
    """The host's link ended now."""
    connection.execute("UPDATE hosts SET last_seen_at_ms = ? WHERE host_id = ?", [now_ms, host_id])


@dataclass(frozen=True, slots=True)
class PassiveHost:
    """A host the server dials."""

    host_id: str
    address: str


def passive(connection: sqlite3.Connection) -> list[PassiveHost]:
    """Every host the server has to dial."""
    rows = connection.execute(
        "SELECT host_id, address FROM hosts WHERE link_mode = 'passive' AND is_revoked = 0 AND address"
        " IS NOT NULL"
    )
    return [PassiveHost(row["host_id"], row["address"]) for row in rows]


def object_name(connection: sqlite3.Connection, host_id: str, kind: str, path: str, now_ms: int) -> str:
    """Name of the object for this path of this host; fixed at first use as `host:path`, unique."""
    row = connection.execute(
        "SELECT object_name FROM objects WHERE host_id = ? AND kind = ? AND path = ?", [host_id, kind, path]
    ).fetchone()
    if row is not None:
        return str(row["object_name"])
    host = get(connection, host_id)
    wanted = name = f"{host.name}:{path}"
    number = 1
    while connection.execute("SELECT 1 FROM objects WHERE object_name = ?", [name]).fetchone() is not None:
        number += 1
        name = f"{wanted}#{number}"
    connection.execute(
        "INSERT INTO objects (object_name, host_id, kind, path, created_at_ms) VALUES (?, ?, ?, ?, ?)",
        [name, host_id, kind, path, now_ms],
    )
    return name
