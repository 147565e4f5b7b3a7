"""A small world for tests of connections: an authority, machines with credentials, a listener on loopback."""

import logging
import struct
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import trio
import zstandard

from vdrd.model.chunks import ChunkKeys, ChunkKind, EncodedBatch
from vdrd.model.errors import Damaged
from vdrd.model.points import Point, PointDraft
from vdrd.net.address import Address
from vdrd.net.ca import Authority
from vdrd.net.channel import DataChannel
from vdrd.net.credentials import Credentials, self_issue
from vdrd.net.data_server import DataChannelServer
from vdrd.net.dial import dial_detached
from vdrd.net.identity import Expected, Role
from vdrd.net.link import Link, LinkLimits
from vdrd.net.listen import LinkListener, ListenLimits
from vdrd.net.remote import ChannelPool
from vdrd.net.ticket import TicketOffice
from vdrd.net.tls13 import Tls13Profile

LOOPBACK = Address("127.0.0.1", 0)


class Echo(msgspec.Struct, tag="echo", tag_field="t"):
    text: str = ""
    pause_seconds: float = 0.0
    fail: str = ""


class Note(msgspec.Struct, tag="note-text", tag_field="t"):
    text: str = ""


@dataclass
class EchoHandler:
    """Answers Echo with Echo; keeps notes; fails as asked."""

    failure: Exception | None = None
    notes: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    cancelled: list[str] = field(default_factory=list)
    release: trio.Event = field(default_factory=trio.Event)
    waits: threading.Event = field(default_factory=threading.Event)
    family = Echo | Note

    async def request(self, link: Link, message: Echo) -> Echo:
        self.asked.append(message.text)
        if message.fail:
            assert self.failure is not None
            raise self.failure
        if message.text == "wait":
            self.waits.set()
            try:
                await self.release.wait()
            except trio.Cancelled:
                self.cancelled.append(message.text)
                raise
        return Echo(message.text.upper())

    async def notify(self, link: Link, message: Note) -> None:
        self.notes.append(message.text)
        if message.text == "stop":
            await trio.sleep_forever()


@dataclass
class Reception:
    """Admits everybody to the same handler, unless told to refuse."""

    handler: EchoHandler
    refusal: Exception | None = None
    links: list[Link] = field(default_factory=list)
    session_run: Callable[[Link], Awaitable[None]] | None = None

    async def admit(self, peer, hello):
        if self.refusal is not None:
            raise self.refusal
        return self.handler

    async def session(self, link: Link) -> None:
        self.links.append(link)
        if self.session_run is not None:
            await self.session_run(link)


@dataclass
class World:
    directory: Path
    authority: Authority

    def credentials(self, role: Role = Role.SERVER, ident: str = "") -> Credentials:
        ident = ident or str(uuid4())
        return self_issue(self.authority, self.directory / ident, role, ident)

    def profile(self, role: Role = Role.SERVER, ident: str = "") -> Tls13Profile:
        return Tls13Profile(self.credentials(role, ident))

    Echo = Echo
    Note = Note
    EchoHandler = EchoHandler
    Reception = Reception
    expected = Expected(Role.SERVER)
    quick = LinkLimits(heartbeat_seconds=0.05, dead_seconds=0.3)

    @asynccontextmanager
    async def listening(self, profile=None, *, limits=None, link_limits=None, reception=None, **kwargs):
        """(listener, address) of a running listener."""
        listener = LinkListener(
            profile or self.profile(Role.SERVER),
            control=reception or Reception(EchoHandler()),
            limits=limits or ListenLimits(),
            link_limits=link_limits,
            **kwargs,
        )
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(listener.serve, [LOOPBACK])
            yield listener, address
            nursery.cancel_scope.cancel()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path, Authority.create(tmp_path / "ca"))


@pytest.fixture(autouse=True)
def log_level(caplog):
    caplog.set_level(logging.INFO)


