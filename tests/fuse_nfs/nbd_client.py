"""A running NBD server for tests, and a client that sends what it likes."""

import socket
import struct
import threading
import time
from collections.abc import Awaitable, Callable

import trio

from fuse_nfs.export import Export
from fuse_nfs.nbd import NbdAddress, NbdExports, serve_nbd
from native.nbd import NbdSettings, TlsFiles

OPTION_MAGIC = 0x49484156454F5054
REQUEST = struct.Struct(">IHHQQI")
READ, WRITE, DISC, FLUSH, TRIM, CACHE, WRITE_ZEROES, BLOCK_STATUS = range(8)


class RunningNbd:
    """`serve_nbd` in a thread, to be talked to over sockets like any other server."""

    def __init__(
        self,
        settings: NbdSettings | None = None,
        tls: TlsFiles | None = None,
        *,
        is_plain_allowed: bool = False,
    ) -> None:
        self._settings = settings
        self._address = NbdAddress("127.0.0.1", 0, tls, is_plain_allowed)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=trio.run, args=(self._serve,))
        self.exports: NbdExports
        self._token: trio.lowlevel.TrioToken

    async def _serve(self) -> None:
        async with serve_nbd(self._address, settings=self._settings) as self.exports:
            self._token = trio.lowlevel.current_trio_token()
            self._stop = trio.Event()
            self._ready.set()
            await self._stop.wait()

    def __enter__(self) -> "RunningNbd":
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
        self.exports.enforce_limits_at(time.monotonic_ns() + int(seconds * 1e9))

    def client(self, name: str = "") -> "NbdClient":
        return NbdClient(self.exports.port, name)


class NbdClient:
    """A connection with simple replies."""

    def __init__(self, port: int, name: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.file = self.socket.makefile("rb")
        assert self.file.read(18) == b"NBDMAGICIHAVEOPT\0\x03"
        self.socket.sendall(struct.pack(">I", 3))
        self.socket.sendall(struct.pack(">QII", OPTION_MAGIC, 1, len(name)) + name.encode())
        self.size_bytes, self.flags = struct.unpack(">QH", self.file.read(10))

    def send(
        self,
        command: int,
        offset: int,
        length: int,
        *,
        flags: int = 0,
        cookie: int = 1,
        payload: bytes = b"",
    ) -> None:
        self.socket.sendall(REQUEST.pack(0x25609513, flags, command, cookie, offset, length) + payload)

    def receive(self, data_bytes: int = 0) -> tuple[int, int, bytes]:
        """Error, cookie, data."""
        magic, error, cookie = struct.unpack(">IIQ", self.file.read(16))
        assert magic == 0x67446698
        return error, cookie, self.file.read(data_bytes) if not error else b""

    def ask(self, command: int, offset: int = 0, length: int = 0, **more: object) -> tuple[int, bytes]:
        """Error and data of one request."""
        self.send(command, offset, length, **more)  # type: ignore[arg-type]
        error, _, data = self.receive(length if command == READ else 0)
        return error, data

    def close(self) -> None:
        self.file.close()
        self.socket.close()
