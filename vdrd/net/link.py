"""Control links on Trio: requests with deadlines, notifications, heartbeats, an orderly end.

Owns the tasks of one open link. Knows nothing of what travels inside the envelopes: the handler of a link
decodes it.

Tasks of a link: one reader, one writer, one pulse, one that hands over notifications in order, and one per
request being answered. State changes only in plain functions; the writer alone touches the stream's sending
side.
"""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import UnionType
from typing import Any, Protocol, TypeVar, overload

import msgspec
import trio

from schemas.link import Fault, Goodbye, Message, Notify, Ping, Reply, Request, Withdraw
from vdrd.model.errors import PeerBusy, ProtocolViolation, Unreachable, VdrError
from vdrd.net.identity import PeerIdentity
from vdrd.net.nursery import flat_nursery
from vdrd.net.stream import TlsStream
from vdrd.protocol.codec import Decoder, raw_of
from vdrd.protocol.connection import ControlConnection
from vdrd.protocol.faults import error_of, fault_of, internal_fault_of
from vdrd.protocol.states import State

log = logging.getLogger(__name__)
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """What one link may cost, and how soon it is given up."""

    heartbeat_seconds: float = 10.0
    """A dead peer is noticed within three of these, and firewalls see traffic."""
    dead_seconds: float = 30.0
    """Silence after which the link is closed."""
    requests_max: int = 64
    """Requests of the peer answered at once; one more gets PeerBusy."""
    notifications_max: int = 256
    """Notifications waiting for the handler; then reading pauses, which slows the peer down."""
    outbox_frames: int = 64
    """Frames waiting to be sent, at most 1 MiB each; then askers wait."""
    farewell_seconds: float = 2.0
    """How long an orderly close may take."""


class Handler(Protocol):
    """Answers what the peer sends. `family` is the union of message types it understands."""

    @property
    def family(self) -> Any:
        """Union of tagged structs that may arrive, as requests or notifications."""
        ...

    async def request(self, link: "Link", message: Any) -> msgspec.Struct:
        """The reply.

        A VdrError becomes a fault with its code; anything else is logged and a fault without detail.
        """
        ...

    async def notify(self, link: "Link", message: Any) -> None:
        """Called in the order of arrival, one at a time: must not wait for long."""
        ...


class _Empty(msgspec.Struct, tag="none", tag_field="t"):
    """No message at all."""


class DeafHandler:
    """For a side that only asks: every request of the peer is a violation."""

    family = _Empty

    async def request(self, _link: "Link", _message: Any) -> msgspec.Struct:
        """Never reached: nothing decodes."""
        raise PeerBusy(peer="this side")

    async def notify(self, _link: "Link", _message: Any) -> None:
        """Never reached: nothing decodes."""


@dataclass(slots=True)
class _Waiting:
    """A request of ours under way."""

    answered: trio.Event
    answer: Reply | Fault | None = None


