"""Certificates the authority has issued, and to whom."""

import sqlite3


def note(
    connection: sqlite3.Connection, *, serial: int, role: str, holder_id: str, not_after_ms: int, now_ms: int
) -> None:
    """A certificate was issued."""
    connection.execute(
        "INSERT OR REPLACE INTO certificates (serial, role, holder_id, not_after_ms, issued_at_ms)"
        " VALUES (?, ?, ?, ?, ?)",
        [f"{serial:x}", role, holder_id, not_after_ms, now_ms],
    )


def revoke(connection: sqlite3.Connection, holder_id: str, now_ms: int) -> list[int]:
    """Mark every certificate of a holder as revoked. Returns the serials of those still valid otherwise."""
    rows = connection.execute(
        "UPDATE certificates SET revoked_at_ms = ? WHERE holder_id = ? AND revoked_at_ms IS NULL"
        " RETURNING serial, not_after_ms",
        [now_ms, holder_id],
    ).fetchall()
    return [int(row["serial"], 16) for row in rows if row["not_after_ms"] > now_ms]
