"""One-time enrolment tokens and the certificates that were issued. Hashes of secrets only."""

import sqlite3
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Token:
    """An enrolment token as its maker stated it."""

    token_hash: bytes
    role: str
    name: str | None
    tenant_id: str
    expires_at_ms: int
    used_at_ms: int | None


def create_token(connection: sqlite3.Connection, token: Token, *, created_by: str, now_ms: int) -> None:
    """Keep a new token; drop those that ended more than a day ago."""
    connection.execute("DELETE FROM enrolment_tokens WHERE expires_at_ms < ?", [now_ms - 86_400_000])
    connection.execute(
        "INSERT INTO enrolment_tokens (token_hash, role, name, tenant_id, created_by, created_at_ms,"
        " expires_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        [token.token_hash, token.role, token.name, token.tenant_id, created_by, now_ms, token.expires_at_ms],
    )


def token(connection: sqlite3.Connection, token_hash: bytes) -> Token | None:
    """The token with that hash, used and expired ones too."""
    row = connection.execute("SELECT * FROM enrolment_tokens WHERE token_hash = ?", [token_hash]).fetchone()
    if row is None:
        return None
    return Token(
        token_hash, row["role"], row["name"], row["tenant_id"], row["expires_at_ms"], row["used_at_ms"]
    )


def use_token(connection: sqlite3.Connection, token_hash: bytes, used_by: str, now_ms: int) -> bool:
    """Mark a token as used. False if it was used before, has expired or was never there: one of two racing
    wins."""
    return bool(
        connection.execute(
            "UPDATE enrolment_tokens SET used_at_ms = ?, used_by = ?"
            " WHERE token_hash = ? AND used_at_ms IS NULL AND expires_at_ms > ?",
            [now_ms, used_by, token_hash, now_ms],
        ).rowcount
    )


def note_certificate(
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
