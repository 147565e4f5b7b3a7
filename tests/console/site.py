"""The console over the fake server on a real HTTPS port, in a thread; for browsers."""

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypercorn.asyncio import serve
from hypercorn.config import Config

from console.app import create_app
from console.context import Parts
from console.sessions import SessionStore
from tests.console.fake_server import FakeServer, populate
from vdrd.net.ca import Authority, fingerprint_of_pem, new_key, new_request, pem_of_key


class Site:
    """Where it is, what is behind it, and how to change that from the test's thread."""

    def __init__(
        self, address: str, directory: Path, server: FakeServer, loop: asyncio.AbstractEventLoop
    ) -> None:
        self.address = address
        self.authority = directory / "authority" / "authority.pem"
        self.server = server
        self._loop = loop

    def do(self, work: Callable[[], Any]) -> Any:
        """Run `work` in the console's loop."""

        async def now() -> Any:
            return work()

        return asyncio.run_coroutine_threadsafe(now(), self._loop).result(10)

    def later(self, seconds: float, work: Callable[[], Any]) -> None:
        """Run `work` in the console's loop after a while."""
        self._loop.call_soon_threadsafe(lambda: self._loop.call_later(seconds, work))

    @property
    def fingerprint(self) -> str:
        """Of the authority."""
        return fingerprint_of_pem(self.authority.read_text()).hex(":")


@contextmanager
def open_site(directory: Path) -> Iterator[Site]:
    authority = Authority.create(directory / "authority")
    key = new_key()
    chain = authority.issue_web(new_request(key), ["localhost", "127.0.0.1"]) + authority.certificate_pem
    web = directory / "web.pem"
    web.write_bytes(pem_of_key(key) + chain.encode())
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    port = listener.getsockname()[1]
    # Hypercorn owns the descriptor from here on.
    descriptor = listener.detach()
    ready = threading.Event()
    made: list[Any] = []

    async def main() -> None:
        stop = asyncio.Event()
        server = FakeServer()
        populate(server)
        config = Config()
        config.bind = [f"fd://{descriptor}"]
        config.certfile = config.keyfile = str(web)
        config.accesslog = None
        config.errorlog = None
        config.graceful_timeout = 0.5
        async with SessionStore(
            directory / "console.sqlite", idle_seconds=3600, longest_seconds=86400
        ) as store:
            app = create_app(Parts(server, store, is_stopping=stop.is_set))
            made.extend((server, asyncio.get_running_loop(), stop))
            ready.set()
            await serve(app, config, shutdown_trigger=stop.wait)

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    assert ready.wait(60)
    server, loop, stop = made
    try:
        yield Site(f"https://localhost:{port}", directory, server, loop)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        assert not thread.is_alive()