class MemoryStore:
    """A ChunkSink and ChunkSource in memory that keeps the contract: wrong chunks are refused."""

    def __init__(self) -> None:
        self.keys = ChunkKeys({kind: bytes([kind]) * 32 for kind in ChunkKind}, b"c" * 32)
        self.compression_level: int | None = 1
        self.chunks: dict[bytes, bytes] = {}
        self.claimed: set[bytes] = set()
        self.committed: list[PointDraft] = []
        self.put_failure: Exception | None = None
        self.ended: list[tuple[object, int]] = []
        self.gate = threading.Event()
        self.gate.set()
        self._lock = threading.Lock()

    @property
    def sink(self):
        return self

    @property
    def source(self):
        return self

    @staticmethod
    def id_of(plain: bytes) -> bytes:
        return sha256(plain).digest()

    def claim(self, ids: bytes) -> bytes:
        wanted = bytearray()
        with self._lock:
            for start in range(0, len(ids), 32):
                one = ids[start : start + 32]
                wanted.append(one not in self.chunks and one not in self.claimed)
                self.claimed.add(one)
        return bytes(wanted)

    def put(self, batch: EncodedBatch) -> None:
        assert self.gate.wait(60)
        if self.put_failure is not None:
            raise self.put_failure
        offset = 0
        records = struct.iter_unpack("<IIBBH", batch.table)
        for number, (plain_bytes, encoded_bytes, codec, _, _) in enumerate(records):
            encoded = bytes(batch.payload[offset : offset + encoded_bytes])
            offset += encoded_bytes
            plain = encoded if codec == 0 else zstandard.decompress(encoded, max_output_size=plain_bytes)
            one = batch.ids[number * 32 : number * 32 + 32]
            if self.id_of(plain) != one:
                raise Damaged(what=f"chunk {one.hex()[:8]}", reason="it does not hash to its id")
            with self._lock:
                self.chunks[one] = plain

    def fetch(self, ids: bytes) -> list[bytes]:
        found = []
        for start in range(0, len(ids), 32):
            one = ids[start : start + 32]
            if one not in self.chunks:
                raise Damaged(what=f"chunk {one.hex()[:8]}", reason="it is missing")
            found.append(self.chunks[one])
        return found

    def commit(self, draft: PointDraft) -> Point:
        assert self.gate.wait(60)
        self.committed.append(draft)
        return Point("ab" * 16, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), draft)

    def channel_ended(self, error, left: int) -> None:
        self.ended.append((error, left))


def batch_of(chunks: list[bytes], *, codec: int = 0) -> EncodedBatch:
    encoded = [zstandard.compress(chunk) if codec else chunk for chunk in chunks]
    return EncodedBatch(
        ids=b"".join(map(MemoryStore.id_of, chunks)),
        table=b"".join(
            struct.pack("<IIBBH", len(chunk), len(short), codec, 1, 0)
            for chunk, short in zip(chunks, encoded, strict=True)
        ),
        payload=b"".join(encoded),
    )


@dataclass
class Plant:
    """A node with data channels, and an agent that dials it."""

    world: World
    store: MemoryStore
    tickets: TicketOffice
    server: DataChannelServer
    address: Address
    agent_ident: str
    agent_profile: Tls13Profile

    batch_of = staticmethod(batch_of)

    def issue(self, count: int = 1, run: str = "run-1", **options) -> list[bytes]:
        return self.tickets.issue(run, self.agent_ident, self.store, count=count, **options)

    async def channel(self, profile=None) -> DataChannel:
        connection = await dial_detached(
            self.address, profile or self.agent_profile, expected=Expected(Role.NODE)
        )
        return DataChannel(connection, is_agent=True)

    async def pool(self, count: int = 1) -> ChannelPool:
        channels = [await self.channel() for _ in range(count)]
        return await trio.to_thread.run_sync(ChannelPool.open, channels, self.issue(count))


@pytest.fixture
async def plant(world):
    tickets = TicketOffice()
    server = DataChannelServer(tickets, working_seconds=0.05)
    ident = str(uuid4())
    try:
        async with world.listening(world.profile(Role.NODE), data=server) as (_, address):
            yield Plant(
                world, MemoryStore(), tickets, server, address, ident, world.profile(Role.AGENT, ident)
            )
    finally:
        await trio.to_thread.run_sync(server.close)
