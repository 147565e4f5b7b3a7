"""An agent with server and node around it: real links, data channels and storage; the server is played."""

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import pytest
import trio

from agent.config import AgentConfig
from agent.daemon import serve
from agent.enrolment import enrol_with_token
from agent.state import AgentState
from schemas.api.words import RunKind
from schemas.control import (
    Ack,
    BackupItem,
    CertificateRenew,
    CertificateRenewed,
    FromMachine,
    Register,
    Registered,
    RestoreItem,
    RunEnded,
    RunSpec,
    RunStart,
    StoragePlace,
)
from vdrd.jobs import backup, restore
from vdrd.model.progress import Cancel
from vdrd.model.storage import Encryption
from vdrd.net.address import Address
from vdrd.net.ca import Authority, now_utc
from vdrd.net.credentials import self_issue
from vdrd.net.data_server import DataChannelServer
from vdrd.net.dial import dial_detached
from vdrd.net.enrol import EnrolDesk
from vdrd.net.identity import Expected, Role
from vdrd.net.link import Link
from vdrd.net.listen import LinkListener
from vdrd.net.ticket import TicketOffice
from vdrd.net.tls13 import Tls13Profile
from vdrd.net.token import TokenBook
from vdrd.store.storage import Storage

LOOPBACK = Address("127.0.0.1", 0)


@dataclass
class Headquarters:
    """Server and node of one agent."""

    directory: Path
    authority: Authority
    storage: Storage
    nursery: trio.Nursery
    family = FromMachine
    links: list[Link] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    progressed: list = field(default_factory=list)
    ended: dict = field(default_factory=dict)
    ends_refused: bool = False
    unanswered: int = 0
    changed: trio.Event = field(default_factory=trio.Event)

    async def start(self) -> None:
        self.server_profile = self.profile(Role.SERVER)
        self.book = TokenBook(self.directory / "tokens.json")
        self.desk = EnrolDesk(self.authority, self.book, ())
        self.listener = LinkListener(self.server_profile, control=self, enrol=self.desk)
        (self.address,) = await self.nursery.start(self.listener.serve, [LOOPBACK])
        self.desk.servers = (self.address,)
        self.tickets = TicketOffice()
        self.node_profile = self.profile(Role.NODE)
        self.channels = DataChannelServer(self.tickets)
        (self.data_address,) = await self.nursery.start(
            LinkListener(self.node_profile, data=self.channels).serve, [LOOPBACK]
        )

    def profile(self, role: Role) -> Tls13Profile:
        return Tls13Profile(self_issue(self.authority, self.directory / str(uuid4()), role, str(uuid4())))

    # The server's part

    async def admit(self, _peer, _hello):
        return self

    async def session(self, _link: Link) -> None:
        return

    async def request(self, link: Link, message):
        match message:
            case Register():
                self.registers.append(message)
                self.links.append(link)
                self._note()
                return Registered(server_id="s", name="host", now=now_utc())
            case RunEnded() if not self.ends_refused:
                self.ended[message.run_id, message.attempt] = message
                self._note()
                return Ack()
            case CertificateRenew():
                issued = self.authority.renew(message.request_pem, link.peer)
                return CertificateRenewed(certificate_pem=issued.certificate_pem)
            case _:
                self.unanswered += 1
                self._note()
                return await trio.sleep_forever()

    async def notify(self, _link: Link, message) -> None:
        self.progressed.append(message)
        self._note()

    def _note(self) -> None:
        self.changed.set()
        self.changed = trio.Event()

    async def until(self, condition, seconds: float = 20):
        """Wait until `condition` gives something true, and give that."""
        with trio.fail_after(seconds):
            while not (found := condition()):
                await self.changed.wait()
        return found

    @property
    def link(self) -> Link:
        return self.links[-1]

    # Runs

    async def begin(self, spec: RunSpec, *, passive: bool = False, link: Link | None = None) -> RunStart:
        """What server and node do to start a run."""
        parents, root = [], None
        if spec.restore is None:
            parents = [backup.parent_record(point) for point in backup.plan(spec, self.storage.point)]
            self.service = backup.BackupService(self.storage, spec, lambda point: None)
        else:
            offered = restore.offer(spec, self.storage, Cancel())
            root, self.service = offered.root, offered.service
        tickets = self.tickets.issue(
            spec.run_id, self.link.peer.ident, self.service, count=spec.channel_count, seconds=60
        )
        start = RunStart(
            spec=spec,
            tickets=tickets,
            data_address="" if passive else str(self.data_address),
            certificate_fingerprint=self.node_profile.credentials.identity().fingerprint,
            parents=parents,
            restore_root=root,
            storage_place=StoragePlace(path=str(self.storage.path), mark=self.storage.info.storage_id),
        )
        assert await (link or self.link).request(start, Ack)
        return start

    async def dial_channels(self, address: Address, run_id: str, count: int, profile=None) -> None:
        for _ in range(count):
            connection = await dial_detached(
                address, profile or self.node_profile, expected=Expected(Role.AGENT), run=run_id
            )
            self.channels.adopt(connection)

    async def end_of(self, spec: RunSpec) -> RunEnded:
        return await self.until(lambda: self.ended.get((spec.run_id, spec.attempt)))

    def files_spec(self, path: Path, **changes) -> RunSpec:
        return RunSpec(
            run_id=str(uuid4()),
            attempt=1,
            kind=RunKind.BACKUP_FILES,
            storage_id="s",
            items=[BackupItem(object_name=f"host:{path}", path=str(path))],
            **changes,
        )

    def restore_spec(self, kind: RunKind, point_id: str, target: Path) -> RunSpec:
        return RunSpec(
            run_id=str(uuid4()),
            attempt=1,
            kind=kind,
            storage_id="s",
            restore=RestoreItem(point_id=point_id, target_path=str(target)),
        )

    # The agent

    async def enrol(self, mode: str = "active") -> AgentState:
        token, _ = self.desk.give_token()
        state = AgentState(self.directory / "agent")
        await trio.to_thread.run_sync(lambda: enrol_with_token(state, token.text(), mode=mode))
        return state

    @contextlib.asynccontextmanager
    async def running_agent(self, **settings):
        """A running agent; stopped in order at the end of the block."""
        config = AgentConfig(state_directory=self.directory / "agent", **settings)
        stop = trio.Event()
        async with trio.open_nursery() as nursery:

            async def start(task_status=trio.TASK_STATUS_IGNORED):
                await serve(config, stop_asked=stop.wait, task_status=task_status)

            agent = await nursery.start(start)
            agent.stop_now = stop.set
            if agent.mode == "active":
                seen = len(self.registers)
                await self.until(lambda: len(self.registers) > seen or self.registers)
            try:
                yield agent
            finally:
                stop.set()


@pytest.fixture
async def headquarters(tmp_path, nursery):
    authority = Authority.create(tmp_path / "ca")
    await trio.to_thread.run_sync(
        lambda: Storage.create(tmp_path / "storage", encryption=Encryption.NONE, compression=1)
    )
    storage = Storage.open(tmp_path / "storage", writable=True)
    place = Headquarters(tmp_path, authority, storage, nursery)
    await place.start()
    yield place
    await trio.to_thread.run_sync(place.channels.close)
    storage.close()
