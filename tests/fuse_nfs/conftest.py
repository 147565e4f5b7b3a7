"""A running export server for tests: own thread, own Trio loop, ports of the system's choice."""

import random
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import trio

from fuse_nfs.export import Export
from fuse_nfs.listen import ListenAddress
from fuse_nfs.server import ExportServer, serve_exports
from native.nfs import NfsSettings
from tests.fuse_nfs.rpc import Client
from vdrd.disk.image import ImageDisk

MIB = 1 << 20


class RunningServer:
    """`serve_exports` in a thread, to be talked to over sockets like any other server."""

    def __init__(self, settings: NfsSettings | None, space_path: Path | None) -> None:
        self._settings = settings
        self._space_path = space_path
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self.exports: ExportServer
        self._token: trio.lowlevel.TrioToken

    async def _serve(self) -> None:
        serving = serve_exports(
            ListenAddress("127.0.0.1", 0, 0, 0), settings=self._settings, space_path=self._space_path
        )
        async with serving as self.exports:
            self._token = trio.lowlevel.current_trio_token()
            self._stop = trio.Event()
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> "RunningServer":
        self._thread.start()
        assert self._ready.wait(60)
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if not self._thread.is_alive():
            return
        trio.from_thread.run_sync(self._stop.set, trio_token=self._token)
        self._thread.join(60)
        assert not self._thread.is_alive()

    def add(self, export: Export) -> str:
        return trio.from_thread.run_sync(self.exports.add, export, trio_token=self._token)

    def remove(self, name: str) -> None:
        remove: Callable[[str], Awaitable[None]] = self.exports.remove
        trio.from_thread.run(remove, name, trio_token=self._token)

    def sweep(self, seconds: float) -> None:
        """Enforce the time limits as if so much time had gone by."""
        now_ns = time.monotonic_ns() + int(seconds * 1e9)
        trio.from_thread.run_sync(self.exports.enforce_limits_at, now_ns, trio_token=self._token)

    def log_events(self) -> None:
        """Log what the service threads have told until now."""
        trio.from_thread.run_sync(self.exports.log_events, trio_token=self._token)

    def client(self, program: str = "nfs") -> Client:
        port = {"nfs": self.exports.nfs_port, "mount": self.exports.mount_port}.get(program)
        return Client("127.0.0.1", port or self.exports.portmap_port or 0)

    def url(self, path: str) -> str:
        """For libnfs, which can be told the ports."""
        return f"nfs://127.0.0.1{path}?nfsport={self.exports.nfs_port}&mountport={self.exports.mount_port}"


@pytest.fixture
def start_server() -> Iterator[Callable[..., RunningServer]]:
    """`start_server(settings=None, space_path=None)`: a server until the test ends."""
    with ExitStack() as stack:

        def start(settings: NfsSettings | None = None, space_path: Path | None = None) -> RunningServer:
            return stack.enter_context(RunningServer(settings, space_path))

        yield start


@pytest.fixture
def server(start_server: Callable[..., RunningServer]) -> RunningServer:
    return start_server()


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """4 MiB + 1000 bytes: noise, then zeros."""
    path = tmp_path / "image.raw"
    path.write_bytes(random.Random(4).randbytes(3 * MIB) + bytes(MIB + 1000))
    return path


@pytest.fixture
def disk(image: Path) -> Iterator[ImageDisk]:
    with ImageDisk.open(image, writable=True) as opened:
        yield opened


@pytest.fixture
def writable(server: RunningServer, disk: ImageDisk) -> RunningServer:
    """A server that exports `disk` as /point, writable."""
    server.add(Export("point", disk, is_writable=True, modified_ns=1_700_000_000_123_456_789))
    return server
