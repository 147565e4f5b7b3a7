"""Hostile, broken, slow and mistaken peers against a real listener: refused and logged, others served on."""

import socket
import ssl
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
import trio
import trio.testing

from schemas.link import CONTROL_BYTES_MAX, Hello, Ping, Pong
from vdrd.model.errors import (
    BadInput,
    CertificateRefused,
    ClockWrong,
    NotAuthorised,
    PeerBusy,
    ProtocolViolation,
    Unreachable,
    VersionUnsupported,
)
from vdrd.net.address import Address
from vdrd.net.ca import Authority
from vdrd.net.credentials import self_issue
from vdrd.net.dial import connect, dial, greet
from vdrd.net.identity import Expected, Role
from vdrd.net.link import DeafHandler
from vdrd.net.listen import ListenLimits
from vdrd.net.tls13 import Tls13Profile, stranger_engine
from vdrd.protocol.codec import frame_of
from vdrd.protocol.connection import ControlConnection, Side
from vdrd.protocol.greeting import Versions

CLOSE_NOTIFY = bytes.fromhex("15030300020100")
"""A TLS alert: the peer ends the connection in order."""

QUICK = ListenLimits(greeting_seconds=0.3)


async def ask(world, address, profile=None, **options):
    """One whole link as an honest peer has it."""
    profile = profile or world.profile(Role.AGENT)
    async with dial(
        address, profile, expected=options.pop("expected", world.expected), handler=DeafHandler(), **options
    ) as link:
        return (await link.request(world.Echo("hello"), world.Echo)).text


async def raw(address) -> trio.SocketStream:
    return await trio.open_tcp_stream(address.host, address.port)


async def until_strangers(listener, count: int) -> None:
    """Wait until the listener counts so many: it learns of them from the kernel, in its own time."""
    with trio.fail_after(60):
        while listener.statistics()["strangers"] != count:  # noqa: ASYNC110 - the listener offers no event
            await trio.sleep(0.01)


async def until_closed(stream: trio.SocketStream) -> bytes:
    got = b""
    with trio.fail_after(60):
        while True:
            try:
                data = await stream.receive_some(65536)
            except trio.BrokenResourceError:
                return got
            if not data:
                return got
            got += data


async def assert_cut(stream) -> None:
    """The listener closes the stream, in order or not, and says nothing more."""
    with trio.fail_after(60):
        try:
            while await stream.receive_some():
                pass
        except Unreachable:
            pass
    stream.abandon()


async def test_garbage_instead_of_tls_is_refused_with_reason(world, caplog):
    async with world.listening() as (listener, address):
        for garbage in (b"GET / HTTP/1.1\r\n\r\n", b"\0" * 5000, bytes(range(256)) * 20):
            stream = await raw(address)
            await stream.send_all(garbage)
            await until_closed(stream)
            await stream.aclose()
        assert await ask(world, address) == "HELLO"
        assert listener.statistics()["refused"] == 3
        assert listener.statistics()["strangers"] == 0
    assert caplog.text.count("connection refused") == 3


async def test_silent_and_dribbling_strangers_are_cut_at_the_deadline(world, caplog):
    async with world.listening(limits=QUICK) as (listener, address):
        silent, dribbling = await raw(address), await raw(address)

        engine = world.profile(Role.AGENT).dialer("listener")
        engine.handshake()
        greeting = engine.take_outgoing()

        async def dribble():
            for number in range(len(greeting)):
                try:
                    await dribbling.send_all(greeting[number : number + 1])
                except trio.BrokenResourceError:
                    return
                await trio.sleep(0.02)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(dribble)
            await until_closed(silent)
            await until_closed(dribbling)
            nursery.cancel_scope.cancel()
        await silent.aclose()
        await dribbling.aclose()
        assert await ask(world, address) == "HELLO"
        assert listener.statistics()["refused"] == 2
    assert caplog.text.count("no greeting within 0.3 seconds") == 2


async def test_slow_greeting_inside_tls_is_cut_at_the_deadline(world):
    async with world.listening(limits=QUICK) as (listener, address):
        stream = await connect(address, world.profile(Role.AGENT).dialer)
        await stream.handshake()
        await stream.send_all(b"\x10\0")
        await assert_cut(stream)
        assert listener.statistics()["refused"] == 1


async def test_half_open_peer_that_vanishes_costs_nothing_after_the_limit(world, caplog):
    reception = world.Reception(world.EchoHandler())
    async with world.listening(reception=reception, link_limits=world.quick) as (listener, address):
        stream = await connect(address, world.profile(Role.AGENT).dialer)
        await stream.handshake()
        await greet(stream, "control", software="")
        # From here on nothing is read and nothing is sent, the connection stays.
        with trio.fail_after(60):
            while not reception.links:
                await trio.testing.wait_all_tasks_blocked()
            await reception.links[0].wait_closed()
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert listener.links() == []
        stream.abandon()
    assert "silent" in str(reception.links[0].close_reason)


