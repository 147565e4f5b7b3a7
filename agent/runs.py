"""The runs this agent works on: started, watched, cancelled, ended, reported until the server has taken note.

State changes in plain functions on the loop; the work itself is in threads. A run holds its data channels
from its start; when they break it fails at once and the server decides about another attempt.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

import trio

from agent.arrivals import Arrivals, Waiting
from agent.work import Outcome, perform
from schemas.api.words import LogLevel, RunState
from schemas.control import HeldRun, LoggedLine, RunEnded, RunProgressed, RunStart
from vdrd.model.errors import Cancelled, Interrupted, PeerBusy, Unreachable, VdrError
from vdrd.model.progress import Cancel, Progress
from vdrd.model.rate import RateLimit
from vdrd.net.address import NODE_PORT, Address
from vdrd.net.channel import DataChannel
from vdrd.net.dial import Detached, dial_detached
from vdrd.net.identity import Expected, Role
from vdrd.net.remote import ChannelPool
from vdrd.net.tls import TlsProfile

log = logging.getLogger(__name__)

CONNECT_SECONDS = 45.0
"""From the start of a run to its last data channel; less than the life of a ticket."""
CANCEL_SECONDS = 5.0
"""How long a cancelled run may finish its batch before its channels are cut."""
PROGRESS_SECONDS = 0.5
LINES_MAX = 200
"""Lines in a report: some 200 KiB at worst; the point keeps up to 1,000 warnings."""
_LINE_CHARACTERS_MAX = 1000


@dataclass(slots=True)
class AgentRun:
    """A run on this agent."""

    start: RunStart
    cancel: Cancel = field(default_factory=Cancel)
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """Of connecting; the work in its thread ends by `cancel`."""
    pool: ChannelPool | None = None
    outcome: Outcome = field(default_factory=Outcome)
    is_stopping: bool = False
    """True when the agent ends, not when somebody cancelled the run."""
    waiting: Waiting | None = None
    """Of a passive agent: the channels the node will dial."""
    ended: RunEnded | None = None
    """How it ended, until the server has taken note."""
    gone: trio.Event = field(default_factory=trio.Event)


class AgentRuns:
    """All runs of this agent by id."""

    def __init__(
        self,
        profile: TlsProfile,
        nursery: trio.Nursery,
        *,
        runs_max: int,
        rate: RateLimit,
        software: str,
        on_progress: Callable[[RunProgressed], None],
        on_ended: Callable[[RunEnded], None],
    ) -> None:
        self.arrivals = Arrivals()
        self._profile = profile
        self._nursery = nursery
        self._rate = rate
        self._software = software
        self._on_progress = on_progress
        self._on_ended = on_ended
        self._runs: dict[str, AgentRun] = {}
        self._runs_max = runs_max
        self._threads = trio.CapacityLimiter(runs_max)
        self._is_stopping = False
        self._token = trio.lowlevel.current_trio_token()

    def held(self) -> list[HeldRun]:
        """What the server is told at registration: runs at work, and those whose end it has not heard of."""
        return [HeldRun(run_id=run_id, attempt=run.start.spec.attempt) for run_id, run in self._runs.items()]

    def undelivered(self) -> list[RunEnded]:
        """Ends of runs the server has not taken note of."""
        return [run.ended for run in self._runs.values() if run.ended is not None]

    def delivered(self, ended: RunEnded) -> None:
        """The server has taken note."""
        run = self._runs.get(ended.run_id)
        if run is not None and run.ended is ended:
            del self._runs[ended.run_id]

    def begin(self, start: RunStart) -> None:
        """Take a run on; the same attempt again does nothing. Raises PeerBusy, Interrupted."""
        spec = start.spec
        known = self._runs.get(spec.run_id)
        if known is not None and known.start.spec.attempt >= spec.attempt:
            return
        if self._is_stopping:
            raise Interrupted(reason="the agent is stopping")
        if known is not None:
            self.cancel(spec.run_id)
        if sum(run.ended is None for run in self._runs.values()) >= self._runs_max:
            raise PeerBusy(peer="the agent")
        run = self._runs[spec.run_id] = AgentRun(start)
        if not start.data_address:
            # At once: the node may dial as soon as the server has our answer.
            count = len(start.tickets)
            run.waiting = self.arrivals.expect(spec.run_id, start.certificate_fingerprint, count)
        log.info("run begun run=%s attempt=%d kind=%s", spec.run_id, spec.attempt, spec.kind)
        self._nursery.start_soon(self._run, run)

    def cancel(self, run_id: str) -> None:
        """Stop a run at its next batch; an unknown or ended one is left alone."""
        run = self._runs.get(run_id)
        if run is not None and run.ended is None:
            self._stop(run)

    async def stop(self, seconds: float) -> None:
        """Stop all runs, for the end of the agent: they are reported as interrupted, to be tried again."""
        self._is_stopping = True
        running = [run for run in self._runs.values() if run.ended is None]
        for run in running:
            run.is_stopping = True
            self._stop(run)
        with trio.move_on_after(seconds):
            for run in running:
                await run.gone.wait()

    def statistics(self) -> dict[str, int]:
        """Counters."""
        return {"runs": len(self._runs), "working": int(self._threads.borrowed_tokens)}

    def _stop(self, run: AgentRun) -> None:
        run.cancel.request()
        run.scope.cancel()
        self._nursery.start_soon(self._cut_later, run)

    async def _cut_later(self, run: AgentRun) -> None:
        """A thread that waits for the network does not look at its cancel: end that wait."""
        with trio.move_on_after(CANCEL_SECONDS):
            await run.gone.wait()
        if not run.gone.is_set() and run.pool is not None:
            run.pool.fail(Cancelled())

    async def _run(self, run: AgentRun) -> None:
        """The root of a run's task: every ending becomes a report."""
        try:
            with run.scope:
                run.pool = await self._connected(run)
            if run.pool is None:
                ended = self._failed(run, Cancelled())
            else:
                await trio.to_thread.run_sync(self._work, run, run.pool, limiter=self._threads)
                ended = self._ended(run, RunState.WARNING if run.outcome.warning_count else RunState.DONE)
        except VdrError as error:
            ended = self._failed(run, error)
        except Exception as error:
            log.exception("run broke run=%s", run.start.spec.run_id)
            defect = VdrError(what=f"a defect in the agent: {type(error).__name__}: {error}")
            ended = self._ended(run, RunState.FAILED, defect)
        finally:
            run.gone.set()
        spec = run.start.spec
        log.info(
            "run ended run=%s attempt=%d state=%s %s", spec.run_id, spec.attempt, ended.state, ended.error
        )
        if self._runs.get(spec.run_id) is run:
            run.ended = ended
            self._on_ended(ended)

    async def _connected(self, run: AgentRun) -> ChannelPool:
        start = run.start
        connections: list[Detached] = []
        try:
            with trio.fail_after(CONNECT_SECONDS):
                while len(connections) < len(start.tickets):
                    connections.append(await self._connection(run))
        except trio.TooSlowError as error:
            self._discard(connections)
            reason = (
                f"{len(connections)} of {len(start.tickets)} data channels in {CONNECT_SECONDS:.0f} seconds"
            )
            raise Unreachable(peer=start.data_address or "the node", reason=reason) from error
        except BaseException:
            self._discard(connections)
            raise
        finally:
            if run.waiting is not None:
                run.waiting.close()
        channels = [DataChannel(connection, is_agent=True, rate=self._rate) for connection in connections]
        return await trio.to_thread.run_sync(ChannelPool.open, channels, start.tickets)

    async def _connection(self, run: AgentRun) -> Detached:
        if run.waiting is not None:
            return await run.waiting.next()
        start = run.start
        return await dial_detached(
            Address.parse(start.data_address, NODE_PORT),
            self._profile,
            expected=Expected(Role.NODE, None, start.certificate_fingerprint or None),
            run=start.spec.run_id,
            software=self._software,
        )

    def _discard(self, connections: list[Detached]) -> None:
        for connection in connections:
            DataChannel(connection, is_agent=True).close()

    def _work(self, run: AgentRun, pool: ChannelPool) -> None:
        """In the run's thread."""
        try:
            perform(run.start, pool, run.outcome, self._reporter(run), run.cancel)
        finally:
            pool.close("cancelled" if run.cancel.is_requested else "")

    def _reporter(self, run: AgentRun) -> Callable[[int, Progress], None]:
        """Passes progress from the threads to the loop, at most twice a second and at each new step."""
        token = self._token
        last_seconds, last_step = -PROGRESS_SECONDS, ""

        def report(item: int, progress: Progress) -> None:
            nonlocal last_seconds, last_step
            now = time.monotonic()
            step = f"{item} {progress.step}"
            if now - last_seconds < PROGRESS_SECONDS and step == last_step:
                return
            last_seconds, last_step = now, step
            message = RunProgressed(
                run_id=run.start.spec.run_id,
                attempt=run.start.spec.attempt,
                step=progress.step,
                item=item,
                done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes,
                done_files=progress.done_files,
                total_files=progress.total_files,
                new_bytes=progress.new_bytes,
                stored_bytes=progress.stored_bytes,
            )
            try:
                token.run_sync_soon(self._on_progress, message)
            except trio.RunFinishedError:
                # The loop is gone: the agent ends, nobody wants progress.
                return

        return report

    def _failed(self, run: AgentRun, error: VdrError) -> RunEnded:
        """Whatever a stopped run meets on its way out, what ended it is the stop."""
        if run.is_stopping:
            return self._ended(run, RunState.FAILED, Interrupted(reason="the agent was stopped"))
        if run.cancel.is_requested or isinstance(error, Cancelled):
            return self._ended(run, RunState.CANCELLED, Cancelled())
        return self._ended(run, RunState.FAILED, error)

    def _ended(self, run: AgentRun, state: RunState, error: VdrError | None = None) -> RunEnded:
        spec, outcome = run.start.spec, run.outcome
        lines = [_line(LogLevel.WARNING, text) for text in outcome.warnings[:LINES_MAX]]
        if error is not None:
            lines.append(_line(LogLevel.ERROR, error.message))
        return RunEnded(
            run_id=spec.run_id,
            attempt=spec.attempt,
            state=state,
            error_code=error.code if error is not None else "",
            error=error.message if error is not None else "",
            is_retryable=error.retryable if error is not None else False,
            warning_count=outcome.warning_count,
            lines=lines,
            point_ids=list(outcome.point_ids),
            done_bytes=outcome.done_bytes,
            done_files=outcome.done_files,
            new_bytes=outcome.new_bytes,
            stored_bytes=outcome.stored_bytes,
        )


def _line(level: LogLevel, text: str) -> LoggedLine:
    return LoggedLine(time=datetime.now(UTC), level=level, text=text[:_LINE_CHARACTERS_MAX])
