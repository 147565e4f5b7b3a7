"""What agents and nodes say on their links, and what the server does about it.

One handler per link. Who speaks is known from the certificate; a message about somebody else's run, storage
or point is
refused, so a stolen agent harms its own host's runs only.
"""

import logging
import sqlite3
from typing import Any

import msgspec
import trio

from schemas.control import (
    Ack,
    CertificateRenew,
    CertificateRenewed,
    FromMachine,
    PointsAnnounced,
    Register,
    Registered,
    RevocationsPushed,
    RunEnded,
    RunLogged,
    RunProgressed,
    StorageAnnounced,
    StoragesAnnounced,
)
from vdrd.catalog import certificates, exports, hosts, nodes, points, storages
from vdrd.catalog.times import from_ms, to_ms
from vdrd.model.errors import NotAuthorised, VdrError
from vdrd.net.identity import Role
from vdrd.net.link import Link
from vdrd.server.calls.exports import serve
from vdrd.server.services import Services

log = logging.getLogger(__name__)

_WORD_MAX = 255
"""What a machine says about itself is cut here: it is shown in every list."""


class MachineHandler:
    """What agents and nodes have in common: registering, runs, certificates."""

    family = FromMachine

    def __init__(self, services: Services, ident: str, role: Role) -> None:
        self._services = services
        self._ident = ident
        self._role = role

    async def request(self, link: Link, message: Any) -> msgspec.Struct:
        """Answer a request."""
        match message:
            case Register():
                return await self._register(link, message)
            case CertificateRenew():
                return await self._renew(link, message)
            case RunEnded():
                await self._services.director.note_ended(self._ident, message)
                return Ack()
            case _:
                return await self._other_request(message)

    async def notify(self, _link: Link, message: Any) -> None:
        """Take a notification."""
        match message:
            case RunProgressed():
                run_id = self._services.director.note_progress(self._ident, message)
                if run_id is not None:
                    self._services.feed.publish("run-progress", run_id, self._services.director.seen(run_id))
            case RunLogged():
                await self._services.director.note_logged(self._ident, message)
            case _:
                raise NotAuthorised(reason=f"{type(message).__name__} is no notification")

    async def _other_request(self, message: Any) -> msgspec.Struct:
        raise NotAuthorised(reason=f"{self._role}s do not send {type(message).__name__}")

    async def _note_registered(self, link: Link, message: Register) -> str:
        raise NotImplementedError

    async def _register(self, link: Link, message: Register) -> Registered:
        services = self._services
        name = await self._note_registered(link, message)
        held = [(run.run_id, run.attempt) for run in message.held_runs]
        drop = services.director.unwanted(self._ident, held)
        services.peers.add(self._ident, self._role, name, link, message.held_runs)
        log.info("registered peer=%s name=%s held=%d dropped=%d", link, name, len(held), len(drop))
        revoked_pem = await trio.to_thread.run_sync(lambda: services.authority.revoked_pem)
        await link.notify(RevocationsPushed(revoked_pem=revoked_pem))
        services.feed.publish(str(self._topic), self._ident)
        return Registered(
            server_id=services.server_id,
            name=name,
            now=from_ms(services.clock()),
            storages=await services.catalog.read(storages.of_node, self._ident),
            drop_runs=drop,
        )

    @property
    def _topic(self) -> str:
        return "host" if self._role is Role.AGENT else "node"

    async def _renew(self, link: Link, message: CertificateRenew) -> CertificateRenewed:
        services = self._services
        issued = await trio.to_thread.run_sync(services.authority.renew, message.request_pem, link.peer)
        await services.catalog.write(
            certificates.note,
            serial=issued.serial,
            role=issued.role,
            holder_id=issued.ident,
            not_after_ms=to_ms(issued.not_after),
            now_ms=services.clock(),
        )
        log.info("certificate renewed peer=%s", link)
        return CertificateRenewed(certificate_pem=issued.certificate_pem)