async def test_too_many_strangers_from_one_address_are_refused_and_others_go_on(world):
    limits = ListenLimits(greeting_seconds=5, strangers_per_address_max=3)
    async with world.listening(limits=limits) as (listener, address):
        strangers = [await raw(address) for _ in range(3)]
        await until_strangers(listener, 3)
        with pytest.raises(Unreachable):
            await ask(world, address)
        for stranger in strangers:
            await stranger.aclose()
        await until_strangers(listener, 0)
        assert await ask(world, address) == "HELLO"


async def test_listener_that_ends_the_handshake_in_order_is_unreachable(world):
    async def refuse(stream: trio.SocketStream) -> None:
        await stream.receive_some()
        await stream.send_all(CLOSE_NOTIFY)
        await stream.aclose()

    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    address = Address("127.0.0.1", listener.socket.getsockname()[1])
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, refuse, [listener])
        with pytest.raises(Unreachable, match="the connection was cut"):
            await ask(world, address)
        nursery.cancel_scope.cancel()


async def test_frame_larger_than_the_bound_closes_the_link_with_reason(world, caplog):
    reception = world.Reception(world.EchoHandler())
    async with world.listening(reception=reception) as (_, address):
        for length in (CONTROL_BYTES_MAX + 1, (1 << 32) - 1):
            stream = await connect(address, world.profile(Role.AGENT).dialer)
            await stream.handshake()
            await greet(stream, "control", software="")
            await stream.send_all(length.to_bytes(4, "little"))
            await assert_cut(stream)
        assert await ask(world, address) == "HELLO"
    assert "frame of 1048577 bytes, at most 1048576 allowed" in caplog.text
    assert all(isinstance(link.close_reason, ProtocolViolation) for link in reception.links[:2])


async def test_hello_larger_than_the_greetings_bound_is_refused(world, caplog):
    async with world.listening() as (_, address):
        stream = await connect(address, world.profile(Role.AGENT).dialer)
        await stream.handshake()
        await stream.send_all((1 << 20).to_bytes(4, "little") + b"x" * 1000)
        await assert_cut(stream)
    assert "at most 16384 allowed" in caplog.text


async def test_peer_of_another_authority_is_refused_by_both_sides(world, tmp_path, caplog):
    other = Authority.create(tmp_path / "other-ca")
    foreign = Tls13Profile(
        self_issue(other, tmp_path / "foreign", Role.AGENT, "0" * 8 + "-0000" * 3 + "-" + "0" * 12)
    )
    async with world.listening() as (_, address):
        with pytest.raises(CertificateRefused) as caught:
            await ask(world, address, foreign)
        assert "enrol that machine again" in caught.value.message
        # A stranger that trusts anybody still needs a certificate of our authority.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.load_cert_chain(foreign.credentials.identity_path)
        foreign._dialing = context
        with pytest.raises(CertificateRefused, match="another authority"):
            await ask(world, address, foreign)
    assert caplog.text.count("connection refused") == 2


async def test_peer_without_certificate_is_refused(world, caplog):
    async with world.listening() as (_, address):
        profile = world.profile(Role.AGENT)
        bare = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        bare.check_hostname = False
        bare.load_verify_locations(cadata=profile.credentials.authority_pem())
        profile._dialing = bare
        with pytest.raises(CertificateRefused, match="wants one and we showed none"):
            await ask(world, address, profile)
    assert "it showed none" in caplog.text


async def test_tls_older_than_1_3_is_refused(world):
    async with world.listening() as (_, address):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.maximum_version = ssl.TLSVersion.TLSv1_2

        def old_handshake():
            with socket.create_connection((address.host, address.port)) as plain:
                context.wrap_socket(plain)

        with pytest.raises(ssl.SSLError, match="PROTOCOL_VERSION"):
            await trio.to_thread.run_sync(old_handshake)


async def test_peer_with_another_role_than_expected_is_refused_by_the_dialler(world):
    async with world.listening(world.profile(Role.NODE)) as (_, address):
        with pytest.raises(CertificateRefused, match="it is a node, not a server"):
            await ask(world, address)


async def test_peer_with_another_uuid_or_fingerprint_is_refused_by_the_dialler(world):
    async with world.listening() as (_, address):
        for expected in (Expected(Role.SERVER, "1" * 36), Expected(Role.SERVER, None, "00" * 32)):
            with pytest.raises(CertificateRefused):
                await ask(world, address, expected=expected)


async def test_revoked_peer_is_refused_and_its_open_link_dropped(world, caplog):
    profile = world.profile(Role.SERVER)
    agent = world.profile(Role.AGENT)
    async with world.listening(profile) as (listener, address):
        async with dial(address, agent, expected=world.expected, handler=DeafHandler()) as link:
            await link.request(world.Echo("x"), world.Echo)
            serial = agent.credentials.identity().serial
            profile.credentials.store_revocations(world.authority.revoke(serial))
            profile.reload()
            assert listener.drop_revoked() == 1
            with trio.fail_after(60):
                await link.wait_closed()
        with pytest.raises((CertificateRefused, Unreachable)):
            await ask(world, address, agent)
        assert await ask(world, address) == "HELLO"
    assert "it was revoked" in caplog.text


