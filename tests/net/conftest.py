"""A small world for tests of connections: an authority, machines with credentials, a listener on loopback."""

import logging
import threading
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import msgspec
import pytest
import trio

from vdrd.net.address import Address
from vdrd.net.ca import Authority
from vdrd.net.credentials import Credentials, self_issue
from vdrd.net.identity import Expected, Role
from vdrd.net.link import Link, LinkLimits
from vdrd.net.listen import LinkListener, ListenLimits
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
