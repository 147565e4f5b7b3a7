"""Passwords and tokens: argon2id for what people choose, SHA-256 for what is random already."""

import hashlib
import secrets
from dataclasses import dataclass

import argon2
import trio

HASHES_AT_ONCE = 2
"""Each costs 64 MiB and about 50 ms of two lanes; a flood of log-ins queues here instead of taking the
machine."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"


def new_password() -> str:
    """A random password of 20 characters that cannot be mistaken for each other (116 bits)."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(20))


def new_token() -> str:
    """A random token of 43 characters (256 bits)."""
    return secrets.token_urlsafe(32)


def token_hash(token: str) -> bytes:
    """What is kept of a token."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def hash_now(password: str) -> str:
    """argon2id with a fresh salt, in its PHC spelling. Blocking, about 50 ms."""
    return argon2.PasswordHasher().hash(password)


@dataclass(frozen=True, slots=True)
class Passwords:
    """Hashes and checks passwords in threads."""

    limiter: trio.CapacityLimiter
    nobody: str
    """Hash of a password nobody has: checking it makes an unknown user cost as much as a known one."""

    @classmethod
    def make(cls) -> "Passwords":
        """With a limiter of its own. Blocking."""
        return cls(trio.CapacityLimiter(HASHES_AT_ONCE), hash_now(new_password()))

    async def hash(self, password: str) -> str:
        """argon2id with a fresh salt."""
        return await trio.to_thread.run_sync(hash_now, password, limiter=self.limiter)

    async def is_right(self, password: str, password_hash: str | None) -> bool:
        """Compare; with None (unknown user) the same work is done and the answer is no."""

        def check() -> bool:
            try:
                argon2.PasswordHasher().verify(password_hash or self.nobody, password)
            except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
                return False
            return password_hash is not None

        return await trio.to_thread.run_sync(check, limiter=self.limiter)
