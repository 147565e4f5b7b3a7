"""Byte streams for threads: TLS over a blocking socket, and sealed records after it. Knows bytes only.

One thread at a time uses a stream; `shut` alone may be called from any other, to wake it.
"""

import socket
from contextlib import suppress
from typing import Protocol

from vdrd.model.errors import ProtocolViolation, Unreachable
from vdrd.net.dial import Detached
from vdrd.net.socket_options import tune_for_bulk
from vdrd.net.tls import RECORD_BATCH_BYTES, TlsEngine
from vdrd.protocol.seal import HEADER, RECORD_BYTES_MAX, ChannelSeal, record_bytes

Part = bytes | memoryview


class ByteStream(Protocol):
    """What a data channel is built on."""

    def send(self, *parts: Part) -> None:
        """Send all parts, one after the other. Raises Unreachable."""
        ...

    def receive_exactly(self, target: memoryview) -> None:
        """Fill `target`.

        Raises Unreachable when the stream ends, ProtocolViolation when it was tampered with.
        """
        ...


class BlockingSocket:
    """A connected socket with errors of our tree. Closing twice does nothing."""

    def __init__(self, connection: socket.socket, peer_name: str) -> None:
        self.peer_name = peer_name
        self._socket = connection

    def set_patience(self, seconds: float | None) -> None:
        """How long one operation may take without any byte moving; None = as long as the kernel finds the
        peer
        alive."""
        self._socket.settimeout(seconds)

    def send(self, data: Part) -> None:
        """Send all. Raises Unreachable."""
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise self._translated(error) from error

    def receive_into(self, target: memoryview | bytearray, *, flags: int = 0) -> int:
        """Some bytes, at least one. Raises Unreachable, also at the end of the stream."""
        try:
            count = self._socket.recv_into(target, 0, flags)
        except OSError as error:
            raise self._translated(error) from error
        if count == 0:
            raise Unreachable(peer=self.peer_name, reason="the connection was cut")
        return count

    def receive_exactly(self, target: memoryview) -> None:
        """Fill `target`. Raises Unreachable."""
        done = 0
        while done < len(target):
            # All in one call where the socket has no deadline: each call gives the interpreter away and back.
            done += self.receive_into(target[done:], flags=socket.MSG_WAITALL)

    def shut(self) -> None:
        """Wake whoever waits on the socket; nothing can be sent or received after it.

        Safe from any thread.
        """
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the descriptor back; only when no thread uses the socket any more."""
        self._socket.close()

    def _translated(self, error: OSError) -> Unreachable:
        if isinstance(error, TimeoutError):
            return Unreachable(peer=self.peer_name, reason="no byte moved for too long")
        return Unreachable(peer=self.peer_name, reason=(error.strerror or str(error)).lower())


class TlsBytes:
    """A greeted TLS connection as a ByteStream."""

    def __init__(self, connection: BlockingSocket, engine: TlsEngine) -> None:
        self._socket = connection
        self._engine = engine
        self._raw = memoryview(bytearray(RECORD_BATCH_BYTES))

    def send(self, *parts: Part) -> None:
        """As ByteStream."""
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), RECORD_BATCH_BYTES):
                self._engine.write(view[start : start + RECORD_BATCH_BYTES])
                self._socket.send(self._engine.take_outgoing())

    def receive_exactly(self, target: memoryview) -> None:
        """As ByteStream."""
        done = 0
        while done < len(target):
            got = self._engine.read_into(target[done:])
            if got < 0:
                raise Unreachable(peer=self._socket.peer_name, reason="the peer closed the connection")
            if got == 0:
                self._engine.feed(self._raw[: self._socket.receive_into(self._raw)])
            done += got

    def check_drained(self) -> None:
        """Another stream takes over now. Raises ProtocolViolation when the peer went on before it did."""
        if self._engine.read_into(bytearray(1)) != 0:
            raise ProtocolViolation(peer=self._socket.peer_name, reason="went on before the seal")


class SealedBytes:
    """Sealed records over the bare socket as a ByteStream."""

    def __init__(self, connection: BlockingSocket, seal: ChannelSeal) -> None:
        self._socket = connection
        self._seal = seal
        self._sending = memoryview(bytearray(record_bytes(RECORD_BYTES_MAX)))
        self._receiving = memoryview(bytearray(record_bytes(RECORD_BYTES_MAX)))
        self._plain = memoryview(bytearray(RECORD_BYTES_MAX))
        self._held = self._plain[:0]

    def send(self, *parts: Part) -> None:
        """As ByteStream."""
        for part in parts:
            view = memoryview(part)
            for start in range(0, len(view), RECORD_BYTES_MAX):
                piece = view[start : start + RECORD_BYTES_MAX]
                record = self._sending[: record_bytes(len(piece))]
                self._seal.seal_into(piece, record)
                self._socket.send(record)

    def receive_exactly(self, target: memoryview) -> None:
        """As ByteStream."""
        done = 0
        while done < len(target):
            if not self._held:
                done += self._receive_record(target[done:])
            count = min(len(self._held), len(target) - done)
            target[done : done + count] = self._held[:count]
            self._held = self._held[count:]
            done += count

    def _receive_record(self, target: memoryview) -> int:
        """Take one record:

        straight into `target` if it fits (returns its length), else into the hold (returns 0).
        """
        self._socket.receive_exactly(self._receiving[: HEADER.size])
        header = bytes(self._receiving[: HEADER.size])
        plain_bytes = self._seal.plain_bytes(header)
        sealed = self._receiving[HEADER.size : record_bytes(plain_bytes)]
        self._socket.receive_exactly(sealed)
        if plain_bytes <= len(target):
            self._seal.unseal_into(header, sealed, target[:plain_bytes])
            return plain_bytes
        self._held = self._plain[:plain_bytes]
        self._seal.unseal_into(header, sealed, self._held)
        return 0


def socket_of(connection: Detached) -> BlockingSocket:
    """The socket of a detached connection, owned by the caller from now on."""
    plain = socket.socket(fileno=connection.descriptor)
    tune_for_bulk(plain)
    return BlockingSocket(plain, connection.address)