class Link:
    """An open control link. Made by `open_link`; usable from any task of the same Trio run."""

    def __init__(
        self,
        stream: TlsStream,
        connection: ControlConnection,
        peer: PeerIdentity,
        handler: Handler,
        limits: LinkLimits,
    ) -> None:
        self.peer = peer
        self.address = stream.peer_name
        self.limits = limits
        self.close_reason: VdrError | None = None
        """Why the link ended; None while open and after an orderly end."""
        self._stream = stream
        self._connection = connection
        self._handler = handler
        self._decoder: Decoder[Any] = Decoder(handler.family)
        self._waiting: dict[int, _Waiting] = {}
        self._answering: dict[int, trio.CancelScope] = {}
        self._outbox, self._outgoing = trio.open_memory_channel[bytes](limits.outbox_frames)
        self._notes, self._noted = trio.open_memory_channel[Any](limits.notifications_max)
        self._closed = trio.Event()
        self._written = trio.Event()
        self._last_heard = trio.current_time()
        self._replies: dict[Any, Decoder[Any]] = {}
        self._frames_in = 0
        self._frames_out = 0

    def __str__(self) -> str:
        return f"{self.peer} at {self.address}"

    @property
    def is_open(self) -> bool:
        """False once either side said goodbye or the link broke."""
        return not self._closed.is_set() and self._connection.state is State.READY

    @overload
    async def request(
        self, message: msgspec.Struct, reply: type[R], *, deadline_seconds: float = 30.0
    ) -> R: ...

    @overload
    async def request(
        self, message: msgspec.Struct, reply: UnionType, *, deadline_seconds: float = 30.0
    ) -> Any: ...

    async def request(
        self, message: msgspec.Struct, reply: type[R] | UnionType, *, deadline_seconds: float = 30.0
    ) -> R:
        """Ask, and wait for the answer, an instance of `reply` (a struct or a union of structs).

        Raises what the peer reported (the same class of VdrError), Unreachable when the link breaks, no
        answer comes in time or the link is closed already, MessageTooLarge, ProtocolViolation when the
        reply is of another type. Cancelled or late, the peer is told to stop.
        """
        self._check_open()
        number, frame = self._connection.request(raw_of(message))
        waiting = self._waiting[number] = _Waiting(trio.Event())
        try:
            with trio.move_on_after(deadline_seconds):
                await self._enqueue(frame)
                await waiting.answered.wait()
        finally:
            self._waiting.pop(number, None)
            if waiting.answer is None:
                self._withdraw(number)
        answer: R = self._answer_of(waiting, reply, message, deadline_seconds)
        return answer

    async def notify(self, message: msgspec.Struct) -> None:
        """Send without waiting for an answer. Raises Unreachable when the link is closed, MessageTooLarge."""
        self._check_open()
        await self._enqueue(self._connection.notify(raw_of(message)))

    def close(self, reason: str = "") -> None:
        """Begin the orderly end: the peer is told, `open_link`'s block is what really ends it."""
        if self.is_open:
            self._push(self._connection.goodbye(reason))
            self._end(None)

    async def wait_closed(self) -> None:
        """Until the link is closed by either side or broken; then `close_reason` says why."""
        await self._closed.wait()

    def statistics(self) -> dict[str, float]:
        """What the link does now."""
        return {
            "waiting": len(self._waiting),
            "answering": len(self._answering),
            "frames_in": self._frames_in,
            "frames_out": self._frames_out,
            "silent_seconds": trio.current_time() - self._last_heard,
        }

    # Tasks; none of them raises but Cancelled.

    async def run(self) -> None:
        """All tasks of the link until it is closed. Only `open_link` calls this."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._read, nursery)
            nursery.start_soon(self._hand_over)
            nursery.start_soon(self._pulse)
            await self._closed.wait()
            for waiting in self._waiting.values():
                waiting.answered.set()
            with trio.move_on_after(self.limits.farewell_seconds, shield=True):
                await self._drain()
            nursery.cancel_scope.cancel()

    async def _read(self, nursery: trio.Nursery) -> None:
        try:
            # What came together with the greeting lies in the connection already.
            while True:
                while (message := self._connection.next_message()) is not None:
                    await self._take(message, nursery)
                data = await self._stream.receive_some()
                self._last_heard = trio.current_time()
                if not data:
                    self._connection.end()
                    raise Unreachable(peer=self, reason="the peer closed the connection")
                self._connection.feed(data)
        except ProtocolViolation as error:
            log.warning("link broken by peer peer=%s reason=%s", self, error)
            self._end(error)
        except VdrError as error:
            self._end(error)

    async def _take(self, message: Message, nursery: trio.Nursery) -> None:
        self._frames_in += 1
        match message:
            case Request():
                await self._take_request(message, nursery)
            case Reply() | Fault():
                waiting = self._waiting.get(message.id)
                if waiting is not None:
                    waiting.answer = message
                    waiting.answered.set()
            case Withdraw():
                scope = self._answering.get(message.id)
                if scope is not None:
                    scope.cancel()
            case Notify():
                await self._take_notification(message)
            case Ping():
                await self._enqueue(self._connection.pong(message))
            case Goodbye():
                self._end(None)
            case _:
                # Pong: hearing it was all.
                return

    async def _take_request(self, message: Request, nursery: trio.Nursery) -> None:
        if len(self._answering) >= self.limits.requests_max:
            busy = PeerBusy(peer=self._connection.side.name.lower())
            await self._enqueue(self._connection.fault(fault_of(message.id, busy)))
            return
        try:
            body = self._decoder.decode(message.body, str(self))
        except ProtocolViolation as error:
            # The envelope was right: a newer peer may ask what we do not know, and hears so.
            log.warning("request not understood peer=%s reason=%s", self, error)
            await self._enqueue(self._connection.fault(fault_of(message.id, error)))
            return
        scope = self._answering[message.id] = trio.CancelScope()
        nursery.start_soon(self._answer, message.id, body, scope)

    async def _take_notification(self, message: Notify) -> None:
        try:
            body = self._decoder.decode(message.body, str(self))
        except ProtocolViolation as error:
            log.warning("notification not understood peer=%s reason=%s", self, error)
            return
        await self._notes.send(body)

    async def _answer(self, number: int, body: Any, scope: trio.CancelScope) -> None:
        frame = b""
        with scope:
            try:
                answer = await self._handler.request(self, body)
                frame = self._connection.reply(number, raw_of(answer))
            except VdrError as error:
                frame = self._connection.fault(fault_of(number, error))
            except Exception:
                # The root of this task: a defect in a handler fails one request, not the daemon.
                log.exception("request failed peer=%s message=%s", self, type(body).__name__)
                frame = self._connection.fault(internal_fault_of(number))
        del self._answering[number]
        if scope.cancelled_caught:
            self._connection.forget(number)
        await self._enqueue(frame)

    async def _hand_over(self) -> None:
        async for message in self._noted:
            try:
                await self._handler.notify(self, message)
            except VdrError as error:
                log.warning(
                    "notification failed peer=%s message=%s reason=%s", self, type(message).__name__, error
                )
            except Exception:
                # The root of this task: a defect in a handler loses one notification, not the daemon.
                log.exception("notification failed peer=%s message=%s", self, type(message).__name__)

    async def _write(self) -> None:
        try:
            async for frame in self._outgoing:
                await self._stream.send_all(frame)
                self._frames_out += 1
        except VdrError as error:
            self._end(error)
        finally:
            self._written.set()

    async def _pulse(self) -> None:
        beat_seconds = self.limits.heartbeat_seconds
        while True:
            await trio.sleep(min(beat_seconds, max(self._left_seconds(), 0.001)))
            if self._left_seconds() <= 0:
                silent = f"silent for {self.limits.dead_seconds:.0f} seconds"
                self._end(Unreachable(peer=self, reason=silent))
                return
            if self.is_open:
                self._push(self._connection.ping())

    def _left_seconds(self) -> float:
        return self._last_heard + self.limits.dead_seconds - trio.current_time()

    async def _drain(self) -> None:
        self._outbox.close()
        await self._written.wait()

    # Critical sections

    def _end(self, reason: VdrError | None) -> None:
        if not self._closed.is_set():
            self.close_reason = reason
            self._closed.set()

    def _push(self, frame: bytes) -> None:
        try:
            if frame:
                self._outbox.send_nowait(frame)
        except (trio.WouldBlock, trio.ClosedResourceError):
            # A full outbox carries traffic enough, or a dead peer that the limit will notice.
            return

    async def _enqueue(self, frame: bytes) -> None:
        try:
            if frame:
                await self._outbox.send(frame)
        except trio.ClosedResourceError:
            # The link is closing; who asked learns it from `_closed`.
            return

    def _withdraw(self, number: int) -> None:
        if self.is_open:
            self._push(self._connection.withdraw(number))

    def _check_open(self) -> None:
        if not self.is_open:
            raise self._closed_error()

    def _closed_error(self) -> VdrError:
        reason = str(self.close_reason) if self.close_reason is not None else "the link is closed"
        return Unreachable(peer=self, reason=reason)

    def _answer_of(
        self, waiting: _Waiting, reply: Any, message: msgspec.Struct, deadline_seconds: float
    ) -> Any:
        match waiting.answer:
            case Reply(body=body):
                if reply not in self._replies:
                    self._replies[reply] = Decoder(reply)
                return self._replies[reply].decode(body, str(self))
            case Fault() as fault:
                raise error_of(fault)
            case _:
                if self._closed.is_set():
                    raise self._closed_error()
                name = type(message).__name__
                raise Unreachable(
                    peer=self, reason=f"no answer to {name} within {deadline_seconds:g} seconds"
                )


@asynccontextmanager
async def open_link(
    stream: TlsStream,
    connection: ControlConnection,
    peer: PeerIdentity,
    handler: Handler,
    limits: LinkLimits,
) -> AsyncIterator[Link]:
    """A greeted connection as a running link; closed in order when the block ends, the stream with it.

    The block is not cancelled when the link breaks: it waits with `wait_closed`, or learns it from its next
    request.
    """
    link = Link(stream, connection, peer, handler, limits)
    try:
        async with flat_nursery() as nursery:
            nursery.start_soon(link.run)
            try:
                yield link
            finally:
                link.close()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + limits.farewell_seconds):
            await stream.aclose()
