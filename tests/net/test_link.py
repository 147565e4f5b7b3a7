"""Control links over real TLS on loopback."""

import pytest
import trio
import trio.testing

from vdrd.model.errors import MessageTooLarge, NotFound, PeerBusy, PeerFailed, ProtocolViolation, Unreachable
from vdrd.net.address import Address
from vdrd.net.dial import Backoff, dial, keep_dialed
from vdrd.net.identity import Role
from vdrd.net.link import DeafHandler, LinkLimits
from vdrd.net.listen import LinkListener


@pytest.fixture
def echo(world):
    return world.EchoHandler()


@pytest.fixture
def reception(world, echo):
    return world.Reception(echo)


async def test_request_answered_by_listener_returns_reply(world, reception):
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        reply = await link.request(world.Echo("hello"), world.Echo)
    assert reply.text == "HELLO"


async def test_request_from_listener_to_dialer_returns_reply(world, reception):
    answers = []

    async def ask_back(link):
        answers.append(await link.request(world.Echo("back"), world.Echo))
        link.close("done")

    reception.session_run = ask_back
    async with (
        world.listening(reception=reception) as (_, address),
        dial(
            address, world.profile(Role.AGENT), expected=world.expected, handler=world.EchoHandler()
        ) as link,
    ):
        await link.wait_closed()
    assert [answer.text for answer in answers] == ["BACK"]
    assert link.close_reason is None


async def test_request_many_at_once_each_gets_its_own_reply(world, reception):
    texts = [f"n{number}" for number in range(50)]
    got = {}

    async def ask(link, text):
        got[text] = (await link.request(world.Echo(text), world.Echo)).text

    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
        trio.open_nursery() as nursery,
    ):
        for text in texts:
            nursery.start_soon(ask, link, text)
    assert got == {text: text.upper() for text in texts}


async def test_request_failing_with_known_error_raises_the_same_class(world, reception, echo):
    echo.failure = NotFound(what="point", name="abc")
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        with pytest.raises(NotFound, match="point not found: abc"):
            await link.request(world.Echo(fail="x"), world.Echo)
        assert (await link.request(world.Echo("on"), world.Echo)).text == "ON"


async def test_request_meeting_a_defect_raises_without_leaking_detail(world, reception, echo, caplog):
    echo.failure = ZeroDivisionError("secret detail")
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        with pytest.raises(PeerFailed) as caught:
            await link.request(world.Echo(fail="x"), world.Echo)
    assert "secret" not in caught.value.message
    assert "secret detail" in caplog.text


async def test_request_unanswered_by_deadline_raises_and_withdraws(world, reception, echo):
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        with pytest.raises(Unreachable, match="no answer to Echo within"):
            await link.request(world.Echo("wait"), world.Echo, deadline_seconds=0.1)
        assert (await link.request(world.Echo("next"), world.Echo)).text == "NEXT"
        assert echo.cancelled == ["wait"]


async def test_request_above_the_peers_bound_raises_busy(world, reception, echo):
    limits = LinkLimits(requests_max=2)
    async with (
        world.listening(reception=reception, link_limits=limits) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
        trio.open_nursery() as nursery,
    ):
        for _ in range(2):
            nursery.start_soon(link.request, world.Echo("wait"), world.Echo)
        await trio.testing.wait_all_tasks_blocked(0.05)
        with pytest.raises(PeerBusy):
            await link.request(world.Echo("third"), world.Echo)
        echo.release.set()


async def test_request_too_large_raises_and_leaves_the_link_open(world, reception):
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        with pytest.raises(MessageTooLarge):
            await link.request(world.Echo("x" * (1 << 20)), world.Echo)
        assert (await link.request(world.Echo("y" * 900_000), world.Echo)).text == "Y" * 900_000


async def test_request_or_notification_of_unknown_type_is_refused_and_the_link_goes_on(
    world, reception, caplog
):
    class Odd(world.Echo, tag="odd"):
        pass

    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        await link.notify(Odd())
        with pytest.raises(ProtocolViolation, match="odd"):
            await link.request(Odd(), world.Echo)
        assert (await link.request(world.Echo("on"), world.Echo)).text == "ON"
    assert "request not understood" in caplog.text
    assert "notification not understood" in caplog.text


async def test_notify_many_arrive_in_order(world, reception, echo):
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
    ):
        for number in range(500):
            await link.notify(world.Note(str(number)))
        while len(echo.notes) < 500:
            await link.request(world.Echo("are we there"), world.Echo)
    assert echo.notes == [str(number) for number in range(500)]


