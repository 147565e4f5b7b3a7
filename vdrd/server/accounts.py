"""Log-in, sessions and lock-out. Decides who somebody is; what they may do is decided at the desk."""

import logging
import sqlite3
from collections import deque
from dataclasses import dataclass

from schemas.api.sessions import WhoAmIReply
from schemas.api.words import Permission
from vdrd.catalog import accounts
from vdrd.catalog.accounts import Account
from vdrd.catalog.database import Catalog
from vdrd.model.errors import LockedOut, LoginFailed, SessionEnded
from vdrd.server.clock import Clock
from vdrd.server.config import ServerConfig
from vdrd.server.passwords import Passwords, new_token, token_hash
from vdrd.server.roles import permissions_of

log = logging.getLogger(__name__)

_TOUCH_MS = 60_000
"""Use of a session is written to the catalog at most once a minute."""
_ADDRESSES_MAX = 10_000


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody proven, and from where."""

    account: Account
    session_hash: bytes
    address: str

    @property
    def permissions(self) -> frozenset[Permission]:
        """The union of the rights of the roles."""
        return permissions_of(self.account.roles)

    @property
    def tenant_id(self) -> str:
        """The house the caller belongs to."""
        return self.account.tenant_id

    @property
    def name(self) -> str:
        """The user's name."""
        return self.account.name


def who_is(account: Account) -> WhoAmIReply:
    """The user as consoles see it."""
    return WhoAmIReply(
        user_id=account.user_id,
        user_name=account.name,
        display_name=account.display_name,
        tenant_id=account.tenant_id,
        roles=sorted(account.roles),
        permissions=sorted(permissions_of(account.roles)),
        must_change_password=account.must_change_password,
    )


def _check_unlocked(account: Account | None, now_ms: int) -> None:
    """Raise LockedOut while the user is."""
    if account is not None and account.locked_until_ms is not None and account.locked_until_ms > now_ms:
        raise LockedOut(minutes=max(1, round((account.locked_until_ms - now_ms) / 60_000)))


class Doorkeeper:
    """Opens and checks sessions."""

    def __init__(self, catalog: Catalog, passwords: Passwords, config: ServerConfig, clock: Clock) -> None:
        self._catalog = catalog
        self._passwords = passwords
        self._config = config
        self._clock = clock
        self._failures: dict[str, deque[int]] = {}

    def _check_address(self, address: str) -> None:
        """Raise LockedOut after too many wrong passwords from one address."""
        failures = self._failures.get(address)
        if failures is None:
            return
        oldest = self._clock() - int(self._config.lock_seconds * 1000)
        while failures and failures[0] < oldest:
            failures.popleft()
        if not failures:
            del self._failures[address]
        elif len(failures) >= self._config.address_failures_max:
            raise LockedOut(minutes=max(1, round(self._config.lock_seconds / 60)))

    def _note_failure(self, address: str) -> None:
        if len(self._failures) >= _ADDRESSES_MAX:
            self._failures.pop(next(iter(self._failures)))
        self._failures.setdefault(address, deque()).append(self._clock())

    async def login(self, user_name: str, password: str, address: str) -> tuple[str, int, Account]:
        """Open a session: its token, its end and whose it is. Raises LoginFailed, LockedOut."""
        self._check_address(address)
        account = await self._catalog.read(accounts.by_name, user_name)
        now_ms = self._clock()
        _check_unlocked(account, now_ms)
        usable = account is not None and account.is_enabled
        is_right = await self._passwords.is_right(
            password, account.password_hash if account is not None and usable else None
        )
        self._check_address(address)
        token = new_token()
        expires_ms = now_ms + int(self._config.session_seconds * 1000)

        def settle(connection: sqlite3.Connection) -> bool:
            # Guesses sent all at once were checked together: those after the last one allowed learn nothing.
            _check_unlocked(accounts.by_name(connection, user_name), now_ms)
            if account is not None and is_right:
                accounts.open_session(
                    connection,
                    token_hash=token_hash(token),
                    user_id=account.user_id,
                    address=address,
                    now_ms=now_ms,
                    expires_ms=expires_ms,
                )
                return False
            return account is not None and accounts.note_login_failed(
                connection,
                account.user_id,
                limit=self._config.login_failures_max,
                lock_ms=int(self._config.lock_seconds * 1000),
                now_ms=now_ms,
            )

        is_locked_now = await self._catalog.write(settle)
        if account is None or not is_right:
            self._note_failure(address)
            if account is not None and is_locked_now:
                log.warning("user locked out user=%s address=%s", account.name, address)
            raise LoginFailed
        return token, expires_ms, account

    async def check_password(self, caller: Caller, password: str) -> None:
        """Check the password of somebody who is logged in. A wrong one counts as a failed log-in: whoever
        found an open session must not guess there.

        Raises LoginFailed, LockedOut.
        """
        account, now_ms = caller.account, self._clock()
        self._check_address(caller.address)
        is_right = await self._passwords.is_right(password, account.password_hash)
        self._check_address(caller.address)

        def settle(connection: sqlite3.Connection) -> bool:
            _check_unlocked(accounts.by_name(connection, account.name), now_ms)
            return not is_right and accounts.note_login_failed(
                connection,
                account.user_id,
                limit=self._config.login_failures_max,
                lock_ms=int(self._config.lock_seconds * 1000),
                now_ms=now_ms,
            )

        is_locked_now = await self._catalog.write(settle)
        if not is_right:
            self._note_failure(caller.address)
            if is_locked_now:
                log.warning("user locked out user=%s address=%s", account.name, caller.address)
            raise LoginFailed

    async def caller(self, token: str, address: str) -> Caller:
        """Whose session it is. Raises SessionEnded."""
        digest = token_hash(token)
        session = await self._catalog.read(accounts.session, digest)
        now_ms = self._clock()
        if session is None or not session.account.is_enabled:
            raise SessionEnded
        idle_ms = int(self._config.session_idle_seconds * 1000)
        if now_ms >= session.expires_at_ms or now_ms - session.used_at_ms >= idle_ms:
            await self._catalog.write(accounts.close_session, digest)
            raise SessionEnded
        if abs(now_ms - session.used_at_ms) >= _TOUCH_MS:
            await self._catalog.write(accounts.touch_session, digest, now_ms, session.expires_at_ms)
        return Caller(session.account, digest, address)
