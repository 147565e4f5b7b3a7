"""Calls about hosts."""

import sqlite3
from datetime import datetime, timedelta

import msgspec
import trio

from schemas.api.hosts import (
    EnrolmentToken,
    EnrolmentTokenCreate,
    FilePage,
    HostAddPassive,
    HostBrowse,
    HostDelete,
    HostDisks,
    HostDisksReply,
    HostGet,
    HostInfo,
    HostList,
    HostPage,
    HostRename,
    PassiveEnrolment,
)
from schemas.api.runs import RunList
from schemas.api.values import PAGE_LIMIT_MAX, Done
from schemas.api.words import OPEN_STATES, LinkMode, Presence
from schemas.control import HostBrowseAsk, HostDisksAnswer, HostDisksAsk, ListingAnswer, RevocationsPushed
from vdrd.catalog import certificates, hosts, runs
from vdrd.catalog.paging import decode_cursor, encode_cursor
from vdrd.catalog.times import to_ms
from vdrd.model.errors import BadArgument, VdrError
from vdrd.net import ca
from vdrd.net.address import Address
from vdrd.net.ca import Issued
from vdrd.net.identity import Role
from vdrd.server.accounts import Caller
from vdrd.server.launch import new_id
from vdrd.server.services import Services

_BROWSE_SECONDS = 30.0
_PROGRAMS = {"agent": "vdr-agent enrol", "node": "vdrd enrol-node", "console": "vdrd enrol-console"}


def _live(services: Services, host: HostInfo) -> HostInfo:
    if services.peers.find(host.id) is None:
        return host
    return msgspec.structs.replace(host, presence=Presence.ONLINE)


async def list_hosts(services: Services, caller: Caller, request: HostList) -> HostPage:
    """Hosts by name."""
    online = services.peers.ids(Role.AGENT)
    items, cursor = await services.catalog.read(hosts.list_page, caller.tenant_id, request, online)
    return HostPage(items=[_live(services, host) for host in items], next_cursor=cursor)


async def get_host(services: Services, _caller: Caller, request: HostGet) -> HostInfo:
    """One host."""
    return _live(services, await services.catalog.read(hosts.get, request.id))


async def rename_host(services: Services, _caller: Caller, request: HostRename) -> HostInfo:
    """Give a host another name."""
    await services.catalog.write(hosts.rename, request.id, request.name)
    services.feed.publish("host", request.id)
    return _live(services, await services.catalog.read(hosts.get, request.id))


async def delete_host(services: Services, caller: Caller, request: HostDelete) -> Done:
    """Stop a host's runs, revoke its certificates, cut its link, forget it; tell everybody whom to refuse."""
    now_ms = services.clock()
    await services.catalog.write(hosts.delete, request.id, request.force)
    still_open = RunList(host_id=request.id, states=sorted(OPEN_STATES), limit=PAGE_LIMIT_MAX)
    for run in (await services.catalog.read(runs.list_page, caller.tenant_id, still_open))[0]:
        await services.director.cancel(run.id)
    serials = await services.catalog.write(certificates.revoke, request.id, now_ms)
    await revoke(services, serials)
    peer = services.peers.find(request.id)
    if peer is not None:
        peer.link.close("this host was deleted")
    services.passive.refresh()
    services.feed.publish("host", request.id)
    return Done()


async def revoke(services: Services, serials: list[int]) -> None:
    """Put certificates on the authority's list, use it here at once, and push it to every node and agent."""
    revoked_pem = await trio.to_thread.run_sync(services.authority.revoke, *serials)
    await trio.to_thread.run_sync(services.credentials.store_revocations, revoked_pem)
    services.profile.reload()
    services.listener.drop_revoked()
    for role in (Role.NODE, Role.AGENT):
        for ident in services.peers.ids(role):
            peer = services.peers.find(ident)
            if peer is not None:
                try:
                    await peer.link.notify(RevocationsPushed(revoked_pem=revoked_pem))
                except VdrError:
                    # It gets the list with its next registration.
                    continue


