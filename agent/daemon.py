"""The agent as a whole: puts the parts together, keeps its link to the server, stops in order."""

import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import trio

from agent.config import AgentConfig
from agent.enrolment import MODES, SOFTWARE, operating_system
from agent.handler import AgentHandler
from agent.runs import AgentRuns
from agent.state import AgentState, Enrolment
from schemas.control import (
    Ack,
    CertificateRenew,
    CertificateRenewed,
    Register,
    Registered,
    RunEnded,
    RunProgressed,
)
from schemas.link import Hello
from vdrd import __version__
from vdrd.model.errors import BadInput, NotAuthorised, VdrError
from vdrd.model.rate import RateLimit
from vdrd.net.address import AGENT_PORT, SERVER_PORT, Address
from vdrd.net.dial import keep_dialed
from vdrd.net.enrol import Renewal
from vdrd.net.identity import Expected, PeerIdentity, Role
from vdrd.net.link import Link
from vdrd.net.listen import LinkListener
from vdrd.net.nursery import flat_nursery
from vdrd.net.tls13 import Tls13Profile

log = logging.getLogger(__name__)

CAPABILITIES = ["disk", "files"]
RENEWAL_LOOK_SECONDS = 3600.0


class ModeWrong(BadInput):
    """The mode is none, or does not fit what enrolment told."""

    code = "agent-mode-wrong"
    template = "the agent cannot be {mode}: {reason}"
    hint = "set mode to active or passive, or enrol with: vdr-agent enrol TOKEN --mode MODE"


class Agent:
    """A running agent. Made by `serve`. `ControlReception` of its listener when it is passive."""

    def __init__(self, config: AgentConfig, state: AgentState, nursery: trio.Nursery) -> None:
        self._config = config
        self._nursery = nursery
        self._link: Link | None = None
        self.mode = ""
        self.addresses: tuple[Address, ...] = ()
        """Where a passive agent waits, with real ports."""
        self.credentials = state.credentials
        self.profile = Tls13Profile(self.credentials)
        self.rate = RateLimit(config.rate_limit_bytes_per_second)
        self.runs = AgentRuns(
            self.profile,
            nursery,
            runs_max=config.runs_max,
            rate=self.rate,
            software=SOFTWARE,
            on_progress=self._progressed,
            on_ended=lambda ended: nursery.start_soon(self._deliver, ended),
        )
        self.handler = AgentHandler(self.runs, self._revoke)

    async def admit(self, peer: PeerIdentity, _hello: Hello) -> AgentHandler:
        """A passive agent is directed by the server only."""
        if peer.role is not Role.SERVER:
            raise NotAuthorised(reason="only the server directs an agent")
        return self.handler

    async def session(self, link: Link) -> None:
        """Register, give up what the server does not want, report what it missed; then stay."""
        registered = await link.request(
            Register(
                host_name=socket.gethostname(),
                version=__version__,
                operating_system=operating_system(),
                capabilities=CAPABILITIES,
                now=datetime.now(UTC),
                held_runs=self.runs.held(),
            ),
            Registered,
        )
        self._link = link
        try:
            log.info("registered server=%s name=%s", registered.server_id, registered.name)
            for run_id in registered.drop_runs:
                self.runs.cancel(run_id)
            for ended in self.runs.undelivered():
                await self._deliver(ended)
            while True:
                await self._renew_if_due(link)
                await trio.sleep(RENEWAL_LOOK_SECONDS)
        finally:
            if self._link is link:
                self._link = None

    async def stop(self) -> None:
        """End all runs so that they can be tried again, and tell the server."""
        await self.runs.stop(self._config.stop_seconds)
        with trio.move_on_after(2):
            for ended in self.runs.undelivered():
                await self._deliver(ended)
        if self._link is not None:
            self._link.close("the agent stops")

    async def _renew_if_due(self, link: Link) -> None:
        try:
            if not await trio.to_thread.run_sync(self.credentials.is_renewal_due, datetime.now(UTC)):
                return
            renewal = await trio.to_thread.run_sync(Renewal.begin)
            answer = await link.request(CertificateRenew(request_pem=renewal.request_pem), CertificateRenewed)
            await trio.to_thread.run_sync(renewal.finish, self.credentials, answer.certificate_pem)
            self.profile.reload()
            log.info("own certificate renewed")
        except VdrError as error:
            # Tried again at the next look and after each new link; a third of the lifetime is left for that.
            log.warning("own certificate not renewed reason=%s", error.message)

    async def _deliver(self, ended: RunEnded) -> None:
        """Report the end of a run; without a link the next registration does. Root of a task."""
        link = self._link
        if link is None:
            return
        try:
            await link.request(ended, Ack)
        except VdrError as error:
            log.warning("run end not delivered run=%s reason=%s", ended.run_id, error)
        else:
            self.runs.delivered(ended)

    def _progressed(self, message: RunProgressed) -> None:
        if self._link is not None:
            self._nursery.start_soon(self._notify, self._link, message)

    async def _notify(self, link: Link, message: RunProgressed) -> None:
        try:
            await link.notify(message)
        except VdrError:
            # Progress that is lost does no harm.
            return

    def _revoke(self, revoked_pem: str) -> None:
        self.credentials.store_revocations(revoked_pem)
        self.profile.reload()


def resolved_mode(config: AgentConfig, enrolment: Enrolment) -> str:
    """`active` or `passive`. Raises ModeWrong."""
    mode = config.mode or enrolment.mode
    if mode not in MODES:
        raise ModeWrong(mode=mode, reason="there is no such mode")
    if mode == "active" and not (config.server or enrolment.servers):
        raise ModeWrong(mode=mode, reason="it does not know its server")
    return mode


async def serve(
    config: AgentConfig,
    *,
    task_status: trio.TaskStatus[Agent] = trio.TASK_STATUS_IGNORED,
    stop_asked: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Run the agent until SIGTERM or SIGINT (or until `stop_asked` returns), then end its runs in order.

    Raises NotEnrolled, ModeWrong, KeyFileUnusable, and Unreachable when a passive agent cannot listen.
    """
    state = AgentState(config.state_directory)
    enrolment = await trio.to_thread.run_sync(state.load)
    mode = resolved_mode(config, enrolment)
    async with flat_nursery() as nursery:
        agent = Agent(config, state, nursery)
        agent.mode = mode
        log.info("agent started identity=%s mode=%s", agent.credentials.identity(), mode)
        if mode == "active":
            texts = [config.server] if config.server else enrolment.servers
            servers = [Address.parse(text, SERVER_PORT) for text in texts]
            nursery.start_soon(_keep_linked, agent, servers)
        else:
            listener = LinkListener(agent.profile, control=agent, data=agent.runs.arrivals, software=SOFTWARE)
            addresses = [Address.parse(text, AGENT_PORT) for text in config.listen]
            agent.addresses = await nursery.start(listener.serve, addresses)
        task_status.started(agent)
        await (stop_asked or _signalled)()
        log.info("agent stopping")
        await agent.stop()
        nursery.cancel_scope.cancel()
    log.info("agent stopped")


async def _keep_linked(agent: Agent, servers: list[Address]) -> None:
    await keep_dialed(
        servers,
        agent.profile,
        agent.session,
        expected=Expected(Role.SERVER),
        handler=agent.handler,
        software=SOFTWARE,
    )


async def _signalled() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        # In force again once the receiver is gone: a second signal does not hurry the end of runs.
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async for _ in signals:
            return