async def test_link_idle_stays_open_by_heartbeats(world, reception):
    async with (
        world.listening(reception=reception, link_limits=world.quick) as (_, address),
        dial(
            address,
            world.profile(Role.AGENT),
            expected=world.expected,
            handler=DeafHandler(),
            limits=world.quick,
        ) as link,
    ):
        with trio.move_on_after(1):
            await link.wait_closed()
        assert link.is_open


async def test_link_silent_peer_is_given_up_within_limit(world, reception):
    # The listener never pings and never answers: its reader is held by a handler that takes no notification.
    stuck = LinkLimits(heartbeat_seconds=1000, dead_seconds=1000, notifications_max=0)
    async with (
        world.listening(reception=reception, link_limits=stuck) as (_, address),
        dial(
            address,
            world.profile(Role.AGENT),
            expected=world.expected,
            handler=DeafHandler(),
            limits=world.quick,
        ) as link,
    ):
        await link.notify(world.Note("stop"))
        await link.notify(world.Note("2"))
        with trio.fail_after(60):
            await link.wait_closed()
    assert "silent" in str(link.close_reason)


async def test_link_closed_by_peer_fails_requests_under_way(world, reception, echo):
    async with (
        world.listening(reception=reception) as (_, address),
        dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()) as link,
        trio.open_nursery() as nursery,
    ):

        async def ask():
            with pytest.raises(Unreachable):
                await link.request(world.Echo("wait"), world.Echo)

        nursery.start_soon(ask)
        assert await trio.to_thread.run_sync(echo.waits.wait, 10)
        reception.links[0].close("maintenance")


async def test_link_body_error_leaves_as_itself(world, reception):
    async with world.listening(reception=reception) as (_, address):
        with pytest.raises(KeyError, match="mine"):
            async with dial(
                address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()
            ):
                raise KeyError("mine")


async def test_keep_dialed_listener_restarted_comes_back(world, reception):
    profile = world.profile(Role.SERVER)
    seen, downs, down_thrice = [], [], trio.Event()

    def note_down(error):
        downs.append(error)
        if len(downs) == 3:
            down_thrice.set()

    async def session(link):
        seen.append(link)
        events.set()
        await trio.sleep_forever()

    async with trio.open_nursery() as nursery:
        events = trio.Event()
        async with world.listening(profile, reception=reception) as (_, address):
            nursery.start_soon(
                lambda: keep_dialed(
                    [address],
                    world.profile(Role.AGENT),
                    session,
                    expected=world.expected,
                    handler=DeafHandler(),
                    backoff=Backoff(0.02, 0.05),
                    on_down=note_down,
                )
            )
            await events.wait()
        events = trio.Event()
        await down_thrice.wait()
        again = LinkListener(profile, control=reception)
        await nursery.start(again.serve, [address])
        with trio.fail_after(60):
            await events.wait()
        nursery.cancel_scope.cancel()
    assert len(seen) == 2
    assert all(isinstance(error, Unreachable) for error in downs)


async def test_keep_dialed_tries_every_address_before_it_pauses(world, reception):
    linked, tried = trio.Event(), []
    nobody = [Address("127.0.0.1", 1), Address("127.0.0.1", 2)]

    async def session(_link):
        linked.set()
        await trio.sleep_forever()

    async with (
        world.listening(world.profile(Role.SERVER), reception=reception) as (_, address),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(
            lambda: keep_dialed(
                [*nobody, address],
                world.profile(Role.AGENT),
                session,
                expected=world.expected,
                handler=DeafHandler(),
                backoff=Backoff(3600, 3600),
                on_down=tried.append,
            )
        )
        with trio.fail_after(60):
            await linked.wait()
        nursery.cancel_scope.cancel()
    assert [str(error.fields["peer"]) for error in tried] == [str(one) for one in nobody]


def test_backoff_attempts_grow_to_the_longest():
    backoff = Backoff(1, 8)
    assert [backoff.pause_seconds(attempt, 0.0) for attempt in range(1, 7)] == [1, 2, 4, 8, 8, 8]
    assert backoff.pause_seconds(1000, 0.999) == pytest.approx(4, rel=0.01)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (Address("127.0.0.1", 9), "connection refused"),
        (Address("no-such-host.invalid", 9), "not known|resolution"),
    ],
    ids=["nobody listens", "no such name"],
)
async def test_dial_that_cannot_connect_says_why_in_few_words(world, address, reason):
    with pytest.raises(Unreachable, match=rf"^cannot reach {address}: [a-z, ]*({reason})[a-z, ]*$"):
        async with dial(address, world.profile(Role.AGENT), expected=world.expected, handler=DeafHandler()):
            pass
