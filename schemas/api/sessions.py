"""Calls about the session of a user, and about the system as a whole."""

from typing import Annotated

from msgspec import Meta

from schemas.api.values import Message, Time
from schemas.api.words import Permission, RunState

Password = Annotated[str, Meta(min_length=1, max_length=1024)]


class Login(Message, frozen=True, kw_only=True):
    """Opens a session. Refused with `not-authorised`, after too many failures with `locked-out`."""

    user_name: str
    password: Password
    address: str = ""
    """Where the user comes from, as the console sees it; for the audit log and the lock-out."""


class LoginReply(Message, frozen=True, kw_only=True):
    """An open session."""

    session_token: str
    """Carried with every later call. Secret: only its hash is kept by the server."""
    expires_at: Time
    """Moves on with use."""
    user: "WhoAmIReply"


class Logout(Message, frozen=True, kw_only=True):
    """Ends the session the call carries."""


class WhoAmI(Message, frozen=True, kw_only=True):
    """Who the session belongs to."""


class WhoAmIReply(Message, frozen=True, kw_only=True):
    """The user of a session and what it may do."""

    user_id: str
    user_name: str
    display_name: str
    tenant_id: str
    roles: list[str]
    permissions: list[Permission]
    must_change_password: bool = False


class SystemStatus(Message, frozen=True, kw_only=True):
    """Asks how the whole system is."""


class SystemStatusReply(Message, frozen=True, kw_only=True):
    """The whole system in numbers."""

    version: str
    server_id: str
    started_at: Time
    now: Time
    hosts_online: int
    hosts_total: int
    nodes_online: int
    nodes_total: int
    storages_total: int
    jobs_total: int
    points_total: int
    runs_by_state: dict[RunState, int]
    """Open runs, and those that ended within the last 24 hours."""
    stored_bytes: int
    capacity_bytes: int
    free_bytes: int
    problems: list[str]
    """What somebody must look at, each a sentence."""
