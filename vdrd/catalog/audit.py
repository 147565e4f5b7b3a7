"""The audit log: entries are added, never changed; a chain of hashes shows if one was."""

import hashlib
import sqlite3

import msgspec

from schemas.api.users import AuditEntry, AuditList
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, to_ms

_FIRST_HASH = bytes(32)


def entry_hash(previous: bytes, fields: list[int | str]) -> bytes:
    """SHA-256 over the previous hash and the msgpack array of sequence, time, tenant, user, address, action,
    target,
    state and text."""
    return hashlib.sha256(previous + msgspec.msgpack.encode(fields)).digest()


def add(
    connection: sqlite3.Connection,
    *,
    now_ms: int,
    tenant_id: str,
    user_name: str,
    address: str,
    action: str,
    target: str,
    state: str,
    text: str,
) -> None:
    """Append an entry."""
    row = connection.execute("SELECT sequence, hash FROM audit ORDER BY sequence DESC LIMIT 1").fetchone()
    sequence, previous = (1, _FIRST_HASH) if row is None else (row["sequence"] + 1, row["hash"])
    fields: list[int | str] = [sequence, now_ms, tenant_id, user_name, address, action, target, state, text]
    connection.execute(
        "INSERT INTO audit (sequence, time_ms, tenant_id, user_name, address, action, target, state,"
        " text, hash)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [*fields, entry_hash(previous, fields)],
    )


def first_broken(connection: sqlite3.Connection) -> int | None:
    """Sequence of the first entry that does not fit the chain (changed, or one before it removed); None if
    all fit."""
    previous, expected = _FIRST_HASH, 1
    for row in connection.execute("SELECT * FROM audit ORDER BY sequence"):
        *fields, digest = tuple(row)
        if row["sequence"] != expected or entry_hash(previous, fields) != digest:
            return int(row["sequence"])
        previous, expected = digest, expected + 1
    return None


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: AuditList
) -> tuple[list[AuditEntry], str | None]:
    """Entries, newest first."""
    conditions = (
        Filter()
        .equals("tenant_id", tenant_id)
        .equals("user_name", request.user_name)
        .equals("state", request.state)
    )
    if request.action:
        # A range instead of LIKE, so that the index serves it.
        conditions.where("action >= ? AND action < ?", request.action, request.action + "\U0010ffff")
    if request.since is not None:
        conditions.where("time_ms >= ?", to_ms(request.since))
    if request.until is not None:
        conditions.where("time_ms < ?", to_ms(request.until))
    return page(
        connection,
        "SELECT * FROM audit",
        conditions,
        key=["sequence"],
        cursor=request.cursor,
        limit=request.limit,
        make=_entry,
        descending=True,
    )


def _entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        sequence=row["sequence"],
        time=from_ms(row["time_ms"]),
        user_name=row["user_name"],
        address=row["address"],
        action=row["action"],
        target=row["target"],
        state=row["state"],
        text=row["text"],
    )