class AgentHandler(MachineHandler):
    """The link of an agent."""

    def __init__(self, services: Services, ident: str) -> None:
        super().__init__(services, ident, Role.AGENT)

    async def _note_registered(self, link: Link, message: Register) -> str:
        def work(connection: sqlite3.Connection) -> str:
            now_ms = self._services.clock()
            hosts.note_registered(
                connection,
                self._ident,
                host_name=message.host_name[:_WORD_MAX],
                address=str(link.address),
                agent_version=message.version[:_WORD_MAX],
                operating_system=message.operating_system[:_WORD_MAX],
                capabilities=[word[:_WORD_MAX] for word in message.capabilities[:100]],
                clock_skew_ms=to_ms(message.now) - now_ms,
                now_ms=now_ms,
            )
            return hosts.get(connection, self._ident).name

        return await self._services.catalog.write(work)


class NodeHandler(MachineHandler):
    """The link of a node."""

    def __init__(self, services: Services, ident: str) -> None:
        super().__init__(services, ident, Role.NODE)
        self._since_scan: dict[str, list[str]] = {}
        self._online: frozenset[str] = frozenset()

    async def _note_registered(self, _link: Link, message: Register) -> str:
        def work(connection: sqlite3.Connection) -> str:
            nodes.note_registered(
                connection,
                self._ident,
                data_address=message.data_address,
                version=message.version,
                now_ms=self._services.clock(),
            )
            return nodes.get(connection, self._ident).name

        return await self._services.catalog.write(work)

    async def _other_request(self, message: Any) -> msgspec.Struct:
        match message:
            case StoragesAnnounced():
                await self._take_storages(message.storages)
            case PointsAnnounced():
                await self._take_points(message)
            case _:
                return await super()._other_request(message)
        return Ack()

    async def _take_storages(self, announced: list[StorageAnnounced]) -> None:
        services = self._services

        def work(connection: sqlite3.Connection) -> None:
            for storage in announced:
                storages.note_announced(connection, self._ident, storage, services.clock())

        await services.catalog.write(work)
        for storage in announced:
            services.feed.publish("storage", storage.storage_id)
        online = frozenset(storage.storage_id for storage in announced if storage.is_online)
        services.peers.note_storages(self._ident, online)
        if online - self._online:
            # Now that they are open it can serve what it served before.
            services.background.start_soon(serve_again, services, self._ident)
        self._online = online

    async def _take_points(self, message: PointsAnnounced) -> None:
        services = self._services
        storage = await services.catalog.read(storages.get, message.storage_id)
        if storage.node_id != self._ident:
            raise NotAuthorised(reason=f"storage {message.storage_id} belongs to another node")
        since = self._since_scan.setdefault(message.storage_id, [])

        def work(connection: sqlite3.Connection) -> None:
            points.put(connection, message.storage_id, message.points, message.scan_id)
            if message.is_scan and message.is_last:
                gone = points.end_scan(connection, message.storage_id, message.scan_id, since)
                log.info("storage scanned storage=%s points_gone=%d", message.storage_id, gone)

        await services.catalog.write(work)
        services.director.note_points()
        if message.is_scan and message.is_last:
            since.clear()
        if not message.is_scan:
            since.extend(point.point_id for point in message.points)
        for point in message.points[-1:] if message.is_scan else message.points:
            services.feed.publish("point", point.point_id)


async def serve_again(services: Services, node_id: str) -> None:
    """Have a node that came back serve the exports it has in the catalog. Root of a task."""
    for export in await services.catalog.read(exports.of_node, node_id):
        try:
            await serve(services, export)
        except VdrError as error:
            log.warning("export not served export=%s reason=%s", export.export_id, error.message)
        services.feed.publish("export", export.export_id)


async def note_gone(services: Services, ident: str, role: Role) -> None:
    """Write down that a peer's link ended. Root of a task."""
    try:
        if role is Role.AGENT:
            await services.catalog.write(hosts.note_seen, ident, services.clock())
            services.feed.publish("host", ident)
        else:
            await services.catalog.write(nodes.note_gone, ident, services.clock())
            services.feed.publish("node", ident)
    except VdrError as error:
        log.warning("link end not noted peer=%s reason=%s", ident, error.message)
