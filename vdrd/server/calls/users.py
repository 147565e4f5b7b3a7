"""Calls about users, roles and the audit log."""

import sqlite3

from msgspec import UNSET

from schemas.api.users import (
    AuditList,
    AuditPage,
    RoleInfo,
    RoleList,
    RoleListReply,
    UserCreate,
    UserDelete,
    UserEdit,
    UserInfo,
    UserList,
    UserPage,
)
from schemas.api.values import Done
from vdrd.catalog import accounts, audit
from vdrd.model.errors import BadArgument, Conflict
from vdrd.server.accounts import Caller
from vdrd.server.launch import new_id
from vdrd.server.roles import ROLES, SUPER_ADMINISTRATOR
from vdrd.server.services import Services


def _checked_roles(names: list[str]) -> frozenset[str]:
    for name in names:
        if name not in ROLES:
            raise BadArgument(field="roles", reason=f"there is no role {name}; there are {', '.join(ROLES)}")
    return frozenset(names)


async def list_users(services: Services, caller: Caller, request: UserList) -> UserPage:
    """Users by name."""
    items, cursor = await services.catalog.read(
        accounts.list_page, caller.tenant_id, request.cursor, request.limit, services.clock()
    )
    return UserPage(items=items, next_cursor=cursor)


async def create_user(services: Services, caller: Caller, request: UserCreate) -> UserInfo:
    """Make a user who must change the password at the first log-in."""
    roles = _checked_roles(request.roles)
    digest = await services.passwords.hash(request.password)
    user_id = new_id()
    await services.catalog.write(
        accounts.create,
        user_id=user_id,
        tenant_id=caller.tenant_id,
        name=request.name,
        display_name=request.display_name or request.name,
        password_hash=digest,
        must_change_password=True,
        roles=roles,
        now_ms=services.clock(),
    )
    services.feed.publish("user", user_id)
    return await services.catalog.read(accounts.info, user_id, services.clock())


async def edit_user(services: Services, _caller: Caller, request: UserEdit) -> UserInfo:
    """Change what is given."""
    roles = None if request.roles is UNSET else _checked_roles(request.roles)
    digest = None if request.password is UNSET else await services.passwords.hash(request.password)

    def work(connection: sqlite3.Connection) -> None:
        accounts.by_id(connection, request.id)
        if request.display_name is not UNSET:
            accounts.set_display_name(connection, request.id, request.display_name)
        if roles is not None:
            accounts.set_roles(connection, request.id, roles, SUPER_ADMINISTRATOR)
        if request.is_enabled is not UNSET:
            accounts.set_enabled(connection, request.id, request.is_enabled, SUPER_ADMINISTRATOR)
        if digest is not None:
            accounts.set_password(connection, request.id, digest, must_change=True)

    await services.catalog.write(work)
    services.feed.publish("user", request.id)
    return await services.catalog.read(accounts.info, request.id, services.clock())


async def delete_user(services: Services, caller: Caller, request: UserDelete) -> Done:
    """Delete a user, not oneself."""
    if request.id == caller.account.user_id:
        raise Conflict(what="you cannot delete yourself", remedy="let another administrator do it")
    await services.catalog.write(accounts.delete, request.id, SUPER_ADMINISTRATOR)
    services.feed.publish("user", request.id)
    return Done()


async def list_roles(_services: Services, _caller: Caller, _request: RoleList) -> RoleListReply:
    """The preset roles."""
    return RoleListReply(
        items=[
            RoleInfo(name=role.name, description=role.description, permissions=sorted(role.permissions))
            for role in ROLES.values()
        ]
    )


async def list_audit(services: Services, caller: Caller, request: AuditList) -> AuditPage:
    """The audit log, newest first."""
    items, cursor = await services.catalog.read(audit.list_page, caller.tenant_id, request)
    return AuditPage(items=items, next_cursor=cursor)


HANDLERS = {
    "user.list": list_users,
    "user.create": create_user,
    "user.edit": edit_user,
    "user.delete": delete_user,
    "role.list": list_roles,
    "audit.list": list_audit,
}
