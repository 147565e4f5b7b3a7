"""The node as a whole: puts the parts together, keeps its link to the server, stops in order."""

import logging
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import trio

from schemas.control import (
    Ack,
    CertificateRenew,
    CertificateRenewed,
    PointsAnnounced,
    Register,
    Registered,
    RunEnded,
    RunProgressed,
    StoragesAnnounced,
)
from vdrd import __version__
from vdrd.model.errors import VdrError
from vdrd.model.points import Point
from vdrd.net import ca
from vdrd.net.address import NODE_PORT, SERVER_PORT, Address
from vdrd.net.credentials import Credentials
from vdrd.net.data_server import ChannelService, DataChannelServer
from vdrd.net.dial import keep_dialed
from vdrd.net.enrol import Renewal
from vdrd.net.identity import Expected, Role
from vdrd.net.link import Link
from vdrd.net.listen import LinkListener
from vdrd.net.ticket import TicketOffice
from vdrd.net.tls13 import Tls13Profile
from vdrd.node.config import NodeConfig
from vdrd.node.exports import NodeExports
from vdrd.node.handler import NodeHandler
from vdrd.node.looks import PointLooks
from vdrd.node.pages import pages_of
from vdrd.node.runs import NodeRuns
from vdrd.node.sampling import Sampling
from vdrd.node.storages import StorageKeeper, record_of
from vdrd.node.upkeep import Upkeep

log = logging.getLogger(__name__)
SOFTWARE = f"vdr-node {__version__}"

ANNOUNCE_SECONDS = 10.0
"""How long a commit waits for the server to hear of its point before the agent hears of it. Without a link it
does not
wait: the next registration announces every point."""
_STORAGES_SECONDS = 60.0
_RENEWAL_LOOK_SECONDS = 3600.0
_IDLE_LOOK_SECONDS = 15.0


