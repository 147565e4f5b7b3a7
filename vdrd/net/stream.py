"""A TLS connection for Trio: the engine of a profile over a socket. Knows bytes only.

One task may receive while another sends; `send_all` of several tasks must not overlap (the link has one
writer).
"""

import socket
from contextlib import suppress

import trio

from vdrd.model.errors import Unreachable
from vdrd.net.identity import PeerIdentity
from vdrd.net.tls import RECORD_BATCH_BYTES, TlsEngine

_READ_BYTES = 64 << 10
_LINGER_SECONDS = 1.0
_LINGER_BYTES = 256 << 10
_GONE = (trio.BrokenResourceError, trio.ClosedResourceError)


class TlsStream:
    """Owns the transport: closing the stream closes it."""

    def __init__(self, transport: trio.SocketStream, engine: TlsEngine, peer_name: str) -> None:
        self.peer_name = peer_name
        self._transport = transport
        self._engine = engine
        self._plain = bytearray(_READ_BYTES)
        self._sending = trio.Lock()
        self._is_detached = False

    async def handshake(self) -> PeerIdentity | None:
        """Prove both sides; returns who the peer is. The deadline is the caller's."""
        done = False
        while not done:
            try:
                done = self._engine.handshake()
            finally:
                # Also an alert: it tells the peer why.
                await self._flush()
            if not done:
                self._engine.feed(await self._receive_raw())
        return self._engine.peer

    @property
    def peer_certificate(self) -> bytes | None:
        """DER, verified or not as the engine was made."""
        return self._engine.peer_certificate

    async def send_all(self, data: bytes) -> None:
        """Encrypt and send. Cancelled in the middle, the stream is unusable."""
        view = memoryview(data)
        for start in range(0, len(view), RECORD_BATCH_BYTES):
            self._engine.write(view[start : start + RECORD_BATCH_BYTES])
            await self._flush()

    async def receive_some(self) -> bytes:
        """Decrypted bytes, empty when the peer closed in order. Raises Unreachable when cut."""
        while True:
            got = self._engine.read_into(self._plain)
            # Reading can cause writing (key update, alert). A sender under way takes it along; waiting for it
            # would stop both ends when both send more than the sockets hold.
            if not self._sending.locked():
                await self._flush()
            if got > 0:
                return bytes(memoryview(self._plain)[:got])
            if got < 0:
                return b""
            self._engine.feed(await self._receive_raw())

    async def aclose(self) -> None:
        """Close in order as far as that needs no waiting, then close the socket."""
        if self._is_detached:
            return
        self._engine.close()
        farewell = self._engine.take_outgoing()
        if farewell and not self._sending.locked():
            with trio.move_on_after(1, shield=True), suppress(*_GONE):
                await self._transport.send_all(farewell)
        self.abandon()

    def abandon(self) -> None:
        """Close the socket at once; nothing when it was closed or detached before."""
        if not self._is_detached:
            self._transport.socket.close()

    async def linger(self) -> None:
        """Let the peer read our last words, then close: what it still sends is thrown away, up to a limit.

        Closing with unread bytes in the socket would reset the connection and take the words with it.
        """
        with trio.move_on_after(_LINGER_SECONDS), suppress(OSError, *_GONE):
            await self._transport.send_eof()
            left = _LINGER_BYTES
            while left > 0 and (data := await self._transport.receive_some(_READ_BYTES)):
                left -= len(data)
        self.abandon()

    def detach(self) -> tuple[socket.socket, TlsEngine]:
        """Give up the connection to blocking code: a socket in blocking mode, and the engine.

        Nothing is lost: what was received and not read yet is in the engine.
        """
        self._is_detached = True
        plain = socket.socket(fileno=self._transport.socket.detach())
        plain.setblocking(True)
        return plain, self._engine

    async def _flush(self) -> None:
        async with self._sending:
            outgoing = self._engine.take_outgoing()
            if outgoing:
                try:
                    await self._transport.send_all(outgoing)
                except _GONE as error:
                    raise Unreachable(peer=self.peer_name, reason="the connection was cut") from error

    async def _receive_raw(self) -> bytes:
        try:
            return bytes(await self._transport.receive_some(RECORD_BATCH_BYTES))
        except _GONE as error:
            raise Unreachable(peer=self.peer_name, reason="the connection was cut") from error
