"""Calls about the session and the system as a whole."""

from schemas.api.sessions import Logout, SystemStatus, SystemStatusReply, WhoAmI, WhoAmIReply
from schemas.api.users import PasswordChange
from schemas.api.values import Done
from vdrd import __version__
from vdrd.catalog import accounts, hosts, jobs, nodes, points, runs, storages
from vdrd.catalog.times import from_ms
from vdrd.net.identity import Role
from vdrd.server.accounts import Caller, who_is
from vdrd.server.services import Services

_DAY_MS = 86_400_000


async def logout(services: Services, caller: Caller, _request: Logout) -> Done:
    """End the session."""
    await services.catalog.write(accounts.close_session, caller.session_hash)
    return Done()


async def who_am_i(_services: Services, caller: Caller, _request: WhoAmI) -> WhoAmIReply:
    """Who the session belongs to."""
    return who_is(caller.account)


async def change_password(services: Services, caller: Caller, request: PasswordChange) -> Done:
    """Change one's own password. Raises LoginFailed if the old one is wrong, LockedOut after too many."""
    await services.doorkeeper.check_password(caller, request.old_password)
    digest = await services.passwords.hash(request.new_password)
    await services.catalog.write(
        accounts.set_password,
        caller.account.user_id,
        digest,
        must_change=False,
        keep_session=caller.session_hash,
    )
    return Done()


async def system_status(services: Services, _caller: Caller, _request: SystemStatus) -> SystemStatusReply:
    """The system in numbers, and what somebody must look at."""
    catalog, now_ms = services.catalog, services.clock()
    every = await catalog.read(storages.every)
    node_ids = await catalog.read(nodes.all_ids)
    online_nodes = services.peers.ids(Role.NODE)
    problems = [
        f"storage {storage.name} is not online: {storage.problem}"
        for storage in every
        if not storage.is_online
    ]
    problems += [
        f"storage {storage.name} is nearly full"
        for storage in every
        if storage.capacity_bytes and storage.free_bytes * 20 < storage.capacity_bytes
    ]
    problems += [
        f"node {(await catalog.read(nodes.get, node_id)).name} is not online"
        for node_id in node_ids
        if node_id not in online_nodes
    ]
    return SystemStatusReply(
        version=__version__,
        server_id=services.server_id,
        started_at=from_ms(services.started_ms),
        now=from_ms(now_ms),
        hosts_online=len(services.peers.ids(Role.AGENT)),
        hosts_total=await catalog.read(hosts.count),
        nodes_online=len(online_nodes),
        nodes_total=len(node_ids),
        storages_total=len(every),
        jobs_total=await catalog.read(jobs.count),
        points_total=await catalog.read(points.count),
        runs_by_state=await catalog.read(runs.counts, now_ms - _DAY_MS),
        stored_bytes=sum(storage.stored_bytes for storage in every),
        capacity_bytes=sum(storage.capacity_bytes for storage in every),
        free_bytes=sum(storage.free_bytes for storage in every),
        problems=problems,
    )


HANDLERS = {
    "session.logout": logout,
    "session.who_am_i": who_am_i,
    "session.change_password": change_password,
    "system.status": system_status,
}