async def create_token(services: Services, _caller: Caller, request: EnrolmentTokenCreate) -> EnrolmentToken:
    """A one-time token, and the command to type on the new machine."""
    if request.role not in _PROGRAMS:
        raise BadArgument(field="role", reason="must be agent, node or console")

    def give() -> tuple[str, datetime]:
        token, record = services.enrol_desk.give_token(
            role=Role(request.role),
            lifetime=timedelta(seconds=request.valid_seconds),
            label=request.name or "",
        )
        return token.text(), record.expires_at

    text, expires_at = await trio.to_thread.run_sync(give)
    return EnrolmentToken(
        token=text,
        command=f"{_PROGRAMS[request.role]} {text}",
        server_address=str(services.enrol_desk.servers[0]),
        authority_fingerprint=services.authority.fingerprint.hex(),
        expires_at=expires_at,
    )


async def add_passive(services: Services, caller: Caller, request: HostAddPassive) -> PassiveEnrolment:
    """Make an identity for a host, then keep dialling it until somebody carried it there."""
    host_id = new_id()
    address = Address(request.address, request.port)
    Address.parse(str(address))

    def issue() -> tuple[Issued, str]:
        key = ca.new_key()
        issued = services.authority.issue(ca.new_request(key), Role.AGENT, host_id)
        bundle = ca.pem_of_key(key).decode() + issued.certificate_pem + services.authority.certificate_pem
        return issued, bundle

    issued, bundle = await trio.to_thread.run_sync(issue)

    def work(connection: sqlite3.Connection) -> None:
        now_ms = services.clock()
        hosts.create(
            connection,
            host_id=host_id,
            tenant_id=caller.tenant_id,
            wanted_name=request.name,
            link_mode=LinkMode.PASSIVE,
            address=str(address),
            now_ms=now_ms,
        )
        certificates.note(
            connection,
            serial=issued.serial,
            role=issued.role,
            holder_id=issued.ident,
            not_after_ms=to_ms(issued.not_after),
            now_ms=now_ms,
        )

    await services.catalog.write(work)
    services.passive.refresh()
    services.feed.publish("host", host_id)
    host = await services.catalog.read(hosts.get, host_id)
    return PassiveEnrolment(host=host, bundle=bundle, command="vdr-agent enrol --bundle -")


async def host_disks(services: Services, _caller: Caller, request: HostDisks) -> HostDisksReply:
    """Ask the agent for its disks."""
    host = await services.catalog.read(hosts.get, request.id)
    answer = await services.peers.ask(
        host.id, f"host {host.name}", HostDisksAsk(), HostDisksAnswer, _BROWSE_SECONDS
    )
    return HostDisksReply(items=answer.items)


async def browse_host(services: Services, _caller: Caller, request: HostBrowse) -> FilePage:
    """Ask the agent for a directory."""
    host = await services.catalog.read(hosts.get, request.id)
    ask = HostBrowseAsk(
        path=request.path,
        directories_only=request.directories_only,
        after=after_of(request.cursor),
        limit=request.limit,
    )
    answer = await services.peers.ask(host.id, f"host {host.name}", ask, ListingAnswer, _BROWSE_SECONDS)
    return file_page(request.path, answer)


def after_of(cursor: str | None) -> str | None:
    """Name of the last entry of the page before."""
    return None if cursor is None else str(decode_cursor(cursor, 1)[0])


def file_page(path: str, answer: ListingAnswer) -> FilePage:
    """An agent's or node's listing as a page."""
    more = answer.has_more and answer.items
    return FilePage(
        path=path, items=answer.items, next_cursor=encode_cursor([answer.items[-1].name]) if more else None
    )


HANDLERS = {
    "host.list": list_hosts,
    "host.get": get_host,
    "host.rename": rename_host,
    "host.delete": delete_host,
    "host.create_token": create_token,
    "host.add_passive": add_passive,
    "host.disks": host_disks,
    "host.browse": browse_host,
}
