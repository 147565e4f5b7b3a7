"""The preset roles and what each may do. The only place where a role becomes rights."""

from collections.abc import Iterable
from dataclasses import dataclass

from schemas.api.words import Permission

SUPER_ADMINISTRATOR = "super-administrator"
"""The role that must not die out."""

_P = Permission
_READ = frozenset(
    {
        _P.SYSTEM_READ,
        _P.HOSTS_READ,
        _P.NODES_READ,
        _P.STORAGES_READ,
        _P.JOBS_READ,
        _P.POINTS_READ,
        _P.ALERTS_READ,
    }
)
_OPERATE = _READ | {
    _P.HOSTS_BROWSE,
    _P.JOBS_RUN,
    _P.POINTS_BROWSE,
    _P.POINTS_RESTORE,
    _P.EXPORTS_MANAGE,
    _P.ALERTS_HANDLE,
}
_ADMINISTER = _OPERATE | {
    _P.HOSTS_MANAGE,
    _P.NODES_MANAGE,
    _P.STORAGES_MANAGE,
    _P.JOBS_MANAGE,
    _P.POINTS_DELETE,
    _P.POINTS_LOCK,
    _P.CHANNELS_MANAGE,
    _P.USERS_READ,
}


@dataclass(frozen=True, slots=True)
class Role:
    """A named set of rights."""

    name: str
    description: str
    permissions: frozenset[Permission]


ROLES: dict[str, Role] = {
    role.name: role
    for role in (
        Role(SUPER_ADMINISTRATOR, "everything, users and the audit log too", frozenset(Permission)),
        Role("administrator", "hosts, nodes, storages, jobs and points; sees users", _ADMINISTER),
        Role("operator", "starts and stops jobs, restores; changes no configuration", _OPERATE),
        Role(
            "auditor",
            "sees everything, the audit log too; changes nothing",
            _READ | {_P.USERS_READ, _P.AUDIT_READ},
        ),
    )
}
"""By name."""


def permissions_of(roles: Iterable[str]) -> frozenset[Permission]:
    """The union of the rights of these roles; a role nobody knows gives none."""
    return frozenset().union(*(ROLES[name].permissions for name in roles if name in ROLES))
