"""A control link without I/O: bytes in, messages out, and the other way round. Shells for Trio and asyncio
pump it.

Owns framing, greeting, states, the numbering of requests and pings. Knows neither sockets nor time.
"""

from enum import Enum, auto

from msgspec import Raw

from schemas import link
from schemas.link import (
    CONTROL_BYTES_MAX,
    GREETING_BYTES_MAX,
    Fault,
    Goodbye,
    Hello,
    Message,
    Notify,
    Ping,
    Pong,
    Refused,
    Reply,
    Request,
    Welcome,
    Withdraw,
)
from vdrd.model.errors import MessageTooLarge, ProtocolViolation
from vdrd.protocol.codec import Decoder, body_of
from vdrd.protocol.frame import FrameReader, header_of
from vdrd.protocol.greeting import Versions, check_hello, check_welcome
from vdrd.protocol.states import CONTROL, GREETING, Machine, State, turned

_GREETINGS: Decoder[Message] = Decoder(link.GREETINGS)
_ENVELOPES: Decoder[Message] = Decoder(link.ENVELOPES)


class Side(Enum):
    """Who opened the TCP connection."""

    DIALER = auto()
    LISTENER = auto()


class ControlConnection:
    """One control link. Feed it what arrives, take messages from `next_message`, send what the methods
    return.

    After a ProtocolViolation nothing else may be done with it.
    """

    def __init__(self, side: Side, peer: str, versions: Versions | None = None) -> None:
        self.side = side
        self.peer = peer
        self.versions = versions or Versions()
        self.version: int | None = None
        """The negotiated one, None before the greeting is over."""
        self._reader = FrameReader(GREETING_BYTES_MAX, peer)
        self._greeting = Machine(GREETING if side is Side.DIALER else turned(GREETING), State.START, peer)
        self._control = Machine(CONTROL, State.READY, peer)
        self._request_id = 0
        self._ping_number = 0
        self._waiting: set[int] = set()
        self._answering: set[int] = set()
        self._peer_request_id = 0

    @property
    def state(self) -> State:
        """Where the link stands."""
        return self._control.state if self._greeting.state is State.READY else self._greeting.state

    # Bytes in

    def feed(self, data: bytes) -> None:
        """Add bytes that arrived."""
        self._reader.feed(data)

    def check_nothing_follows(self) -> None:
        """The stream goes to another part of the protocol now.

        Raises ProtocolViolation when more came already.
        """
        if self._reader.has_partial:
            raise ProtocolViolation(peer=self.peer, reason="went on before the greeting was over")

    def end(self) -> None:
        """The peer closed its direction. Raises ProtocolViolation in the middle of a frame."""
        if self._reader.has_partial:
            raise ProtocolViolation(peer=self.peer, reason="connection cut in the middle of a frame")

    def next_message(self) -> Message | None:
        """The next message that arrived, None when more bytes are needed.

        A Reply or Fault that nobody waits for any more (its deadline passed) is swallowed. Raises
        ProtocolViolation.
        """
        while (body := self._reader.next_frame()) is not None:
            if self._greeting.state is not State.READY:
                return self._greeted(_GREETINGS.decode(body, self.peer))
            message = _ENVELOPES.decode(body, self.peer)
            self._control.received(message)
            if self._is_wanted(message):
                return message
        return None

    def _greeted(self, message: Message) -> Message:
        self._greeting.received(message)
        if isinstance(message, Hello):
            check_hello(message, self.peer)
        if isinstance(message, Welcome):
            self.version = check_welcome(message, self.versions, self.peer)
            self._reader.bytes_max = CONTROL_BYTES_MAX
        return message

    def _is_wanted(self, message: Message) -> bool:
        if isinstance(message, Request):
            if message.id <= self._peer_request_id:
                raise ProtocolViolation(peer=self.peer, reason=f"request number {message.id} used twice")
            self._peer_request_id = message.id
            self._answering.add(message.id)
        elif isinstance(message, Reply | Fault):
            if message.id > self._request_id:
                raise ProtocolViolation(peer=self.peer, reason=f"answer to request {message.id}, never asked")
            if message.id not in self._waiting:
                return False
            self._waiting.discard(message.id)
        elif isinstance(message, Pong) and message.number > self._ping_number:
            raise ProtocolViolation(peer=self.peer, reason=f"pong {message.number}, never pinged")
        return True

    # Bytes out

    def hello(self, message: Hello) -> bytes:
        """First frame of the dialler."""
        return self._greeting_frame(message)

    def welcome(self, message: Welcome) -> bytes:
        """Answer of the listener; the link is open after it."""
        frame = self._greeting_frame(message)
        self.version = message.version
        self._reader.bytes_max = CONTROL_BYTES_MAX
        return frame

    def refuse(self, message: Refused) -> bytes:
        """Answer of the listener; close after it."""
        return self._greeting_frame(message)

    def request(self, body: Raw) -> tuple[int, bytes]:
        """A request, and its number. Raises MessageTooLarge."""
        message = Request(self._request_id + 1, body)
        frame = self._frame(message)
        self._request_id = message.id
        self._waiting.add(message.id)
        return message.id, frame

    def withdraw(self, request_id: int) -> bytes:
        """Stop waiting for a request, and tell the peer.

        Empty when it was answered already or the link closes.
        """
        if request_id not in self._waiting:
            return b""
        self._waiting.discard(request_id)
        return self._frame(Withdraw(request_id)) if self._control.state is State.READY else b""

    def reply(self, request_id: int, body: Raw) -> bytes:
        """The answer to a request of the peer, empty when the peer is gone.

        Raises MessageTooLarge: answer with a fault then.
        """
        return self._answer(request_id, Reply(request_id, body))

    def fault(self, message: Fault) -> bytes:
        """The failure of a request of the peer, empty when the peer is gone."""
        return self._answer(message.id, message)

    def forget(self, request_id: int) -> None:
        """A request of the peer that it withdrew: no answer follows."""
        self._answering.discard(request_id)

    def notify(self, body: Raw) -> bytes:
        """A notification. Raises MessageTooLarge."""
        return self._frame(Notify(body))

    def ping(self) -> bytes:
        """A ping with a fresh number."""
        frame = self._frame(Ping(self._ping_number + 1))
        self._ping_number += 1
        return frame

    def pong(self, message: Ping) -> bytes:
        """The answer to a ping, empty when the peer is gone."""
        return b"" if self._control.state is State.CLOSED else self._frame(Pong(message.number))

    def goodbye(self, reason: str) -> bytes:
        """The last frame we start with; answers may still follow. Empty when the link is closed already."""
        if self._control.state is not State.READY or self._greeting.state is not State.READY:
            return b""
        return self._frame(Goodbye(reason[:200]))

    def _answer(self, request_id: int, message: Reply | Fault) -> bytes:
        if self._control.state is State.CLOSED:
            self._answering.discard(request_id)
            return b""
        if request_id not in self._answering:
            raise RuntimeError(f"request {request_id} is not waiting for an answer")
        frame = self._frame(message)
        self._answering.discard(request_id)
        return frame

    def _greeting_frame(self, message: Hello | Welcome | Refused) -> bytes:
        self._greeting.sent(message)
        body = body_of(message)
        return header_of(len(body)) + body

    def _frame(self, message: Message) -> bytes:
        body = body_of(message)
        if len(body) > CONTROL_BYTES_MAX:
            raise MessageTooLarge(found_bytes=len(body), max_bytes=CONTROL_BYTES_MAX)
        self._control.sent(message)
        return header_of(len(body)) + body
