"""The asyncio shell against the Trio listener, each in its own event loop."""

import asyncio
import threading
from contextlib import contextmanager

import pytest
import trio

from vdrd.model.errors import CertificateRefused, NotFound, Unreachable
from vdrd.net.asyncio_link import AsyncioLink
from vdrd.net.identity import Expected, Role
from vdrd.net.link import LinkLimits


@contextmanager
def serving(world, reception, **options):
    """A Trio listener in a thread; gives its address and a way to run functions there."""
    ready: list = []
    started = threading.Event()

    async def main():
        async with world.listening(reception=reception, **options) as (_, address):
            stop = trio.Event()
            ready.extend((address, stop, trio.lowlevel.current_trio_token()))
            started.set()
            await stop.wait()

    thread = threading.Thread(target=trio.run, args=(main,))
    thread.start()
    assert started.wait(60)
    address, stop, token = ready
    try:
        yield address, lambda function: trio.from_thread.run_sync(function, trio_token=token)
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=token)
        thread.join(60)
        assert not thread.is_alive()


def test_request_over_asyncio_returns_reply_and_known_error(world):
    handler = world.EchoHandler(failure=NotFound(what="job", name="x"))

    async def main(address):
        link = await AsyncioLink.connect(address, world.profile(Role.CONSOLE), expected=world.expected)
        replies = await asyncio.gather(*(link.request(world.Echo(f"n{i}"), world.Echo) for i in range(30)))
        with pytest.raises(NotFound, match="job not found: x"):
            await link.request(world.Echo(fail="x"), world.Echo)
        with pytest.raises(Unreachable, match="no answer"):
            await link.request(world.Echo("wait"), world.Echo, deadline_seconds=0.1)
        big = await link.request(world.Echo("b" * 900_000), world.Echo)
        await link.aclose()
        with pytest.raises(Unreachable):
            await link.request(world.Echo("late"), world.Echo)
        return [reply.text for reply in replies], len(big.text)

    with serving(world, world.Reception(handler)) as (address, _):
        texts, big = asyncio.run(main(address))
    assert texts == [f"N{i}" for i in range(30)]
    assert big == 900_000
    assert handler.cancelled == ["wait"]


def test_notification_over_asyncio_reaches_callback(world):
    reception = world.Reception(world.EchoHandler())

    async def tell(link):
        for number in range(20):
            await link.notify(world.Note(str(number)))

    reception.session_run = tell

    async def main(address):
        seen: list[str] = []
        done = asyncio.Event()

        async def take(note):
            seen.append(note.text)
            if len(seen) == 20:
                done.set()

        link = await AsyncioLink.connect(
            address, world.profile(Role.CONSOLE), expected=world.expected, family=world.Note, on_notify=take
        )
        await asyncio.wait_for(done.wait(), 10)
        await link.aclose()
        return seen

    with serving(world, reception) as (address, _):
        assert asyncio.run(main(address)) == [str(number) for number in range(20)]


def test_link_over_asyncio_peer_closes_fails_requests(world):
    reception = world.Reception(world.EchoHandler())

    async def main(address, in_trio):
        link = await AsyncioLink.connect(address, world.profile(Role.CONSOLE), expected=world.expected)
        asking = asyncio.create_task(link.request(world.Echo("wait"), world.Echo))
        assert await asyncio.to_thread(reception.handler.waits.wait, 10)
        await asyncio.to_thread(in_trio, reception.links[0].close)
        with pytest.raises(Unreachable):
            await asking
        await link.wait_closed()
        await link.aclose()

    with serving(world, reception) as (address, in_trio):
        asyncio.run(main(address, in_trio))


def test_link_over_asyncio_silent_peer_is_given_up(world):
    reception = world.Reception(world.EchoHandler())
    reception.handler.release = None  # the handler is never reached
    stuck = LinkLimits(heartbeat_seconds=1000, dead_seconds=1000)

    async def hold(link):
        # Takes the reader away: nothing is answered any more, the connection stays.
        link._stream.receive_some = trio.sleep_forever

    reception.session_run = hold

    async def main(address):
        link = await AsyncioLink.connect(
            address,
            world.profile(Role.CONSOLE),
            expected=world.expected,
            heartbeat_seconds=0.05,
            dead_seconds=0.3,
        )
        await asyncio.wait_for(link.wait_closed(), 10)
        reason = str(link.close_reason)
        await link.aclose()
        return reason

    with serving(world, reception, link_limits=stuck) as (address, _):
        assert "silent" in asyncio.run(main(address))


def test_connect_over_asyncio_wrong_role_or_nobody_there_raises(world):
    async def main(address):
        with pytest.raises(CertificateRefused, match="not a node"):
            await AsyncioLink.connect(address, world.profile(Role.CONSOLE), expected=Expected(Role.NODE))

    with serving(world, world.Reception(world.EchoHandler())) as (address, _):
        asyncio.run(main(address))

    async def nobody():
        with pytest.raises(Unreachable):
            await AsyncioLink.connect(address, world.profile(Role.CONSOLE), expected=world.expected)

    asyncio.run(nobody())
