"""The dialling side of connections on Trio: connect, prove, greet, and come back after a loss.

Owns addresses to streams and the back-off. Knows nothing of what a link carries.
"""

import logging
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import NoReturn

import trio

from schemas.link import Hello, Refused, Welcome
from vdrd.model.errors import CertificateRefused, Unreachable, VdrError
from vdrd.net.address import Address
from vdrd.net.connect_error import reason_of
from vdrd.net.identity import Expected, PeerIdentity
from vdrd.net.link import Handler, Link, LinkLimits, open_link
from vdrd.net.nursery import flat_nursery
from vdrd.net.socket_options import tune
from vdrd.net.stream import TlsStream
from vdrd.net.tls import TlsEngine, TlsProfile
from vdrd.protocol.connection import ControlConnection, Side
from vdrd.protocol.faults import error_of
from vdrd.protocol.greeting import Versions

log = logging.getLogger(__name__)

DIAL_SECONDS = 15.0
"""Connect, handshake and greeting together."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses between attempts: doubling from the first to the longest, each shortened at random by up to a
    half
    so that hundreds of agents do not come back in one moment after the server's restart."""

    first_seconds: float = 0.5
    longest_seconds: float = 15.0

    def pause_seconds(self, attempt: int, chance: float) -> float:
        """Before attempt 1, 2, ...; `chance` is from [0, 1)."""
        whole = min(self.longest_seconds, self.first_seconds * 2.0 ** min(attempt - 1, 30))
        return whole * (1 - chance / 2)


async def connect(address: Address, make_engine: Callable[[str], TlsEngine]) -> TlsStream:
    """A TLS stream to `address`, not yet through the handshake. Raises Unreachable."""
    try:
        transport = await trio.open_tcp_stream(address.host, address.port)
    except OSError as error:
        raise Unreachable(peer=address, reason=reason_of(error)) from error
    tune(transport.socket)
    name = str(address)
    return TlsStream(transport, make_engine(name), name)


async def greet(
    stream: TlsStream, purpose: str, *, software: str, run: str = "", versions: Versions | None = None
) -> tuple[ControlConnection, Welcome]:
    """Say hello and wait for the welcome.

    Raises what the listener refused with, Unreachable, ProtocolViolation.
    """
    connection = ControlConnection(Side.DIALER, stream.peer_name, versions)
    own = connection.versions
    hello = Hello(own.oldest, own.newest, purpose, software, int(time.time()), run)
    await stream.send_all(connection.hello(hello))
    while (answer := connection.next_message()) is None:
        data = await stream.receive_some()
        if not data:
            raise Unreachable(peer=stream.peer_name, reason="the peer closed during the greeting")
        connection.feed(data)
    if isinstance(answer, Refused):
        raise error_of(answer)
    assert isinstance(answer, Welcome)
    return connection, answer


def _checked(peer: PeerIdentity | None, expected: Expected, address: Address) -> PeerIdentity:
    if peer is None:
        raise CertificateRefused(peer=address, reason="it showed none")
    expected.check(peer)
    return peer


@asynccontextmanager
async def _proven(
    address: Address, profile: TlsProfile, expected: Expected, seconds: float
) -> AsyncIterator[tuple[TlsStream, PeerIdentity]]:
    """A stream through the handshake to the expected peer; closed when the block fails."""
    stream: TlsStream | None = None
    try:
        with trio.fail_after(seconds):
            stream = await connect(address, profile.dialer)
            yield stream, _checked(await stream.handshake(), expected, address)
    except trio.TooSlowError as error:
        if stream is not None:
            stream.abandon()
        raise Unreachable(peer=address, reason=f"no answer within {seconds:g} seconds") from error
    except BaseException:
        if stream is not None:
            stream.abandon()
        raise


@asynccontextmanager
async def dial(
    address: Address,
    profile: TlsProfile,
    *,
    expected: Expected,
    handler: Handler,
    software: str = "",
    limits: LinkLimits | None = None,
    seconds: float = DIAL_SECONDS,
    versions: Versions | None = None,
) -> AsyncIterator[Link]:
    """A control link to `address`, open inside the block.

    Raises Unreachable, CertificateRefused (wrong CA, role, UUID, revoked), ClockWrong, VersionUnsupported,
    or what the listener refused with.
    """
    async with _proven(address, profile, expected, seconds) as (stream, peer):
        connection, _ = await greet(stream, "control", software=software, versions=versions)
    async with open_link(stream, connection, peer, handler, limits or LinkLimits()) as link:
        log.info("link open peer=%s", link)
        yield link
    log.info("link closed peer=%s reason=%s", link, link.close_reason or "orderly")


async def keep_dialed(
    addresses: Sequence[Address],
    profile: TlsProfile,
    session: Callable[[Link], Awaitable[None]],
    *,
    expected: Expected,
    handler: Handler,
    software: str = "",
    limits: LinkLimits | None = None,
    backoff: Backoff | None = None,
    on_down: Callable[[VdrError], None] = lambda error: None,
    chance: Callable[[], float] = random.random,
) -> NoReturn:
    """Keep a link to one of `addresses` for ever: `session` runs while one is open and is cancelled when it
    closes.

    The address that served last is tried first, then the next one; the pause comes after all of them.
    `on_down` hears of every failed attempt and lost link. What `session` raises ends the link like a loss, if
    it is a VdrError; anything else comes out.
    """
    backoff = backoff or Backoff()
    attempt = at = failed = 0
    while True:
        address = addresses[at]
        try:
            async with dial(
                address, profile, expected=expected, handler=handler, software=software, limits=limits
            ) as link:
                opened_at = trio.current_time()
                failed = -1
                try:
                    await run_session(link, session)
                finally:
                    # A link that ends as soon as it opens is a failed attempt like any other.
                    if trio.current_time() - opened_at >= backoff.longest_seconds:
                        attempt = 0
                raise link.close_reason or Unreachable(peer=link, reason="the peer closed the link")
        except VdrError as error:
            log.warning("link down peer=%s reason=%s", address, error.message)
            on_down(error)
        failed += 1
        if failed:
            at = (at + 1) % len(addresses)
        if failed % len(addresses) == 0:
            attempt += 1
            await trio.sleep(backoff.pause_seconds(attempt, chance()))


async def run_session(link: Link, session: Callable[[Link], Awaitable[None]]) -> None:
    """Run `session` while the link is open.

    Returns when the link is closed, whatever the session does before.
    """
    async with flat_nursery() as nursery:
        nursery.start_soon(session, link)
        await link.wait_closed()
        nursery.cancel_scope.cancel()


async def dial_detached(
    address: Address,
    profile: TlsProfile,
    *,
    expected: Expected,
    purpose: str = "data",
    run: str = "",
    software: str = "",
    seconds: float = DIAL_SECONDS,
) -> "Detached":
    """A greeted connection given up to blocking code, for a data channel. Raises as `dial`."""
    async with _proven(address, profile, expected, seconds) as (stream, peer):
        connection, _ = await greet(stream, purpose, software=software, run=run)
        connection.check_nothing_follows()
    return Detached.of(stream, peer)


@dataclass(frozen=True, slots=True)
class Detached:
    """A greeted TLS connection outside Trio. Whoever holds it closes the socket."""

    descriptor: int
    engine: TlsEngine
    peer: PeerIdentity
    address: str

    @classmethod
    def of(cls, stream: TlsStream, peer: PeerIdentity) -> "Detached":
        """Take the connection out of a stream, which must not be used any more."""
        plain, engine = stream.detach()
        return cls(plain.detach(), engine, peer, stream.peer_name)
