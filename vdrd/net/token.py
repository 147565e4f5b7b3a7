"""Enrolment tokens: what one says, and the book in which the server keeps what it gave out.

A token bundles the server's address, the fingerprint of its CA, and a secret. The book holds only the
secret's hash.
"""

import base64
import binascii
import hmac
import secrets
import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from vdrd.model.errors import KeyFileUnusable, TokenRefused, TokenUnreadable
from vdrd.net.address import Address
from vdrd.net.ca import now_utc
from vdrd.net.identity import Role
from vdrd.net.keyfile import read_secret, write_secret

PREFIX = "vdr1."
ID_BYTES = 16
SECRET_BYTES = 32
LIFETIME = timedelta(hours=24)
KEPT = timedelta(days=30)
"""Used and expired tokens stay in the book this long, so that a late use gets the exact reason."""
BOOK_BYTES_MAX = 64 << 20


class _Bundle(Struct, array_like=True, forbid_unknown_fields=True):
    addresses: Annotated[list[Annotated[str, Meta(max_length=260)]], Meta(min_length=1, max_length=8)]
    fingerprint: Annotated[bytes, Meta(min_length=32, max_length=32)]
    credential: Annotated[bytes, Meta(min_length=ID_BYTES + SECRET_BYTES, max_length=ID_BYTES + SECRET_BYTES)]


@dataclass(frozen=True, slots=True)
class Token:
    """What the administrator carries to the host. `repr` shows no secret."""

    addresses: tuple[Address, ...]
    fingerprint: bytes
    """SHA-256 of the CA's certificate."""
    credential: bytes
    """Id and secret."""

    def __repr__(self) -> str:
        return f"Token(id={self.credential[:ID_BYTES].hex()}, secret=***)"

    def text(self) -> str:
        """The token as one word to copy."""
        bundle = _Bundle([str(address) for address in self.addresses], self.fingerprint, self.credential)
        body = msgspec.msgpack.encode(bundle)
        body += zlib.crc32(body).to_bytes(4, "little")
        return PREFIX + base64.urlsafe_b64encode(body).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> "Token":
        """Read a token. Raises TokenUnreadable."""
        text = "".join(text.split())
        if not text.startswith(PREFIX):
            raise TokenUnreadable(reason=f"it does not begin with {PREFIX}")
        word = text.removeprefix(PREFIX)
        try:
            body = base64.b64decode(word + "=" * (-len(word) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise TokenUnreadable(reason="it holds characters that do not belong there") from error
        if len(body) < 4 or zlib.crc32(body[:-4]).to_bytes(4, "little") != body[-4:]:
            raise TokenUnreadable(reason="a part is missing or changed")
        try:
            bundle = msgspec.msgpack.decode(body[:-4], type=_Bundle)
        except msgspec.DecodeError as error:
            raise TokenUnreadable(reason="another version made it") from error
        addresses = tuple(Address.parse(address) for address in bundle.addresses)
        return cls(addresses, bundle.fingerprint, bundle.credential)


class TokenRecord(Struct, frozen=True):
    """A token as the book keeps it."""

    token_id: str
    secret_hash: bytes
    role: str
    expires_at: datetime
    label: str = ""
    """What the administrator wrote: a host name, a remark."""
    ident: str = ""
    """UUID to give; empty = a new one."""
    used_at: datetime | None = None


class TokenBook:
    """Tokens given out, in one file (0600). Thread-safe; every change is durable on return."""

    def __init__(self, path: Path, clock: Callable[[], datetime] = now_utc) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()

    def give(
        self,
        addresses: tuple[Address, ...],
        fingerprint: bytes,
        *,
        role: Role = Role.AGENT,
        lifetime: timedelta = LIFETIME,
        label: str = "",
        ident: str = "",
    ) -> tuple[Token, TokenRecord]:
        """A new one-time token, and what the book keeps of it."""
        token_id, secret = secrets.token_bytes(ID_BYTES), secrets.token_bytes(SECRET_BYTES)
        record = TokenRecord(
            token_id.hex(), sha256(secret).digest(), role.value, self._clock() + lifetime, label, ident
        )
        with self._lock:
            records = self._load()
            records[record.token_id] = record
            self._save(records)
        return Token(addresses, fingerprint, token_id + secret), record

    def use(self, credential: bytes) -> TokenRecord:
        """Spend a token: from now on it is used, whatever happens next. Raises TokenRefused."""
        token_id, secret = credential[:ID_BYTES].hex(), credential[ID_BYTES:]
        now = self._clock()
        with self._lock:
            records = self._load()
            record = records.get(token_id)
            if record is None or not hmac.compare_digest(record.secret_hash, sha256(secret).digest()):
                raise TokenRefused(reason="the server does not know it")
            if record.used_at is not None:
                raise TokenRefused(reason=f"it was used at {record.used_at:%Y-%m-%d %H:%M} UTC")
            if now >= record.expires_at:
                raise TokenRefused(reason=f"it expired at {record.expires_at:%Y-%m-%d %H:%M} UTC")
            records[token_id] = spent = msgspec.structs.replace(record, used_at=now)
            self._save(records)
        return spent

    def withdraw(self, token_id: str) -> bool:
        """Make a token useless before it is used; False when the book does not have it."""
        with self._lock:
            records = self._load()
            found = records.pop(token_id, None) is not None
            if found:
                self._save(records)
        return found

    def records(self) -> list[TokenRecord]:
        """Tokens the book keeps, newest end last."""
        with self._lock:
            return sorted(self._load().values(), key=lambda record: record.expires_at)

    def _load(self) -> dict[str, TokenRecord]:
        if not self._path.exists():
            return {}
        content = read_secret(self._path, BOOK_BYTES_MAX)
        try:
            records = msgspec.json.decode(content, type=list[TokenRecord])
        except msgspec.DecodeError as error:
            raise KeyFileUnusable(path=self._path, reason=f"it is no book of tokens ({error})") from error
        oldest = self._clock() - KEPT
        return {record.token_id: record for record in records if record.expires_at > oldest}

    def _save(self, records: dict[str, TokenRecord]) -> None:
        write_secret(self._path, msgspec.json.encode(list(records.values())))
