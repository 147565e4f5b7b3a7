"""A data channel between threads: messages of `schemas.link` over a byte stream, from the ticket to the
goodbye.

Owns the socket and the hand-over from TLS to sealed records. Knows nothing of chunks beyond their messages.
"""

import logging
import secrets
from contextlib import suppress

from schemas.link import (
    DATA_BYTES_MAX,
    GREETING_BYTES_MAX,
    Chunks,
    Fault,
    Goodbye,
    Message,
    Open,
    Opened,
    Put,
    Working,
)
from vdrd.model.errors import ProtocolViolation, VdrError
from vdrd.model.rate import RateLimit
from vdrd.net.blocking import ByteStream, SealedBytes, TlsBytes, socket_of
from vdrd.net.dial import Detached
from vdrd.protocol.codec import bulk_frame_of, frame_of
from vdrd.protocol.data import DataConnection
from vdrd.protocol.faults import error_of
from vdrd.protocol.frame import HEADER, body_bytes_of
from vdrd.protocol.seal import ALGORITHMS, SECRET_BYTES, ChannelSeal, choose
from vdrd.protocol.states import State

log = logging.getLogger(__name__)

OPENING_SECONDS = 15.0
"""From the hand-over to the ticket's answer."""
ANSWER_SECONDS = 60.0
"""Silence of the node while it owes an answer: it sends Working every few seconds."""
SEALS = ("aes-256-gcm", "sm4-gcm")
"""What we accept, best first."""


class DataChannel:
    """One end. One thread at a time uses it; `shut` wakes it from any other."""

    def __init__(self, connection: Detached, *, is_agent: bool, rate: RateLimit | None = None) -> None:
        self.peer = connection.peer
        self.address = connection.address
        self._is_agent = is_agent
        self._rate = rate or RateLimit()
        self._is_shut = False
        self._socket = socket_of(connection)
        self._tls = TlsBytes(self._socket, connection.engine)
        self._stream: ByteStream = self._tls
        self._data = DataConnection(str(self), is_agent=is_agent)
        self._bytes_max = GREETING_BYTES_MAX
        self._header = memoryview(bytearray(HEADER.size))
        self._body = memoryview(bytearray(GREETING_BYTES_MAX))
        self._socket.set_patience(OPENING_SECONDS)

    def __str__(self) -> str:
        return f"{self.peer} at {self.address}"

    @property
    def outstanding(self) -> int:
        """Questions the node has not answered yet."""
        return self._data.outstanding

    @property
    def is_open(self) -> bool:
        """True between Opened and the end."""
        return not self._is_shut and self._data.state is State.OPEN

    # The agent's end

    def open(self, ticket: bytes, seals: tuple[str, ...] = SEALS) -> Opened:
        """Show the ticket. Raises TicketRefused and whatever else the node answers, Unreachable."""
        self.send(Open(ticket, list(seals)))
        opened = self.receive()
        if isinstance(opened, Fault):
            raise error_of(opened)
        assert isinstance(opened, Opened)
        if opened.seal != "tls":
            if opened.seal not in seals:
                raise ProtocolViolation(
                    peer=self, reason=f"chose seal {opened.seal!r}, which was not offered"
                )
            self._begin_seal(opened.seal, opened.seal_secret, ticket)
        self._become_open(ANSWER_SECONDS)
        return opened

    # The node's end

    def welcome(self, opening: Open, opened: Opened, seals: tuple[str, ...] = SEALS) -> None:
        """Answer a good ticket. `opened.seal` is filled in here."""
        seal = choose(opening.seals, seals)
        secret = secrets.token_bytes(SECRET_BYTES) if seal in ALGORITHMS else b""
        self.send(_with_seal(opened, seal, secret))
        if secret:
            self._begin_seal(seal, secret, opening.ticket)
        # An agent may think for as long as it lives: the kernel tells when it does not.
        self._become_open(None)

    # Both ends

    def send(self, message: Message) -> None:
        """Send one message; waits for the rate limit if it is bulk. Raises Unreachable."""
        self._data.sending(message)
        if isinstance(message, Put | Chunks):
            head, payload = bulk_frame_of(message)
            self._rate.wait(len(payload), lambda: not self._is_shut)
            self._stream.send(head, payload)
        else:
            self._stream.send(frame_of(message))

    def receive(self) -> Message:
        """The next message; its memoryview is good until the next call. Working is swallowed.

        Raises Unreachable, ProtocolViolation.
        """
        while True:
            self._stream.receive_exactly(self._header)
            length = body_bytes_of(self._header, self._bytes_max, str(self))
            if length > len(self._body):
                self._body = memoryview(bytearray(length))
            body = self._body[:length]
            self._stream.receive_exactly(body)
            message = self._data.received(body)
            if not isinstance(message, Working):
                return message

    def send_working(self) -> None:
        """Tell the agent that its question is still being worked on."""
        self.send(Working())

    def shut(self) -> None:
        """End it from any thread: whoever uses the channel gets Unreachable at once."""
        self._is_shut = True
        self._socket.shut()

    def close(self, reason: str = "") -> None:
        """Say goodbye if possible and close; by the thread that uses the channel."""
        if self._is_agent and self.is_open:
            with suppress(VdrError):
                self.send(Goodbye(reason[:200]))
        self._is_shut = True
        self._socket.shut()
        self._socket.close()

    def _begin_seal(self, name: str, secret: bytes, ticket: bytes) -> None:
        self._tls.check_drained()
        seal = ChannelSeal(name, secret, ticket, is_agent=self._is_agent, peer=str(self))
        self._stream = SealedBytes(self._socket, seal)

    def _become_open(self, patience_seconds: float | None) -> None:
        self._bytes_max = DATA_BYTES_MAX
        self._socket.set_patience(patience_seconds)


def _with_seal(opened: Opened, seal: str, secret: bytes) -> Opened:
    return Opened(
        opened.run, seal, secret, opened.id_keys, opened.cut_key, opened.compression_level, opened.writable
    )
