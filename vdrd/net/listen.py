"""The accepting side of connections on Trio: greets peers, refuses what does not belong, serves links.

One port takes control links, data channels and enrolments, as its owner wishes. Until a peer is greeted it
costs one task, 16 KiB and a deadline; how many such strangers there may be is bounded, in all and per
address.
"""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import trio

from schemas.link import Enrol, Enrolled, Hello, Welcome
from vdrd.model.errors import BadInput, NotAuthorised, PeerBusy, ProtocolViolation, Unreachable, VdrError
from vdrd.net.address import Address
from vdrd.net.dial import Detached, run_session
from vdrd.net.identity import PeerIdentity, Role
from vdrd.net.link import Handler, Link, LinkLimits, open_link
from vdrd.net.socket_options import tune
from vdrd.net.stream import TlsStream
from vdrd.net.tls import TlsProfile
from vdrd.protocol.codec import Decoder, frame_of
from vdrd.protocol.connection import ControlConnection, Side
from vdrd.protocol.faults import refusal_of
from vdrd.protocol.frame import FrameReader
from vdrd.protocol.greeting import Versions, negotiate

log = logging.getLogger(__name__)
_ENROL: Decoder[Enrol] = Decoder(Enrol)


@dataclass(frozen=True, slots=True)
class ListenLimits:
    """What peers may cost before they are known."""

    greeting_seconds: float = 10.0
    """From the accept to the end of the greeting; a peer that dribbles bytes is cut then."""
    strangers_max: int = 128
    """Connections not greeted yet."""
    strangers_per_address_max: int = 32
    """The same from one address, so that one cannot shut out all others."""
    links_max: int = 10_000
    """Greeted links."""
    console_requests_max: int = 1024
    """Requests of a console answered at once. Its one link carries those of all its users, and each open page
    has one that waits for news."""


class ControlReception(Protocol):
    """Decides about control links and works with them."""

    async def admit(self, peer: PeerIdentity, hello: Hello) -> Handler:
        """The handler for this peer's messages.

        Raises a VdrError to refuse it; the peer is told code and text.
        """
        ...

    async def session(self, link: Link) -> None:
        """Runs while the link is open; cancelled when it closes. May return at once."""
        ...


class DataReception(Protocol):
    """Takes data channels."""

    def admit_data(self, peer: PeerIdentity, hello: Hello) -> None:
        """Raises a VdrError to refuse."""
        ...

    def adopt(self, connection: Detached, hello: Hello) -> None:
        """Take over the connection; owns it from now on. Must not block."""
        ...


class EnrolReception(Protocol):
    """Gives certificates to strangers with a token."""

    @property
    def authority_pem(self) -> str:
        """The CA's certificate, public."""
        ...

    async def enrol(self, request: Enrol, address: str) -> Enrolled:
        """Raises TokenRefused and others to refuse."""
        ...


