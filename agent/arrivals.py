"""Data channels that nodes dial to a passive agent, kept until their run takes them. All on the loop's
thread."""

import os

import trio

from schemas.link import Hello
from vdrd.model.errors import NotAuthorised, NotFound
from vdrd.net.dial import Detached
from vdrd.net.identity import PeerIdentity, Role


class Arrivals:
    """`DataReception` of a passive agent's listener."""

    def __init__(self) -> None:
        self._expected: dict[str, tuple[str, trio.MemorySendChannel[Detached]]] = {}

    def expect(self, run_id: str, fingerprint: str, count: int) -> "Waiting":
        """Let the node with this certificate open channels for a run, until the result is closed."""
        sender, receiver = trio.open_memory_channel[Detached](count)
        self._expected[run_id] = (fingerprint, sender)
        return Waiting(self, run_id, receiver)

    def forget(self, run_id: str) -> None:
        """No more channels for this run."""
        self._expected.pop(run_id, None)

    def admit_data(self, peer: PeerIdentity, hello: Hello) -> None:
        """Raises NotAuthorised, NotFound when no run waits for this node."""
        if peer.role is not Role.NODE:
            raise NotAuthorised(reason="only nodes open data channels to an agent")
        if hello.run not in self._expected:
            raise NotFound(what="run", name=hello.run)
        if self._expected[hello.run][0] != peer.fingerprint:
            raise NotAuthorised(reason="this run belongs to another node")

    def adopt(self, connection: Detached, hello: Hello) -> None:
        """Hand a channel to its run; one too many is closed."""
        waiting = self._expected.get(hello.run)
        if waiting is None:
            os.close(connection.descriptor)
            return
        try:
            waiting[1].send_nowait(connection)
        except (trio.WouldBlock, trio.BrokenResourceError):
            os.close(connection.descriptor)


class Waiting:
    """The channels of one run as they come."""

    def __init__(
        self, arrivals: Arrivals, run_id: str, receiver: trio.MemoryReceiveChannel[Detached]
    ) -> None:
        self._arrivals = arrivals
        self._run_id = run_id
        self._receiver = receiver

    def close(self) -> None:
        """Take no more; those that nobody took are closed. Twice does nothing."""
        self._arrivals.forget(self._run_id)
        try:
            while True:
                os.close(self._receiver.receive_nowait().descriptor)
        except (trio.WouldBlock, trio.EndOfChannel, trio.ClosedResourceError):
            self._receiver.close()

    async def next(self) -> Detached:
        """The next channel; the deadline is the caller's."""
        return await self._receiver.receive()
