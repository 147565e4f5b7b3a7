"""Control links on asyncio, for the console: the same core and TLS engine as `vdrd.net.link`, another event
loop.

Only dials and only asks; the peer may notify. Knows nothing of what travels inside the envelopes. Must not
import trio.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import UnionType
from typing import Any, TypeVar, overload

import msgspec

from schemas.link import Fault, Goodbye, Hello, Message, Notify, Ping, Refused, Reply, Request
from vdrd.model.errors import CertificateRefused, NotAuthorised, ProtocolViolation, Unreachable, VdrError
from vdrd.net.address import Address
from vdrd.net.connect_error import reason_of
from vdrd.net.identity import Expected, PeerIdentity
from vdrd.net.socket_options import tune
from vdrd.net.tls import TlsEngine, TlsProfile
from vdrd.protocol.codec import Decoder, raw_of
from vdrd.protocol.connection import ControlConnection, Side
from vdrd.protocol.faults import error_of, fault_of

log = logging.getLogger(__name__)
R = TypeVar("R")

HEARTBEAT_SECONDS = 10.0
DEAD_SECONDS = 30.0
DIAL_SECONDS = 15.0
_READ_BYTES = 64 << 10


class AsyncioLink:
    """An open control link. Made by `connect`; use it from the loop that made it."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        engine: TlsEngine,
        address: Address,
    ) -> None:
        self.close_reason: VdrError | None = None
        """Why the link ended; None while open and after an orderly end."""
        self._reader = reader
        self._writer = writer
        self._engine = engine
        self._address = address
        self._connection = ControlConnection(Side.DIALER, str(address))
        self._peer: PeerIdentity | None = None
        self._plain = bytearray(_READ_BYTES)
        self._waiting: dict[int, asyncio.Future[Reply | Fault]] = {}
        self._replies: dict[Any, Decoder[Any]] = {}
        self._closed = asyncio.Event()
        self._last_heard = time.monotonic()
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def is_open(self) -> bool:
        """False once either side closed the link or it broke."""
        return not self._closed.is_set()

    @property
    def peer(self) -> PeerIdentity:
        """Who is at the other end."""
        assert self._peer is not None
        return self._peer

    @classmethod
    async def connect(
        cls,
        address: Address,
        profile: TlsProfile,
        *,
        expected: Expected,
        family: Any = None,
        on_notify: Callable[[Any], Awaitable[None]] | None = None,
        software: str = "",
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        dead_seconds: float = DEAD_SECONDS,
        seconds: float = DIAL_SECONDS,
    ) -> "AsyncioLink":
        """Dial, prove and greet. `family` is the union of notifications that may come.

        Raises Unreachable, CertificateRefused, ClockWrong, VersionUnsupported, or what the listener refused
        with.
        """
        try:
            async with asyncio.timeout(seconds):
                try:
                    reader, writer = await asyncio.open_connection(address.host, address.port)
                except OSError as error:
                    raise Unreachable(peer=address, reason=reason_of(error)) from error
                tune(writer.get_extra_info("socket"))
                link = cls(reader, writer, profile.dialer(str(address)), address)
                try:
                    await link._prove(expected)
                    await link._greet(software)
                except BaseException:
                    writer.transport.abort()
                    raise
        except TimeoutError as error:
            raise Unreachable(peer=address, reason=f"no answer within {seconds:g} seconds") from error
        link._start(family, on_notify, heartbeat_seconds, dead_seconds)
        log.info("link open peer=%s at %s", link.peer, address)
        return link

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
        answer comes in time or the link is closed already, MessageTooLarge, ProtocolViolation. Cancelled or
        late, the peer is told to stop.
        """
        if not self.is_open:
            raise self._closed_error()
        number, frame = self._connection.request(raw_of(message))
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(deadline_seconds):
                await self._send(frame)
                answer = await future
        except TimeoutError as error:
            reason = f"no answer to {type(message).__name__} within {deadline_seconds:g} seconds"
            raise Unreachable(peer=self._address, reason=reason) from error
        finally:
            del self._waiting[number]
            if self.is_open:
                self._write(self._connection.withdraw(number))
        if isinstance(answer, Fault):
            raise error_of(answer)
        if reply not in self._replies:
            self._replies[reply] = Decoder(reply)
        decoded: R = self._replies[reply].decode(answer.body, str(self._address))
        return decoded

    async def wait_closed(self) -> None:
        """Until the link is closed by either side or broken; then `close_reason` says why."""
        await self._closed.wait()

    async def aclose(self, reason: str = "") -> None:
        """Close in order; harmless when closed already."""
        if self.is_open:
            self._write(self._connection.goodbye(reason))
            self._engine.close()
            self._flush()
            self._end(None)
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        self._writer.close()
        with suppress(OSError):
            await self._writer.wait_closed()

    async def _prove(self, expected: Expected) -> None:
        done = False
        while not done:
            try:
                done = self._engine.handshake()
            finally:
                # Also an alert: it tells the peer why.
                self._flush()
            if not done:
                self._engine.feed(await self._receive_raw())
        if self._engine.peer is None:
            raise CertificateRefused(peer=self._address, reason="it showed none")
        expected.check(self._engine.peer)
        self._peer = self._engine.peer

    async def _greet(self, software: str) -> None:
        own = self._connection.versions
        hello = Hello(own.oldest, own.newest, "control", software, int(time.time()))
        await self._send(self._connection.hello(hello))
        while (answer := self._connection.next_message()) is None:
            data = await self._receive()
            if not data:
                raise Unreachable(peer=self._address, reason="the peer closed during the greeting")
            self._connection.feed(data)
        if isinstance(answer, Refused):
            raise error_of(answer)

    def _start(
        self,
        family: Any,
        on_notify: Callable[[Any], Awaitable[None]] | None,
        heartbeat_seconds: float,
        dead_seconds: float,
    ) -> None:
        self._last_heard = time.monotonic()
        self._tasks = [
            asyncio.create_task(self._read(family and Decoder(family), on_notify)),
            asyncio.create_task(self._pulse(heartbeat_seconds, dead_seconds)),
        ]

    async def _read(
        self, decoder: Decoder[Any] | None, on_notify: Callable[[Any], Awaitable[None]] | None
    ) -> None:
        try:
            while True:
                while (message := self._connection.next_message()) is not None:
                    if isinstance(message, Notify):
                        await self._hand_over(message, decoder, on_notify)
                    else:
                        await self._take(message)
                data = await self._receive()
                self._last_heard = time.monotonic()
                if not data:
                    self._connection.end()
                    self._end(Unreachable(peer=self._address, reason="the peer closed the connection"))
                    return
                self._connection.feed(data)
        except VdrError as error:
            self._end(error)

    async def _take(self, message: Message) -> None:
        match message:
            case Reply() | Fault():
                future = self._waiting.get(message.id)
                if future is not None and not future.done():
                    future.set_result(message)
            case Request():
                refusal = NotAuthorised(reason="this side answers no requests")
                await self._send(self._connection.fault(fault_of(message.id, refusal)))
            case Ping():
                await self._send(self._connection.pong(message))
            case Goodbye():
                self._end(None)
            case _:
                # Pong: hearing it was all. Withdraw: there is no work to stop.
                return

    async def _hand_over(
        self,
        message: Notify,
        decoder: Decoder[Any] | None,
        on_notify: Callable[[Any], Awaitable[None]] | None,
    ) -> None:
        if decoder is None or on_notify is None:
            log.warning("notification not expected peer=%s", self._address)
            return
        try:
            body = decoder.decode(message.body, str(self._address))
        except ProtocolViolation as error:
            log.warning("notification not understood peer=%s reason=%s", self._address, error)
            return
        try:
            await on_notify(body)
        except Exception:
            # A defect in a handler loses one notification, not the link.
            log.exception("notification failed peer=%s message=%s", self._address, type(body).__name__)

    async def _pulse(self, heartbeat_seconds: float, dead_seconds: float) -> None:
        while self.is_open:
            left_seconds = self._last_heard + dead_seconds - time.monotonic()
            if left_seconds <= 0:
                reason = f"silent for {dead_seconds:.0f} seconds"
                self._end(Unreachable(peer=self._address, reason=reason))
                return
            self._write(self._connection.ping())
            await asyncio.sleep(min(heartbeat_seconds, left_seconds))

    async def _receive(self) -> bytes:
        while True:
            got = self._engine.read_into(self._plain)
            self._flush()
            if got > 0:
                return bytes(memoryview(self._plain)[:got])
            if got < 0:
                return b""
            self._engine.feed(await self._receive_raw())

    async def _receive_raw(self) -> bytes:
        try:
            return await self._reader.read(_READ_BYTES)
        except OSError as error:
            raise Unreachable(peer=self._address, reason="the connection was cut") from error

    async def _send(self, frame: bytes) -> None:
        self._write(frame)
        try:
            await self._writer.drain()
        except OSError as error:
            raise Unreachable(peer=self._address, reason="the connection was cut") from error

    # Critical sections: encrypting and handing to the transport happen together, so frames never mix.

    def _write(self, frame: bytes) -> None:
        if frame:
            self._engine.write(frame)
            self._flush()

    def _flush(self) -> None:
        outgoing = self._engine.take_outgoing()
        if outgoing:
            self._writer.write(outgoing)

    def _end(self, reason: VdrError | None) -> None:
        if self._closed.is_set():
            return
        self.close_reason = reason
        self._closed.set()
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(self._closed_error())
        self._writer.close()
        log.info("link closed peer=%s reason=%s", self._address, reason or "orderly")

    def _closed_error(self) -> VdrError:
        reason = str(self.close_reason) if self.close_reason is not None else "the link is closed"
        return Unreachable(peer=self._address, reason=reason)