class LinkListener:
    """Listens on addresses and serves what comes. One per port and profile."""

    def __init__(
        self,
        profile: TlsProfile,
        *,
        control: ControlReception | None = None,
        data: DataReception | None = None,
        enrol: EnrolReception | None = None,
        software: str = "",
        limits: ListenLimits | None = None,
        link_limits: LinkLimits | None = None,
        versions: Versions | None = None,
    ) -> None:
        self._profile = profile
        self._control = control
        self._data = data
        self._enrol = enrol
        self._software = software
        self._limits = limits or ListenLimits()
        self._link_limits = link_limits or LinkLimits()
        self._versions = versions or Versions()
        self._strangers: Counter[str] = Counter()
        self._links: set[Link] = set()
        self._refused = 0
        self.addresses: tuple[Address, ...] = ()
        """Where it listens, with real ports; set when `serve` has started."""

    async def serve(
        self,
        addresses: Sequence[Address],
        *,
        task_status: trio.TaskStatus[tuple[Address, ...]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listen until cancelled. Raises Unreachable naming the address that cannot be listened on."""
        listeners: list[trio.SocketListener] = []
        try:
            for address in addresses:
                try:
                    listeners += await trio.open_tcp_listeners(address.port, host=address.host)
                except OSError as error:
                    reason = f"cannot listen there: {error.strerror or error}".lower()
                    raise Unreachable(peer=address, reason=reason) from error
            names = [listener.socket.getsockname() for listener in listeners]
            self.addresses = tuple(Address(name[0], name[1]) for name in names)
            log.info("listening addresses=%s", ",".join(map(str, self.addresses)))
            task_status.started(self.addresses)
            async with trio.open_nursery() as nursery:
                await trio.serve_listeners(self._serve_one, listeners, handler_nursery=nursery)
        finally:
            for listener in listeners:
                listener.socket.close()

    def links(self) -> list[Link]:
        """Open control links."""
        return list(self._links)

    def drop_revoked(self) -> int:
        """Close links whose peer was revoked meanwhile; call it after the profile's reload.

        Returns how many.
        """
        gone = [link for link in self._links if self._profile.is_revoked(link.peer)]
        for link in gone:
            log.warning("link closed peer=%s reason=certificate revoked", link)
            link.close("certificate revoked")
        return len(gone)

    def statistics(self) -> dict[str, int]:
        """What the listener does now."""
        return {
            "links": len(self._links),
            "strangers": self._strangers.total(),
            "refused": self._refused,
        }

    async def _serve_one(self, transport: trio.SocketStream) -> None:
        try:
            name = transport.socket.getpeername()
        except OSError:
            await trio.aclose_forcefully(transport)
            return
        host, peer_name = name[0], str(Address(name[0], name[1]))
        try:
            self._arrive(host)
        except PeerBusy:
            self._note_refused(peer_name, "too many connections that are not greeted yet")
            await trio.aclose_forcefully(transport)
            return
        stream = TlsStream(
            transport, self._profile.listener(peer_name, admit_strangers=self._enrol is not None), peer_name
        )
        greeted = None
        try:
            with trio.move_on_after(self._limits.greeting_seconds) as scope:
                tune(transport.socket)
                greeted = await self._greet(stream)
            if scope.cancelled_caught:
                limit = f"no greeting within {self._limits.greeting_seconds:g} seconds"
                self._note_refused(peer_name, limit)
        except VdrError as error:
            self._note_refused(peer_name, str(error))
            await stream.linger()
        except OSError as error:
            self._note_refused(peer_name, error.strerror or str(error))
        except Exception:
            # The root of this task: a defect met by one stranger must not end the daemon.
            log.exception("greeting failed peer=%s", peer_name)
        finally:
            self._leave(host)
            if greeted is None:
                stream.abandon()
        if greeted is not None:
            await self._serve_link(stream, *greeted)

    async def _greet(self, stream: TlsStream) -> tuple[ControlConnection, PeerIdentity, Handler] | None:
        """What a control link needs; None when the connection went elsewhere or is done with."""
        peer = await stream.handshake()
        connection = ControlConnection(Side.LISTENER, stream.peer_name, self._versions)
        while (hello := connection.next_message()) is None:
            data = await stream.receive_some()
            if not data:
                raise Unreachable(peer=stream.peer_name, reason="closed during the greeting")
            connection.feed(data)
        assert isinstance(hello, Hello)
        try:
            version = negotiate(hello, self._versions)
            handler = await self._admit(peer, hello)
        except VdrError as error:
            await stream.send_all(connection.refuse(refusal_of(error)))
            raise
        connection_welcome = Welcome(
            version,
            self._software,
            int(time.time()),
            self._link_limits.heartbeat_seconds,
            self._enrol.authority_pem if hello.purpose == "enrol" and self._enrol else "",
        )
        await stream.send_all(connection.welcome(connection_welcome))
        if hello.purpose == "enrol":
            connection.check_nothing_follows()
            await self._serve_enrolment(stream)
            return None
        if peer is not None and hello.purpose == "data" and self._data is not None:
            connection.check_nothing_follows()
            self._data.adopt(Detached.of(stream, peer), hello)
            return None
        assert peer is not None
        assert handler is not None
        return connection, peer, handler

    async def _admit(self, peer: PeerIdentity | None, hello: Hello) -> Handler | None:
        if hello.purpose == "enrol":
            if self._enrol is None:
                raise BadInput(what="no enrolment here")
            return None
        if peer is None:
            raise NotAuthorised(reason="a certificate is needed for anything but enrolment")
        if hello.purpose == "data" and self._data is not None:
            self._data.admit_data(peer, hello)
            return None
        if hello.purpose == "control" and self._control is not None:
            if len(self._links) >= self._limits.links_max:
                raise PeerBusy(peer="the listener")
            return await self._control.admit(peer, hello)
        raise NotAuthorised(reason=f"no {hello.purpose} connections are taken on this port")

    async def _serve_enrolment(self, stream: TlsStream) -> None:
        assert self._enrol is not None
        reader = FrameReader(32 << 10, stream.peer_name)
        while (body := reader.next_frame()) is None:
            data = await stream.receive_some()
            if not data:
                # The host compared the authority with its token's fingerprint and left: its message says why.
                raise Unreachable(peer=stream.peer_name, reason="closed before it sent its token")
            reader.feed(data)
        try:
            answer: Any = await self._enrol.enrol(_ENROL.decode(body, stream.peer_name), stream.peer_name)
        except ProtocolViolation:
            raise
        except VdrError as error:
            await stream.send_all(frame_of(refusal_of(error)))
            raise
        await stream.send_all(frame_of(answer))
        await stream.aclose()

    async def _serve_link(
        self, stream: TlsStream, connection: ControlConnection, peer: PeerIdentity, handler: Handler
    ) -> None:
        assert self._control is not None
        limits = self._link_limits
        if peer.role is Role.CONSOLE:
            limits = replace(limits, requests_max=self._limits.console_requests_max)
        try:
            async with open_link(stream, connection, peer, handler, limits) as link:
                log.info("link open peer=%s", link)
                self._links.add(link)
                try:
                    await run_session(link, self._control.session)
                finally:
                    self._links.discard(link)
            log.info("link closed peer=%s reason=%s", link, link.close_reason or "orderly")
        except VdrError as error:
            log.warning("session ended peer=%s at %s reason=%s", peer, stream.peer_name, error.message)
        except Exception:
            # The root of this task: a defect in one session must not end the daemon.
            log.exception("session failed peer=%s at %s", peer, stream.peer_name)

    # Critical sections

    def _arrive(self, host: str) -> None:
        limits = self._limits
        if self._strangers.total() >= limits.strangers_max:
            raise PeerBusy(peer="the listener")
        if self._strangers[host] >= limits.strangers_per_address_max:
            raise PeerBusy(peer="the listener")
        self._strangers[host] += 1

    def _leave(self, host: str) -> None:
        self._strangers[host] -= 1
        if self._strangers[host] <= 0:
            del self._strangers[host]

    def _note_refused(self, peer_name: str, reason: str) -> None:
        self._refused += 1
        log.warning("connection refused peer=%s reason=%s", peer_name, reason)
