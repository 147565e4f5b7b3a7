"""Named single values, and the first tenant."""

import sqlite3

TENANT_DEFAULT = "default"
METADATA_PLAN = "metadata_plan"
"""Name of the plan of metadata backups."""


def get(connection: sqlite3.Connection, name: str) -> str | None:
    """The value, None if it was never set."""
    row = connection.execute("SELECT value FROM settings WHERE name = ?", [name]).fetchone()
    return None if row is None else str(row["value"])


def put(connection: sqlite3.Connection, name: str, value: str) -> None:
    """Set the value."""
    connection.execute(
        "INSERT INTO settings (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value ="
        " excluded.value",
        [name, value],
    )


def ensure_default_tenant(connection: sqlite3.Connection, now_ms: int) -> None:
    """Make the first tenant if it is not there."""
    connection.execute(
        "INSERT OR IGNORE INTO tenants (tenant_id, name, created_at_ms) VALUES (?, ?, ?)",
        [TENANT_DEFAULT, TENANT_DEFAULT, now_ms],
    )
