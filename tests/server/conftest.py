import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio

from schemas import api
from vdrd.net.address import Address
from vdrd.net.credentials import Credentials
from vdrd.net.dial import dial
from vdrd.net.identity import Expected, Role
from vdrd.net.link import DeafHandler, Link
from vdrd.net.tls13 import Tls13Profile
from vdrd.server.config import ServerConfig
from vdrd.server.daemon import serve
from vdrd.server.setup import Foundation, admit_console, lay


@dataclass
class FakeWallClock:
    """Milliseconds; real time unless a test adds to it."""

    added_ms: int = 0

    def __call__(self) -> int:
        import time

        return time.time_ns() // 1_000_000 + self.added_ms


@dataclass
class Client:
    """A console's link, with a session after `login`."""

    link: Link
    foundation: Foundation
    address: Address
    state: Path
    clock: FakeWallClock
    token: str = ""
    config: ServerConfig = field(default_factory=ServerConfig)

    @property
    def password(self) -> str:
        assert self.foundation.new_password is not None
        return self.foundation.new_password.reveal()

    async def ask(self, name: str, request: api.Message, token: str | None = None, **options: Any) -> Any:
        call = api.Call(
            name=name,
            arguments=msgspec.Raw(msgspec.msgpack.encode(request)),
            session_token=self.token if token is None else token,
            address=options.get("address", "192.0.2.1"),
        )
        reply = await self.link.request(call, api.CallReply)
        return msgspec.msgpack.decode(reply.result, type=api.CALLS[name].response)

    async def login(self, user: str = "admin", password: str | None = None, **options: Any) -> str:
        request = api.Login(user_name=user, password=password or self.password)
        reply = await self.ask("session.login", request, token="", **options)
        self.token = reply.session_token
        return str(self.token)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def fast_hashing() -> Iterator[None]:
    """argon2 with little work: what is tested is not its strength."""
    from vdrd.server import passwords

    patcher = pytest.MonkeyPatch()
    original = passwords.argon2.PasswordHasher
    patcher.setattr(
        passwords.argon2, "PasswordHasher", lambda: original(time_cost=1, memory_cost=8, parallelism=1)
    )
    yield
    patcher.undo()


@pytest.fixture
def wall_clock() -> FakeWallClock:
    return FakeWallClock()


@pytest.fixture
async def client(
    tmp_path: Path, fast_hashing: None, wall_clock: FakeWallClock, nursery: trio.Nursery
) -> AsyncIterator[Client]:
    state = tmp_path / "server"
    config = ServerConfig(state_directory=state, listen=(f"127.0.0.1:{free_port()}",), address_failures_max=8)
    foundation = lay(state, wall_clock)
    admit_console(foundation, tmp_path / "console", "localhost", wall_clock())
    ready = trio.Event()

    async def note_ready(_addresses: tuple[Address, ...]) -> None:
        ready.set()

    async def run() -> None:
        await serve(foundation, config, clock=wall_clock, on_ready=note_ready)

    nursery.start_soon(run)
    await ready.wait()
    address = Address.parse(config.listen[0])
    profile = Tls13Profile(Credentials(tmp_path / "console"))
    async with dial(address, profile, expected=Expected(Role.SERVER), handler=DeafHandler()) as link:
        yield Client(link, foundation, address, state, wall_clock, config=config)
