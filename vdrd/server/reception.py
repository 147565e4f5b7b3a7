"""Who may link to the server and with which handler; who may enrol; what happens when a link ends."""

import logging
import sqlite3
from typing import Any

import msgspec

from schemas.api.calls import Call
from schemas.api.words import LinkMode
from schemas.link import Enrol, Hello
from vdrd.catalog import audit, certificates, hosts, nodes
from vdrd.catalog.settings import TENANT_DEFAULT
from vdrd.catalog.times import to_ms
from vdrd.model.errors import NotAuthorised
from vdrd.net.address import AGENT_PORT, Address
from vdrd.net.enrol import Admission
from vdrd.net.identity import PeerIdentity, Role
from vdrd.net.link import Handler, Link
from vdrd.server.desk import Desk
from vdrd.server.machines import AgentHandler, NodeHandler, note_gone
from vdrd.server.services import Services

log = logging.getLogger(__name__)


class ConsoleHandler:
    """The link of a console: calls, each with its user's session."""

    family = Call

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def request(self, _link: Link, message: Any) -> msgspec.Struct:
        """Answer a call."""
        return await self._desk.answer(message)

    async def notify(self, _link: Link, _message: Any) -> None:
        """Consoles only ask."""
        raise NotAuthorised(reason="a call wants an answer")


class Reception:
    """`ControlReception` of the server's listener, and the session of links the server dialled."""

    def __init__(self, services: Services, desk: Desk) -> None:
        self._services = services
        self._desk = desk

    async def admit(self, peer: PeerIdentity, _hello: Hello) -> Handler:
        """The handler for a peer. Raises NotAuthorised for one the catalog does not know (any more)."""
        catalog = self._services.catalog
        match peer.role:
            case Role.AGENT if await catalog.read(hosts.is_known, peer.ident):
                return AgentHandler(self._services, peer.ident)
            case Role.NODE if await catalog.read(nodes.is_known, peer.ident):
                return NodeHandler(self._services, peer.ident)
            case Role.CONSOLE:
                return ConsoleHandler(self._desk)
            case _:
                raise NotAuthorised(reason=f"{peer} is not known here; enrol it again")

    async def session(self, link: Link) -> None:
        """Runs while a link is open; notes its end."""
        try:
            await link.wait_closed()
        finally:
            ident, role = link.peer.ident, link.peer.role
            if self._services.peers.remove(ident, link):
                log.info("unregistered peer=%s", link)
                self._services.background.start_soon(note_gone, self._services, ident, role)


def check_facts(request: Enrol) -> None:
    """Look at what a host says about itself before its token is spent. Raises AddressUnreadable."""
    if address := request.facts.get("address"):
        Address.parse(address, AGENT_PORT)


async def register(services: Services, admission: Admission) -> None:
    """A machine enrolled: note it and its certificate."""
    issued = admission.issued
    now_ms = services.clock()
    wanted_name = (admission.token.label or admission.host or "host")[:200]
    mode = LinkMode.PASSIVE if admission.facts.get("mode") == LinkMode.PASSIVE else LinkMode.ACTIVE
    address = None
    if mode is LinkMode.PASSIVE:
        host = Address.parse(admission.address).host
        address = admission.facts.get("address") or str(Address(host, AGENT_PORT))

    def work(connection: sqlite3.Connection) -> str:
        if issued.role is Role.AGENT:
            if hosts.is_known(connection, issued.ident):
                name = hosts.get(connection, issued.ident).name
            else:
                name = hosts.create(
                    connection,
                    host_id=issued.ident,
                    tenant_id=TENANT_DEFAULT,
                    wanted_name=wanted_name,
                    link_mode=mode,
                    address=address,
                    now_ms=now_ms,
                )
        elif issued.role is Role.NODE:
            name = nodes.create(connection, issued.ident, wanted_name, now_ms)
        else:
            name = wanted_name
        certificates.note(
            connection,
            serial=issued.serial,
            role=issued.role,
            holder_id=issued.ident,
            not_after_ms=to_ms(issued.not_after),
            now_ms=now_ms,
        )
        audit.add(
            connection,
            now_ms=now_ms,
            tenant_id=TENANT_DEFAULT,
            user_name="system",
            address=admission.address,
            action=f"{issued.role}.enrolled",
            target=f"name={name} id={issued.ident}",
            state="ok",
            text="",
        )
        return name

    name = await services.catalog.write(work)
    log.info("enrolled role=%s id=%s name=%s address=%s", issued.role, issued.ident, name, admission.address)
    if issued.role is not Role.CONSOLE:
        services.feed.publish("host" if issued.role is Role.AGENT else "node", issued.ident)
    if mode is LinkMode.PASSIVE:
        services.passive.refresh()
