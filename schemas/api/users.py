"""Calls about users, and the audit log."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from schemas.api.sessions import Password
from schemas.api.values import ById, Id, Message, Name, Page, PageRequest, Time

UserName = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9._@-]+$")]
NewPassword = Annotated[str, Meta(min_length=10, max_length=1024)]


class UserInfo(Message, frozen=True, kw_only=True):
    """Somebody who may log in."""

    id: Id
    name: str
    display_name: str
    roles: list[str]
    is_enabled: bool
    is_locked_out: bool
    created_at: Time
    last_login_at: Time | None


class UserList(PageRequest, frozen=True, kw_only=True):
    """Lists users by name."""


class UserPage(Page, frozen=True, kw_only=True):
    """Some users."""

    items: list[UserInfo]


class UserCreate(Message, frozen=True, kw_only=True):
    """Makes a user, who must change the password at the first log-in."""

    name: UserName
    display_name: Name | None = None
    password: NewPassword
    roles: list[str] = field(default_factory=list)
    """Names of preset roles. A user without one can do nothing."""


class UserEdit(ById, frozen=True, kw_only=True):
    """Changes the fields that are given. The last enabled super administrator cannot be disabled or lose the
    role."""

    display_name: Name | UnsetType = UNSET
    roles: list[str] | UnsetType = UNSET
    is_enabled: bool | UnsetType = UNSET
    password: NewPassword | UnsetType = UNSET
    """A new one by an administrator; ends the user's sessions and lifts a lock-out."""


class UserDelete(ById, frozen=True, kw_only=True):
    """Deletes a user and ends the sessions."""


class PasswordChange(Message, frozen=True, kw_only=True):
    """Changes one's own password; ends one's other sessions."""

    old_password: Password
    new_password: NewPassword


class RoleList(Message, frozen=True, kw_only=True):
    """Lists the preset roles."""


class RoleInfo(Message, frozen=True, kw_only=True):
    """A named set of rights."""

    name: str
    description: str
    permissions: list[str]


class RoleListReply(Message, frozen=True, kw_only=True):
    """All roles."""

    items: list[RoleInfo]


class AuditList(PageRequest, frozen=True, kw_only=True):
    """Lists the audit log, newest first."""

    user_name: str | None = None
    action: str | None = None
    """Start of the action's name, such as `job.`."""
    state: str | None = None
    """`ok`, `refused` or `failed`."""
    since: Time | None = None
    until: Time | None = None


class AuditEntry(Message, frozen=True, kw_only=True):
    """Who did what, and whether it was allowed."""

    sequence: int
    time: Time
    user_name: str
    address: str
    action: str
    """Name of the call, or of what the system did by itself."""
    target: str
    """What it was about, by name and id."""
    state: str
    text: str


class AuditPage(Page, frozen=True, kw_only=True):
    """Some entries."""

    items: list[AuditEntry]
