"""Users, their roles and their sessions. Hashes only: neither a password nor a session token comes here."""

import sqlite3
from dataclasses import dataclass

from schemas.api.users import UserInfo
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none
from vdrd.model.errors import Conflict, NotFound


@dataclass(frozen=True, slots=True)
class Account:
    """A user as the log-in needs it."""

    user_id: str
    tenant_id: str
    name: str
    display_name: str
    password_hash: str
    must_change_password: bool
    is_enabled: bool
    failed_logins: int
    locked_until_ms: int | None
    roles: frozenset[str]


_ACCOUNT = (
    "SELECT users.*, (SELECT group_concat(role, char(10)) FROM user_roles WHERE user_roles.user_id ="
    " users.user_id)"
    " AS roles FROM users"
)


def _account(row: sqlite3.Row) -> Account:
    return Account(
        user_id=row["user_id"],
        tenant_id=row["tenant_id"],
        name=row["name"],
        display_name=row["display_name"],
        password_hash=row["password_hash"],
        must_change_password=bool(row["must_change_password"]),
        is_enabled=bool(row["is_enabled"]),
        failed_logins=row["failed_logins"],
        locked_until_ms=row["locked_until_ms"],
        roles=frozenset((row["roles"] or "").split("\n")) - {""},
    )


def _info(row: sqlite3.Row, now_ms: int) -> UserInfo:
    account = _account(row)
    return UserInfo(
        id=account.user_id,
        name=account.name,
        display_name=account.display_name,
        roles=sorted(account.roles),
        is_enabled=account.is_enabled,
        is_locked_out=account.locked_until_ms is not None and account.locked_until_ms > now_ms,
        created_at=from_ms(row["created_at_ms"]),
        last_login_at=from_ms_or_none(row["last_login_at_ms"]),
    )


def by_name(connection: sqlite3.Connection, name: str) -> Account | None:
    """The user of that name, whatever its case."""
    row = connection.execute(f"{_ACCOUNT} WHERE name = ?", [name]).fetchone()
    return None if row is None else _account(row)


def by_id(connection: sqlite3.Connection, user_id: str) -> Account:
    """The user. Raises NotFound."""
    row = connection.execute(f"{_ACCOUNT} WHERE user_id = ?", [user_id]).fetchone()
    if row is None:
        raise NotFound(what="user", name=user_id)
    return _account(row)


def info(connection: sqlite3.Connection, user_id: str, now_ms: int) -> UserInfo:
    """The user as consoles see it. Raises NotFound."""
    row = connection.execute(f"{_ACCOUNT} WHERE user_id = ?", [user_id]).fetchone()
    if row is None:
        raise NotFound(what="user", name=user_id)
    return _info(row, now_ms)


def list_page(
    connection: sqlite3.Connection, tenant_id: str, cursor: str | None, limit: int, now_ms: int
) -> tuple[list[UserInfo], str | None]:
    """Users by name."""
    return page(
        connection,
        _ACCOUNT,
        Filter().equals("tenant_id", tenant_id),
        key=["name"],
        cursor=cursor,
        limit=limit,
        make=lambda row: _info(row, now_ms),
    )


def create(
    connection: sqlite3.Connection,
    *,
    user_id: str,
    tenant_id: str,
    name: str,
    display_name: str,
    password_hash: str,
    must_change_password: bool,
    roles: frozenset[str],
    now_ms: int,
) -> None:
    """Add a user. Raises Conflict if the name is taken."""
    try:
        connection.execute(
            "INSERT INTO users (user_id, tenant_id, name, display_name, password_hash, must_change_password,"
            " created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)",
            [user_id, tenant_id, name, display_name, password_hash, must_change_password, now_ms],
        )
    except sqlite3.IntegrityError as error:
        raise Conflict(what=f"there is a user {name} already", remedy="choose another name") from error
    _put_roles(connection, user_id, roles)


def _put_roles(connection: sqlite3.Connection, user_id: str, roles: frozenset[str]) -> None:
    connection.execute("DELETE FROM user_roles WHERE user_id = ?", [user_id])
    connection.executemany(
        "INSERT INTO user_roles (user_id, role) VALUES (?, ?)", [(user_id, role) for role in sorted(roles)]
    )


def set_roles(connection: sqlite3.Connection, user_id: str, roles: frozenset[str], keep_one: str) -> None:
    """Replace the roles. Raises Conflict if nobody enabled would be left with role `keep_one`."""
    _put_roles(connection, user_id, roles)
    _check_one_left(connection, keep_one)