async def test_revoked_listener_is_refused_by_the_dialler(world):
    server, agent = world.profile(Role.SERVER), world.profile(Role.AGENT)
    agent.credentials.store_revocations(world.authority.revoke(server.credentials.identity().serial))
    agent.reload()
    async with world.listening(server) as (_, address):
        with pytest.raises(CertificateRefused, match="revoked"):
            await ask(world, address, agent)


@pytest.mark.parametrize(
    ("years", "state"), [(-2, "expired"), (+1, "not valid yet")], ids=["expired", "not-yet-valid"]
)
async def test_certificate_outside_its_time_names_the_clock(world, years, state):
    def then():
        return datetime.now(UTC) + timedelta(days=365 * years)

    late = Authority(world.authority.directory, world.authority._key, world.authority._certificate, then)
    server = Tls13Profile(self_issue(late, world.directory / "late", Role.SERVER, str(uuid4())))
    async with world.listening(server) as (_, address):
        with pytest.raises(ClockWrong) as caught:
            await ask(world, address)
    assert f"its certificate is {state}" in caught.value.message
    assert "set the clocks" in caught.value.message


async def test_dialler_with_a_certificate_outside_its_time_hears_why(world, caplog):
    def then():
        return datetime.now(UTC) - timedelta(days=730)

    late = Authority(world.authority.directory, world.authority._key, world.authority._certificate, then)
    agent = Tls13Profile(self_issue(late, world.directory / "late", Role.AGENT, str(uuid4())))
    async with world.listening() as (_, address):
        with pytest.raises(CertificateRefused, match="the peer finds it expired"):
            await ask(world, address, agent)
    assert "the clock of this machine" in caplog.text


async def test_version_too_new_is_refused_with_both_ranges(world, caplog):
    async with world.listening() as (_, address):
        with pytest.raises(VersionUnsupported) as caught:
            await ask(world, address, versions=Versions(7, 9))
    assert "7 to 9" in caught.value.message
    assert "the server first" in caught.value.message
    assert "connection refused" in caplog.text


async def test_peer_the_reception_does_not_admit_hears_why(world):
    reception = world.Reception(world.EchoHandler(), refusal=NotAuthorised(reason="host is disabled"))
    async with world.listening(reception=reception) as (_, address):
        with pytest.raises(NotAuthorised, match="host is disabled"):
            await ask(world, address)


@pytest.mark.parametrize("purpose", ["data", "enrol"])
async def test_purpose_nobody_takes_here_is_refused(world, purpose):
    async with world.listening() as (_, address):
        stream = await connect(address, world.profile(Role.AGENT).dialer)
        await stream.handshake()
        with pytest.raises((NotAuthorised, BadInput), match=r"taken on this port|no enrolment here"):
            await greet(stream, purpose, software="")
        stream.abandon()


async def test_stranger_without_certificate_may_only_enrol(world):
    class Desk:
        authority_pem = world.authority.certificate_pem

        async def enrol(self, request, address):
            raise AssertionError("not reached")

    async with world.listening(enrol=Desk()) as (_, address):
        for purpose in ("control", "data"):
            stream = await connect(address, stranger_engine)
            await stream.handshake()
            with pytest.raises(NotAuthorised, match="a certificate is needed"):
                await greet(stream, purpose, software="")
            stream.abandon()


async def test_links_above_the_bound_are_refused_as_busy(world):
    async with world.listening(limits=ListenLimits(links_max=1)) as (_, address):
        agent = world.profile(Role.AGENT)
        async with dial(address, agent, expected=world.expected, handler=DeafHandler()) as link:
            await link.request(world.Echo("x"), world.Echo)
            with pytest.raises(PeerBusy):
                await ask(world, address)


async def test_frames_sent_together_with_the_hello_are_answered(world):
    """TCP may deliver the greeting and what follows it at once: nothing of it is lost."""
    async with world.listening() as (_, address):
        stream = await connect(address, world.profile(Role.AGENT).dialer)
        await stream.handshake()
        connection = ControlConnection(Side.DIALER, "listener")
        await stream.send_all(connection.hello(Hello(1, 1, "control")) + frame_of(Ping(1)))
        connection._ping_number = 1
        messages = []
        with trio.fail_after(60):
            while len(messages) < 2:
                connection.feed(await stream.receive_some())
                while (message := connection.next_message()) is not None:
                    messages.append(message)
        assert isinstance(messages[1], Pong)
        stream.abandon()


async def test_port_in_use_raises_naming_the_address(world):
    async with world.listening() as (listener, address):
        with pytest.raises(Unreachable, match=f"{address}.*cannot listen there"):
            await listener.serve([address])
