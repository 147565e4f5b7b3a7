"""The console's own small state: web sessions, preferences, answers kept under idempotency keys. SQLite
through aiosqlite.

A cookie is the key to its row: the row is found by the cookie's hash, and the server's session token in it is
sealed with a key derived from the cookie. Kept answers are sealed with the caller's token in the same way.
The file alone opens nothing.
"""

import hashlib
import hmac
import os
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import aiosqlite
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_SCHEMA = """
CREATE TABLE IF NOT EXISTS session (
  cookie_hash BLOB PRIMARY KEY,          -- SHA-256 of the cookie
  sealed_token BLOB NOT NULL,            -- nonce and AES-256-GCM of the server's session token
  user_name TEXT NOT NULL,
  begun_unix INTEGER NOT NULL,
  used_unix INTEGER NOT NULL             -- moved at most once a minute
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS session_used ON session (used_unix);
CREATE TABLE IF NOT EXISTS preference (
  user_name TEXT NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  PRIMARY KEY (user_name, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS answer (
  key_hash BLOB PRIMARY KEY,             -- SHA-256 of caller, operation and idempotency key
  request_hash BLOB NOT NULL,            -- SHA-256 of the request; another one under the key is refused
  status INTEGER NOT NULL,
  body BLOB NOT NULL,                    -- sealed with a key from the caller's token: answers hold secrets
  made_unix INTEGER NOT NULL
) WITHOUT ROWID;
"""

_TOUCH_SECONDS = 60
_ANSWER_KEPT_SECONDS = 86400


@dataclass(frozen=True, slots=True)
class WebSession:
    """Somebody logged in with a browser."""

    cookie: str
    user_name: str
    server_token: str

    @property
    def form_token(self) -> str:
        """What every form of this session carries: only a page of ours can know it."""
        return hmac.digest(self.cookie.encode(), b"vdr console form", "sha256").hex()


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer given the first time an idempotency key came."""

    request_hash: bytes
    status: int
    body: bytes


def _hash(*parts: str | bytes) -> bytes:
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        digest.update(len(data).to_bytes(8, "little") + data)
    return digest.digest()


def _seal_key(cookie: str) -> bytes:
    return hmac.digest(cookie.encode(), b"vdr console seal", "sha256")


def _answer_key(caller: str) -> bytes:
    return hmac.digest(caller.encode(), b"vdr console answer", "sha256")


def _sealed(key: bytes, plain: bytes) -> bytes:
    nonce = secrets.token_bytes(12)
    return nonce + AESGCM(key).encrypt(nonce, plain, b"")


def _unsealed(key: bytes, sealed: bytes) -> bytes | None:
    """What was sealed; None if it was with another key, or not at all."""
    try:
        return AESGCM(key).decrypt(sealed[:12], sealed[12:], b"")
    except (InvalidTag, ValueError):
        return None


class SessionStore:
    """The state file. Use as an async context manager."""

    def __init__(
        self, path: Path, *, idle_seconds: int, longest_seconds: int, now: Callable[[], float] = time.time
    ) -> None:
        self._path = path
        self._idle_seconds = idle_seconds
        self._longest_seconds = longest_seconds
        self._now = now
        self._base: aiosqlite.Connection | None = None

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(self._path, os.O_CREAT | os.O_RDWR, 0o600))
        self._base = await aiosqlite.connect(self._path, isolation_level=None)
        await self._base.execute("PRAGMA journal_mode=WAL")
        await self._base.execute("PRAGMA synchronous=NORMAL")
        await self._base.executescript(_SCHEMA)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._base is not None:
            await self._base.close()
            self._base = None

    @property
    def _open(self) -> aiosqlite.Connection:
        assert self._base is not None, "the session store is not open"
        return self._base

    async def begin(self, user_name: str, server_token: str) -> WebSession:
        """A new session under a new cookie; sessions past their time are swept on the way."""
        now = int(self._now())
        cookie = secrets.token_urlsafe(32)
        sealed = _sealed(_seal_key(cookie), server_token.encode())
        await self._open.execute(
            "DELETE FROM session WHERE used_unix < ? OR begun_unix < ?",
            (now - self._idle_seconds, now - self._longest_seconds),
        )
        await self._open.execute(
            "INSERT INTO session VALUES (?, ?, ?, ?, ?)", (_hash(cookie), sealed, user_name, now, now)
        )
        return WebSession(cookie, user_name, server_token)

    async def find(self, cookie: str) -> WebSession | None:
        """The session of a cookie, None if there is none or its time is over."""
        now = int(self._now())
        key = _hash(cookie)
        async with self._open.execute(
            "SELECT sealed_token, user_name, begun_unix, used_unix FROM session WHERE cookie_hash = ?", (key,)
        ) as rows:
            row = await rows.fetchone()
        if row is None or row[3] < now - self._idle_seconds or row[2] < now - self._longest_seconds:
            return None
        token = _unsealed(_seal_key(cookie), row[0])
        if token is None:
            return None
        if row[3] < now - _TOUCH_SECONDS:
            await self._open.execute("UPDATE session SET used_unix = ? WHERE cookie_hash = ?", (now, key))
        return WebSession(cookie, row[1], token.decode())

    async def end(self, cookie: str) -> None:
        """Forget a session."""
        await self._open.execute("DELETE FROM session WHERE cookie_hash = ?", (_hash(cookie),))

    async def preference(self, user_name: str, name: str) -> str | None:
        """What the user chose, None if nothing."""
        async with self._open.execute(
            "SELECT value FROM preference WHERE user_name = ? AND name = ?", (user_name, name)
        ) as rows:
            row = await rows.fetchone()
        return None if row is None else str(row[0])

    async def prefer(self, user_name: str, name: str, value: str) -> None:
        """Remember a choice."""
        await self._open.execute(
            "INSERT INTO preference VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET value = excluded.value",
            (user_name, name, value),
        )

    async def kept_answer(self, caller: str, operation: str, key: str) -> KeptAnswer | None:
        """What was answered under this idempotency key within the last day."""
        async with self._open.execute(
            "SELECT request_hash, status, body FROM answer WHERE key_hash = ? AND made_unix > ?",
            (_hash(caller, operation, key), int(self._now()) - _ANSWER_KEPT_SECONDS),
        ) as rows:
            row = await rows.fetchone()
        body = None if row is None else _unsealed(_answer_key(caller), row[2])
        return None if row is None or body is None else KeptAnswer(row[0], row[1], body)

    async def keep_answer(self, caller: str, operation: str, key: str, answer: KeptAnswer) -> None:
        """Keep an answer for a day; the older ones are swept."""
        now = int(self._now())
        await self._open.execute("DELETE FROM answer WHERE made_unix < ?", (now - _ANSWER_KEPT_SECONDS,))
        await self._open.execute(
            "INSERT OR REPLACE INTO answer VALUES (?, ?, ?, ?, ?)",
            (
                _hash(caller, operation, key),
                answer.request_hash,
                answer.status,
                _sealed(_answer_key(caller), answer.body),
                now,
            ),
        )