def set_enabled(connection: sqlite3.Connection, user_id: str, is_enabled: bool, keep_one: str) -> None:
    """Allow or forbid log-in; forbidding ends the sessions. Raises Conflict as `set_roles` does."""
    connection.execute("UPDATE users SET is_enabled = ? WHERE user_id = ?", [is_enabled, user_id])
    if not is_enabled:
        connection.execute("DELETE FROM sessions WHERE user_id = ?", [user_id])
    _check_one_left(connection, keep_one)


def delete(connection: sqlite3.Connection, user_id: str, keep_one: str) -> None:
    """Remove a user, its roles and sessions. Raises NotFound, Conflict as `set_roles` does."""
    if connection.execute("DELETE FROM users WHERE user_id = ?", [user_id]).rowcount == 0:
        raise NotFound(what="user", name=user_id)
    _check_one_left(connection, keep_one)


def _check_one_left(connection: sqlite3.Connection, role: str) -> None:
    row = connection.execute(
        "SELECT 1 FROM users JOIN user_roles USING (user_id) WHERE role = ? AND is_enabled = 1 LIMIT 1",
        [role],
    ).fetchone()
    if row is None:
        raise Conflict(
            what=f"nobody would be left who is {role}", remedy="give the role to another enabled user first"
        )


def set_display_name(connection: sqlite3.Connection, user_id: str, display_name: str) -> None:
    """Change the name shown to people."""
    connection.execute("UPDATE users SET display_name = ? WHERE user_id = ?", [display_name, user_id])


def set_password(
    connection: sqlite3.Connection,
    user_id: str,
    password_hash: str,
    *,
    must_change: bool,
    keep_session: bytes | None = None,
) -> None:
    """Replace the password, lift a lock-out, end every session but `keep_session`."""
    connection.execute(
        "UPDATE users SET password_hash = ?, must_change_password = ?, failed_logins = 0,"
        " locked_until_ms = NULL"
        " WHERE user_id = ?",
        [password_hash, must_change, user_id],
    )
    connection.execute(
        "DELETE FROM sessions WHERE user_id = ? AND token_hash IS NOT ?", [user_id, keep_session]
    )


def note_login_failed(
    connection: sqlite3.Connection, user_id: str, *, limit: int, lock_ms: int, now_ms: int
) -> bool:
    """Count a wrong password; from `limit` on lock the user out for `lock_ms`. True if it is locked out
    now."""
    row = connection.execute(
        "UPDATE users SET failed_logins = failed_logins + 1 WHERE user_id = ? RETURNING failed_logins",
        [user_id],
    ).fetchone()
    if row is None or row["failed_logins"] < limit:
        return False
    connection.execute(
        "UPDATE users SET failed_logins = 0, locked_until_ms = ? WHERE user_id = ?",
        [now_ms + lock_ms, user_id],
    )
    return True


def open_session(
    connection: sqlite3.Connection,
    *,
    token_hash: bytes,
    user_id: str,
    address: str,
    now_ms: int,
    expires_ms: int,
) -> None:
    """Note a right password and the session it opens; drop sessions that are over."""
    connection.execute(
        "UPDATE users SET failed_logins = 0, locked_until_ms = NULL, last_login_at_ms = ? WHERE user_id = ?",
        [now_ms, user_id],
    )
    connection.execute("DELETE FROM sessions WHERE expires_at_ms <= ?", [now_ms])
    connection.execute(
        "INSERT INTO sessions (token_hash, user_id, address, created_at_ms, used_at_ms, expires_at_ms)"
        " VALUES (?, ?, ?, ?, ?, ?)",
        [token_hash, user_id, address, now_ms, now_ms, expires_ms],
    )


def close_session(connection: sqlite3.Connection, token_hash: bytes) -> None:
    """End a session."""
    connection.execute("DELETE FROM sessions WHERE token_hash = ?", [token_hash])


@dataclass(frozen=True, slots=True)
class OpenSession:
    """A session and whose it is."""

    account: Account
    used_at_ms: int
    expires_at_ms: int


def session(connection: sqlite3.Connection, token_hash: bytes) -> OpenSession | None:
    """The session with that token, expired or not; None if there is none."""
    row = connection.execute("SELECT * FROM sessions WHERE token_hash = ?", [token_hash]).fetchone()
    if row is None:
        return None
    return OpenSession(by_id(connection, row["user_id"]), row["used_at_ms"], row["expires_at_ms"])


def touch_session(connection: sqlite3.Connection, token_hash: bytes, now_ms: int, expires_ms: int) -> None:
    """Note that a session was used."""
    connection.execute(
        "UPDATE sessions SET used_at_ms = ?, expires_at_ms = ? WHERE token_hash = ?",
        [now_ms, expires_ms, token_hash],
    )


def count(connection: sqlite3.Connection) -> int:
    """Number of users."""
    (number,) = connection.execute("SELECT count(*) FROM users").fetchone()
    return int(number)