class Node:
    """A running node. Made by `serve`."""

    def __init__(self, config: NodeConfig, nursery: trio.Nursery) -> None:
        self._config = config
        self._nursery = nursery
        self._token = trio.lowlevel.current_trio_token()
        self._link: Link | None = None
        self.credentials = Credentials(config.state_directory / "identity")
        self.profile = Tls13Profile(self.credentials)
        self.keeper = StorageKeeper(config.state_directory / "keys")
        self.tickets: TicketOffice[ChannelService] = TicketOffice()
        self.channels = DataChannelServer(self.tickets, channels_max=config.channels_max)
        self.listener = LinkListener(self.profile, data=self.channels, software=SOFTWARE)
        self.exports = NodeExports(config, nursery)
        self.runs = NodeRuns(
            self.keeper,
            self.channels,
            self.profile,
            nursery,
            on_point=self._point_made,
            on_progress=self._progressed,
            on_ended=lambda ended: nursery.start_soon(self._deliver, ended),
        )
        self.looks = PointLooks()
        self.upkeep = Upkeep(self.keeper, config)
        samples = config.state_directory / "samples.json"
        self.sampling = Sampling(self.keeper, samples, config.verify_sample_percent)
        self.handler = NodeHandler(
            self.keeper,
            self.runs,
            self.exports,
            self.looks,
            self.upkeep,
            sampling=self.sampling,
            announce=lambda storage_id: nursery.start_soon(self._scan_again, storage_id),
            revoke=self._revoke,
        )

    # ---- towards the server --------------------------------------------------------------------------------

    async def session(self, link: Link) -> None:
        """Register, open what the server says, announce it; then stay."""
        registered: Registered = await link.request(
            Register(
                host_name=socket.gethostname(),
                version=__version__,
                operating_system=_operating_system(),
                capabilities=["nfs"],
                now=datetime.now(UTC),
                held_runs=self.runs.held(),
                data_address=self.runs.data_address,
                certificate_fingerprint=self.runs.fingerprint,
            ),
            Registered,
        )
        self._link = link
        try:
            log.info("registered server=%s name=%s", registered.server_id, registered.name)
            for run_id in registered.drop_runs:
                await self.runs.release(run_id)
            await trio.to_thread.run_sync(self.keeper.assign, registered.storages)
            await self._announce_storages(link)
            for ended in self.runs.undelivered():
                await self._deliver(ended)
            for storage_id in self.keeper.open_ids():
                await self._scan(link, storage_id)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._keep_announcing, link)
                nursery.start_soon(self._keep_certificate, link)
        finally:
            self._link = None

    async def _announce_storages(self, link: Link) -> None:
        announced = await trio.to_thread.run_sync(self.keeper.announcements)
        await link.request(StoragesAnnounced(storages=announced), Ack)

    async def _keep_announcing(self, link: Link) -> None:
        while True:
            await trio.sleep(_STORAGES_SECONDS)
            opened = await trio.to_thread.run_sync(self.keeper.open_missing)
            await self._announce_storages(link)
            for storage_id in opened:
                await self._scan(link, storage_id)

    async def _scan(self, link: Link, storage_id: str) -> None:
        """Announce every point of a storage, so that the catalog can be made anew from it."""
        records = await trio.to_thread.run_sync(self.keeper.records, storage_id)
        scan_id = str(uuid4())
        pages = pages_of(records)
        for number, page in enumerate(pages, start=1):
            message = PointsAnnounced(
                storage_id=storage_id,
                points=page,
                scan_id=scan_id,
                is_scan=True,
                is_last=number == len(pages),
            )
            await link.request(message, Ack)

    async def _scan_again(self, storage_id: str) -> None:
        """Root of a task."""
        link = self._link
        if link is None:
            return
        try:
            await self._scan(link, storage_id)
        except VdrError as error:
            log.warning("scan not announced storage=%s reason=%s", storage_id, error)

    async def _keep_certificate(self, link: Link) -> None:
        while True:
            certificate = await trio.to_thread.run_sync(self.credentials.certificate)
            if ca.is_renewal_due(
                certificate.not_valid_before_utc, certificate.not_valid_after_utc, datetime.now(UTC)
            ):
                renewal = await trio.to_thread.run_sync(Renewal.begin)
                answer: CertificateRenewed = await link.request(
                    CertificateRenew(request_pem=renewal.request_pem), CertificateRenewed
                )
                await trio.to_thread.run_sync(renewal.finish, self.credentials, answer.certificate_pem)
                self.profile.reload()
                self.runs.fingerprint = self.credentials.identity().fingerprint
                log.info("own certificate renewed")
            await trio.sleep(_RENEWAL_LOOK_SECONDS)

    async def _deliver(self, ended: RunEnded) -> None:
        """Report the end of a run; without a link the next registration does. Root of a task."""
        link = self._link
        if link is None:
            return
        try:
            await link.request(ended, Ack)
        except VdrError as error:
            log.warning("run end not delivered run=%s reason=%s", ended.run_id, error)

    def _progressed(self, message: RunProgressed) -> None:
        if self._link is not None:
            self._nursery.start_soon(self._notify, self._link, message)

    async def _notify(self, link: Link, message: RunProgressed) -> None:
        try:
            await link.notify(message)
        except VdrError:
            # Progress that is lost does no harm.
            return

    def _point_made(self, storage_id: str, point: Point) -> None:
        """Called in a data channel's thread after a commit: tell the server before the agent hears of it."""
        message = PointsAnnounced(storage_id=storage_id, points=[record_of(point)])
        try:
            trio.from_thread.run(self._announce_point, message, trio_token=self._token)
        except (trio.RunFinishedError, trio.Cancelled):
            # The node is stopping: its next start announces every point.
            return

    async def _announce_point(self, message: PointsAnnounced) -> None:
        link = self._link
        if link is None:
            return
        try:
            await link.request(message, Ack, deadline_seconds=ANNOUNCE_SECONDS)
            await self._announce_storages(link)
        except VdrError as error:
            log.warning("point not announced storage=%s reason=%s", message.storage_id, error)

    def _revoke(self, revoked_pem: str) -> None:
        self.credentials.store_revocations(revoked_pem)
        self.profile.reload()

    async def close_idle_looks(self) -> None:
        """Close points that nobody looks into any more, until cancelled."""
        while True:
            await trio.sleep(_IDLE_LOOK_SECONDS)
            await trio.to_thread.run_sync(self.looks.close_idle)

    # ---- the end -------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End channels, then close the storages. Blocking."""
        self.channels.close()
        self.looks.close()
        self.keeper.close()


def _operating_system() -> str:
    try:
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.partition("=")[2].strip('"')
    except OSError:
        pass
    return "Linux"


async def serve(
    config: NodeConfig, *, on_ready: Callable[[tuple[Address, ...]], Awaitable[None]] | None = None
) -> None:
    """Run a node until cancelled. `on_ready` gets the addresses of its data channels."""
    node: Node | None = None
    try:
        async with trio.open_nursery() as nursery:
            node = Node(config, nursery)
            addresses = [Address.parse(text, NODE_PORT) for text in config.listen]
            real = await nursery.start(node.listener.serve, addresses)
            nursery.start_soon(node.upkeep.run)
            nursery.start_soon(node.sampling.run)
            announced = Address.parse(config.announce, NODE_PORT) if config.announce else real[0]
            node.runs.data_address = str(announced)
            node.runs.fingerprint = node.credentials.identity().fingerprint
            nursery.start_soon(node.close_idle_looks)
            log.info("node started version=%s data_address=%s", __version__, announced)
            if on_ready is not None:
                await on_ready(real)
            await keep_dialed(
                [Address.parse(config.server, SERVER_PORT)],
                node.profile,
                node.session,
                expected=Expected(Role.SERVER),
                handler=node.handler,
                software=SOFTWARE,
            )
    finally:
        if node is not None:
            with trio.CancelScope(shield=True):
                await node.exports.close()
                await trio.to_thread.run_sync(node.close)
        log.info("node stopped")
