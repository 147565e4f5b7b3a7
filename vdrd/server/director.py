"""The director of runs: starts what is queued, follows what runs, ends what nobody owns, tries again what may
work.

Owns the queue and the attempts in memory; the catalog is the truth across restarts. Invariants:

- a run is in the queue, has one attempt, or is final; never two of these;
- an attempt ends by its worker's report, by the loss of an owner for longer than the grace, or by
cancellation; there is
  no fourth way and no wait without a bound;
- whatever ended it, the node is told to release it before the run moves on, so that a retry never meets its
predecessor.
"""

import logging
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import msgspec
import trio

from schemas.api.runs import RunInfo, RunProgress
from schemas.api.words import BackupType, LinkMode, LogLevel, RunKind, RunState
from schemas.control import (
    Ack,
    LoggedLine,
    RunCancel,
    RunDial,
    RunEnded,
    RunLogged,
    RunPrepare,
    RunPrepared,
    RunProgressed,
    RunRelease,
    RunSpec,
    RunStart,
)
from vdrd.catalog import hosts, key_domains, nodes, points, runs, storages
from vdrd.catalog.database import Catalog
from vdrd.catalog.times import from_ms, to_ms
from vdrd.model.errors import Interrupted, NotFound, NotOnline, VdrError
from vdrd.server.attempts import Attempt, Outcome
from vdrd.server.clock import Clock
from vdrd.server.config import ServerConfig
from vdrd.server.events import Feed
from vdrd.server.peers import Peers

log = logging.getLogger(__name__)

RETRY_SECONDS_MAX = 3600
CATALOG_RETRY_SECONDS = 10.0
"""How long to wait for a catalog that took nothing: its disk may have room again."""
PREPARE_SECONDS = 60.0
PREPARE_FILES_SECONDS = 900.0
"""How long a node may take to open what a run needs."""
_BACKUPS = {RunKind.BACKUP_DISK, RunKind.BACKUP_FILES}


@dataclass(slots=True)
class Waiting:
    """A run in the queue."""

    run_id: str
    attempt: int
    host_id: str | None
    host_name: str
    node_id: str
    storage_id: str | None
    ready_at: float
    """On the loop's clock, like the next."""
    give_up_at: float


class Director:
    """Drives every run. `run` is its task; everything else may be called while that task lives."""

    def __init__(
        self, catalog: Catalog, peers: Peers, feed: Feed, config: ServerConfig, clock: Clock
    ) -> None:
        self._catalog = catalog
        self._peers = peers
        self._feed = feed
        self._config = config
        self._clock = clock
        self._queue: dict[str, Waiting] = {}
        self._attempts: dict[str, Attempt] = {}
        self._busy: Counter[str] = Counter()
        self._dirty: dict[str, RunProgress] = {}
        self._draining: set[str] = set()
        self._changed = trio.Event()
        self.on_success: Callable[[RunInfo], None] = lambda _run: None
        """Called when a run ended done or with warnings; retention hangs here."""

    # ---- what others may ask -------------------------------------------------------------------------------

    async def submit(self, run_id: str) -> None:
        """Take a run that was just written to the catalog as queued."""
        run = await self._catalog.read(runs.get, run_id)
        await self._enqueue(run, 0.0)
        self._feed.publish("run", run_id, run)

    async def cancel(self, run_id: str) -> None:
        """Stop a run, whatever it is doing. Returns when the wish is noted."""
        if not await self._catalog.write(runs.ask_cancel, run_id):
            return
        log.info("run cancel asked run=%s", run_id)
        attempt = self._attempts.get(run_id)
        if attempt is not None:
            attempt.cancel_asked.set()
        elif self._queue.pop(run_id, None) is not None:
            await self._finish(
                run_id, None, Outcome(RunState.CANCELLED, "cancelled", "cancelled before it started")
            )
        self._wake()

    def set_draining(self, node_id: str, is_draining: bool) -> None:
        """Start nothing more on a node, or do again. What runs there goes on."""
        (self._draining.add if is_draining else self._draining.discard)(node_id)
        self._wake()

    def note_points(self) -> None:
        """Points came into the catalog: a run may wait for them."""
        self._wake()

    def with_progress(self, run: RunInfo) -> RunInfo:
        """The run with the progress that only memory has yet."""
        attempt = self._attempts.get(run.id)
        return (
            run
            if attempt is None or run.state.is_final
            else msgspec.structs.replace(run, progress=attempt.progress)
        )

    def seen(self, run_id: str) -> RunInfo | None:
        """The run as it was last published, with its newest progress; None once it ended."""
        attempt = self._attempts.get(run_id)
        if attempt is None or attempt.info is None:
            return None
        return self.with_progress(attempt.info)

    def unwanted(self, ident: str, held: Iterable[tuple[str, int]]) -> list[str]:
        """Of the runs a registering peer holds, those it should drop."""
        unwanted = []
        for run_id, number in held:
            attempt = self._attempts.get(run_id)
            is_wanted = (
                attempt is not None
                and attempt.spec.attempt == number
                and attempt.outcome is None
                and ident in attempt.owners
            )
            if not is_wanted:
                unwanted.append(run_id)
        return unwanted

    def note_progress(self, ident: str, message: RunProgressed) -> str | None:
        """A worker's report. Returns the run's id if it counts."""
        attempt = self._current(ident, message.run_id, message.attempt)
        if attempt is None:
            return None
        self._dirty[message.run_id] = attempt.note_progress(message, trio.current_time())
        return message.run_id

    async def note_logged(self, ident: str, message: RunLogged) -> None:
        """Lines for the log of a run."""
        if self._current(ident, message.run_id, message.attempt, any_owner=True) is not None:
            await self._catalog.write(runs.add_log, message.run_id, message.attempt, message.lines)

    async def note_ended(self, ident: str, message: RunEnded) -> None:
        """A worker's report that an attempt is over. Durable before it is acknowledged; one that no longer
        counts is
        acknowledged too, so that the worker forgets it."""
        attempt = self._current(ident, message.run_id, message.attempt)
        if attempt is None:
            return
        if attempt.outcome is None and message.lines:
            await self._catalog.write(runs.add_log, message.run_id, message.attempt, message.lines)
        attempt.end(Outcome.of(message))
        await self._wait_settled(attempt)

    async def _wait_settled(self, attempt: Attempt) -> None:
        while self._attempts.get(attempt.spec.run_id) is attempt:
            await self._changed.wait()

    def statistics(self) -> dict[str, int]:
        """Counters."""
        return {"queued": len(self._queue), "running": len(self._attempts)}

    # ---- the task ------------------------------------------------------------------------------------------

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take over what an earlier life left, then direct until cancelled."""
        async with trio.open_nursery() as nursery:
            self._draining.update(await self._catalog.read(nodes.draining_ids))
            for run in await self._catalog.read(runs.open_runs):
                await self._take_over(run, nursery)
            task_status.started()
            nursery.start_soon(self._write_progress)
            nursery.start_soon(self._relay_wakes)
            while True:
                changed = self._changed
                try:
                    next_at = await self._start_what_can(nursery)
                except VdrError as error:
                    log.warning("no run started, trying again reason=%s", error)
                    await trio.sleep(CATALOG_RETRY_SECONDS)
                    continue
                with trio.move_on_at(next_at):
                    await changed.wait()

    async def _take_over(self, run: RunInfo, nursery: trio.Nursery) -> None:
        if run.state is RunState.QUEUED:
            delay = (to_ms(run.not_before) - self._clock()) / 1000
            # The wall clock may have jumped meanwhile: no back-off is longer than the longest.
            await self._enqueue(run, min(max(0.0, delay), RETRY_SECONDS_MAX))
            return
        spec = await self._catalog.read(runs.spec, run.id)
        node_id = run.node_id or await self._node_of(run)
        attempt = Attempt(spec, node_id, progress=run.progress)
        self._attempts[run.id] = attempt
        self._busy.update(attempt.owners)
        log.info("run taken over run=%s attempt=%d state=%s", run.id, spec.attempt, run.state)
        if await self._catalog.read(runs.is_cancel_asked, run.id):
            attempt.cancel_asked.set()
        nursery.start_soon(self._attend, attempt, False)

    async def _relay_wakes(self) -> None:
        while True:
            await self._peers.wait_changed()
            self._wake()

    async def _write_progress(self) -> None:
        while True:
            await trio.sleep(self._config.progress_write_seconds)
            dirty, self._dirty = self._dirty, {}
            if dirty:
                try:
                    await self._catalog.write(runs.put_progress, dirty)
                except VdrError as error:
                    log.warning("progress not noted reason=%s", error)

    # ---- the queue -----------------------------------------------------------------------------------------

    async def _node_of(self, run: RunInfo) -> str:
        if run.storage_id is None:
            return ""
        try:
            return (await self._catalog.read(storages.get, run.storage_id)).node_id
        except NotFound:
            return ""

    async def _enqueue(self, run: RunInfo, delay_seconds: float) -> None:
        ready_at = trio.current_time() + delay_seconds
        self._queue[run.id] = Waiting(
            run_id=run.id,
            attempt=run.attempt,
            host_id=run.host_id,
            host_name=run.host_name,
            node_id=await self._node_of(run),
            storage_id=run.storage_id,
            ready_at=ready_at,
            give_up_at=ready_at + self._config.wait_online_seconds,
        )
        self._wake()

    def _missing(self, waiting: Waiting) -> str:
        """What is not online that the run needs; empty if nothing."""
        if waiting.host_id is not None and self._peers.find(waiting.host_id) is None:
            return f"host {waiting.host_name}"
        node = self._peers.find(waiting.node_id)
        if node is None:
            return "the node of its storage"
        # A node that has just registered opens its storages first.
        return "" if waiting.storage_id in node.open_storages else "its storage"

    def _has_room(self, waiting: Waiting) -> bool:
        if waiting.node_id in self._draining:
            return False
        if waiting.host_id is not None and self._busy[waiting.host_id] >= self._config.runs_per_host:
            return False
        return self._busy[waiting.node_id] < self._config.runs_per_node

    async def _start_what_can(self, nursery: trio.Nursery) -> float:
        """Start, in order, every waiting run that may start. Returns when to look again if nothing
        changes."""
        now = trio.current_time()
        next_at = now + 3600.0
        for waiting in list(self._queue.values()):
            if waiting.run_id not in self._queue:
                continue
            if waiting.ready_at > now:
                next_at = min(next_at, waiting.ready_at)
                continue
            missing = self._missing(waiting)
            if missing and now < waiting.give_up_at:
                next_at = min(next_at, waiting.give_up_at)
            elif missing or self._has_room(waiting):
                del self._queue[waiting.run_id]
                try:
                    await (self._give_up(waiting, missing) if missing else self._begin(waiting, nursery))
                except VdrError:
                    self._queue[waiting.run_id] = waiting
                    raise
        return next_at

    async def _give_up(self, waiting: Waiting, missing: str) -> None:
        error = NotOnline(what=missing)
        await self._finish(waiting.run_id, None, Outcome(RunState.FAILED, error.code, error.message))

    async def _begin(self, waiting: Waiting, nursery: trio.Nursery) -> None:
        attempt = Attempt(await self._catalog.read(runs.spec, waiting.run_id), waiting.node_id)
        self._attempts[waiting.run_id] = attempt
        self._busy.update(attempt.owners)
        try:
            moved = await self._catalog.write(
                runs.move, waiting.run_id, RunState.PREPARING, now_ms=self._clock(), node_id=waiting.node_id
            )
            if await self._catalog.read(runs.is_cancel_asked, waiting.run_id):
                attempt.cancel_asked.set()
        except VdrError:
            self._forget(attempt)
            raise
        if not moved:
            self._forget(attempt)
            return
        log.info(
            "run preparing run=%s attempt=%d node=%s", waiting.run_id, attempt.spec.attempt, waiting.node_id
        )
        nursery.start_soon(self._attend, attempt, True)

    # ---- one attempt ---------------------------------------------------------------------------------------

    async def _attend(self, attempt: Attempt, is_new: bool) -> None:
        """From preparing to the end of one attempt. The root of its task: a defect fails the run, not the
        server."""
        run_id = attempt.spec.run_id
        try:
            if is_new:
                await self._publish(run_id)
                await self._start(attempt)
            await self._wait_end(attempt)
        except VdrError as error:
            attempt.end(_outcome_of(error))
        except Exception as error:
            log.exception("run broke run=%s", run_id)
            attempt.end(Outcome(RunState.FAILED, "internal", f"a defect in the server: {error}"))
        await self._conclude(attempt)

    async def _conclude(self, attempt: Attempt) -> None:
        """Note how an attempt ended, and go on trying: while the catalog takes nothing (its disk is full),
        the end stays here and with its worker, and the server at work."""
        assert attempt.outcome is not None
        run_id = attempt.spec.run_id
        while True:
            try:
                await self._wait_points(attempt)
                await self._release(attempt)
                await self._finish(run_id, attempt, attempt.outcome)
                return
            except VdrError as error:
                log.warning("end of run not noted, trying again run=%s reason=%s", run_id, error)
                await trio.sleep(CATALOG_RETRY_SECONDS)
            except Exception:
                log.exception("run broke at its end run=%s", run_id)
                self._forget(attempt)
                return

    async def _start(self, attempt: Attempt) -> None:
        spec = attempt.spec
        if attempt.cancel_asked.is_set():
            attempt.end(Outcome(RunState.CANCELLED, "cancelled", "cancelled before it started"))
            return
        if spec.kind in _BACKUPS:
            spec = attempt.spec = await self._remaining(spec)
            if not spec.items:
                # An earlier attempt made every point and was cut off before it could say so.
                attempt.end(Outcome(RunState.DONE))
                return
        # Files within a disk are looked up first: a large tree takes its time.
        seconds = PREPARE_FILES_SECONDS if spec.kind is RunKind.RESTORE_FILES else PREPARE_SECONDS
        is_backup = spec.kind in _BACKUPS
        domain = await self._catalog.write(key_domains.of_run, spec.run_id) if is_backup else 0
        prepared = await self._peers.ask(
            attempt.node_id,
            "the node of the storage",
            RunPrepare(spec=spec, domain=domain),
            RunPrepared,
            seconds,
        )
        self._peers.note_held(attempt.node_id, spec.run_id, spec.attempt)
        if spec.host_id is not None:
            dialled = await self._catalog.read(_passive_address, spec.host_id)
            start = RunStart(
                spec=spec,
                tickets=prepared.tickets,
                data_address="" if dialled else prepared.data_address,
                certificate_fingerprint=prepared.certificate_fingerprint,
                parents=prepared.parents,
                restore_root=prepared.restore_root,
                restore_warnings=prepared.restore_warnings,
                restore_warning_count=prepared.restore_warning_count,
                storage_place=prepared.storage_place,
            )
            await self._peers.ask(spec.host_id, f"host {spec.host_name}", start, Ack, PREPARE_SECONDS)
            self._peers.note_held(spec.host_id, spec.run_id, spec.attempt)
            if dialled:
                dial = RunDial(
                    run_id=spec.run_id,
                    attempt=spec.attempt,
                    address=dialled,
                    channel_count=len(prepared.tickets),
                )
                await self._peers.ask(attempt.node_id, "the node of the storage", dial, Ack, PREPARE_SECONDS)
        await self._note_running(attempt)

    async def _note_running(self, attempt: Attempt) -> None:
        run_id = attempt.spec.run_id
        if await self._catalog.write(
            runs.move, run_id, RunState.RUNNING, now_ms=self._clock(), attempt=attempt.spec.attempt
        ):
            log.info("run running run=%s attempt=%d", run_id, attempt.spec.attempt)
            await self._publish(run_id)

    async def _remaining(self, spec: RunSpec) -> RunSpec:
        """The spec without the items that earlier attempts finished, and with the parents as they are now."""

        def work(connection: sqlite3.Connection) -> RunSpec:
            done = {point.object_name for point in points.of_run(connection, spec.run_id)}
            items = []
            for item in spec.items:
                if item.object_name in done:
                    continue
                parent_id = None
                if spec.backup_type is not BackupType.FULL:
                    wanted = BackupType.FULL if spec.backup_type is BackupType.DIFFERENTIAL else None
                    parent_id = points.latest_id(connection, spec.storage_id, item.object_name, wanted)
                items.append(msgspec.structs.replace(item, parent_id=parent_id))
            return msgspec.structs.replace(spec, items=items)

        return await self._catalog.read(work)

    async def _wait_end(self, attempt: Attempt) -> None:
        async with trio.open_nursery() as nursery:
            for ident in attempt.owners:
                nursery.start_soon(self._watch_owner, attempt, ident)
            nursery.start_soon(self._watch_cancel, attempt)
            await attempt.ended.wait()
            nursery.cancel_scope.cancel()

    async def _watch_owner(self, attempt: Attempt, ident: str) -> None:
        """End the attempt when its owner stays away for longer than the grace, or comes back without it."""
        spec = attempt.spec
        is_worker = ident == attempt.worker_id
        who = f"the agent of {spec.host_name}" if ident == spec.host_id else "the node"
        while True:
            holds = self._peers.holds(ident, spec.run_id, spec.attempt)
            if holds is False:
                attempt.end(_outcome_of(Interrupted(reason=f"{who} was restarted")))
                return
            if holds:
                if is_worker:
                    await self._note_running(attempt)
                await self._peers.wait_changed()
                continue
            with trio.move_on_after(self._config.grace_seconds) as grace:
                while self._peers.find(ident) is None:
                    await self._peers.wait_changed()
            if grace.cancelled_caught:
                attempt.end(_outcome_of(Interrupted(reason=f"{who} lost its link and did not come back")))
                return

    async def _watch_cancel(self, attempt: Attempt) -> None:
        """Pass a wish to cancel on; a worker that does not end within the grace is given up."""
        await attempt.cancel_asked.wait()
        await self._tell_cancel(attempt)
        await trio.sleep(self._config.grace_seconds)
        attempt.end(Outcome(RunState.CANCELLED, "cancelled", "cancelled; its worker did not answer"))

    async def _tell_cancel(self, attempt: Attempt) -> None:
        try:
            await self._peers.ask(attempt.worker_id, "the worker", RunCancel(run_id=attempt.spec.run_id), Ack)
        except VdrError as error:
            log.info("cancel not delivered run=%s reason=%s", attempt.spec.run_id, error)

    async def _wait_points(self, attempt: Attempt) -> None:
        """Let the points of a finished backup arrive first, so that a run that is done has them.

        They come at once, except from a node that made them while the server was away: it tells after it
        linked again.
        """
        assert attempt.outcome is not None
        if attempt.spec.kind not in _BACKUPS or not attempt.outcome.point_ids:
            return
        with trio.move_on_after(self._config.grace_seconds) as patience:
            while True:
                changed = self._changed
                if await self._catalog.read(points.are_known, attempt.outcome.point_ids):
                    return
                await changed.wait()
        if patience.cancelled_caught:
            log.warning("points of run not announced run=%s", attempt.spec.run_id)

    async def _release(self, attempt: Attempt) -> None:
        """Tell who may still hold the attempt that it is over. One who cannot be told learns it when it
        registers."""
        assert attempt.outcome is not None
        spec = attempt.spec
        if not attempt.outcome.is_reported and spec.host_id is not None:
            await self._tell_cancel(attempt)
        try:
            release = RunRelease(run_id=spec.run_id, attempt=spec.attempt)
            await self._peers.ask(attempt.node_id, "the node", release, Ack)
        except VdrError as error:
            log.info("release not delivered run=%s reason=%s", spec.run_id, error)
        self._peers.note_released(spec.run_id, spec.attempt)

    async def _finish(self, run_id: str, attempt: Attempt | None, outcome: Outcome) -> None:
        """Move the run to where the outcome leads: a final state, or back to the queue."""
        self._dirty.pop(run_id, None)
        if attempt is not None and await self._retry(attempt, outcome):
            return
        progress = None
        if attempt is not None and outcome.state in {RunState.DONE, RunState.WARNING}:
            progress = _final_progress(attempt.progress, outcome)
        elif attempt is not None:
            progress = attempt.progress
        await self._catalog.write(self._settle, run_id, outcome, progress)
        if attempt is not None:
            self._forget(attempt)
        run = await self._publish(run_id)
        log.info("run ended run=%s state=%s error=%s", run_id, outcome.state, outcome.error_code or "-")
        if outcome.state in {RunState.DONE, RunState.WARNING}:
            self.on_success(run)

    def _settle(
        self, connection: sqlite3.Connection, run_id: str, outcome: Outcome, progress: RunProgress | None
    ) -> None:
        now_ms = self._clock()
        moved = runs.move(
            connection,
            run_id,
            outcome.state,
            now_ms=now_ms,
            error_code=outcome.error_code,
            error=outcome.error,
            warning_count=outcome.warning_count,
            progress=progress,
        )
        if not moved and outcome.state is not RunState.FAILED:
            # Preparing knows no success: a run that was finished by an earlier attempt passes through
            # running.
            runs.move(connection, run_id, RunState.RUNNING, now_ms=now_ms)
            runs.move(connection, run_id, outcome.state, now_ms=now_ms, progress=progress)
        run = runs.get(connection, run_id)
        self._log(connection, run, outcome)
        if run.kind is RunKind.VERIFY and outcome.is_reported and run.storage_id is not None:
            if outcome.state is RunState.DONE:
                points.note_verified(connection, run.storage_id, run.point_ids, True, now_ms)
            elif outcome.point_ids:
                points.note_verified(connection, run.storage_id, list(outcome.point_ids), False, now_ms)

    def _log(self, connection: sqlite3.Connection, run: RunInfo, outcome: Outcome) -> None:
        level = {RunState.FAILED: LogLevel.ERROR, RunState.WARNING: LogLevel.WARNING}.get(
            outcome.state, LogLevel.INFO
        )
        text = f"{run.state}: {outcome.error}" if outcome.error else f"{run.state}"
        line = LoggedLine(time=from_ms(self._clock()), level=level, text=text)
        runs.add_log(connection, run.id, run.attempt, [line])

    async def _retry(self, attempt: Attempt, outcome: Outcome) -> bool:
        """Queue the next attempt if there is to be one."""
        spec = attempt.spec
        if outcome.state is not RunState.FAILED or not outcome.is_retryable or attempt.cancel_asked.is_set():
            return False
        attempts_max, first_seconds = await self._catalog.read(runs.retry_rule, spec.run_id)
        if spec.attempt >= attempts_max:
            return False
        delay_seconds = min(first_seconds * 2 ** (spec.attempt - 1), RETRY_SECONDS_MAX)

        def work(connection: sqlite3.Connection) -> RunInfo | None:
            now_ms = self._clock()
            text = f"attempt {spec.attempt} of {attempts_max} failed: {outcome.error}"
            text += f"; next one in {delay_seconds} s"
            line = LoggedLine(time=from_ms(now_ms), level=LogLevel.WARNING, text=text)
            runs.add_log(connection, spec.run_id, spec.attempt, [line])
            if not runs.requeue(
                connection,
                spec.run_id,
                attempt=spec.attempt,
                not_before_ms=now_ms + delay_seconds * 1000,
                error_code=outcome.error_code,
                error=outcome.error,
            ):
                return None
            return runs.get(connection, spec.run_id)

        run = await self._catalog.write(work)
        if run is None:
            return False
        log.info("run retried run=%s attempt=%d in_seconds=%d", spec.run_id, run.attempt, delay_seconds)
        self._forget(attempt)
        await self._enqueue(run, delay_seconds)
        self._feed.publish("run", spec.run_id, run)
        return True

    # ---- small things --------------------------------------------------------------------------------------

    def _current(self, ident: str, run_id: str, number: int, any_owner: bool = False) -> Attempt | None:
        attempt = self._attempts.get(run_id)
        if attempt is None or attempt.spec.attempt != number:
            return None
        speakers = attempt.owners if any_owner else [attempt.worker_id]
        return attempt if ident in speakers else None

    def _forget(self, attempt: Attempt) -> None:
        """The attempt is over: free its slots and let others start."""
        if self._attempts.get(attempt.spec.run_id) is attempt:
            del self._attempts[attempt.spec.run_id]
            self._busy.subtract(attempt.owners)
            self._busy += Counter()
        self._wake()

    def _wake(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    async def _publish(self, run_id: str) -> RunInfo:
        run = self.with_progress(await self._catalog.read(runs.get, run_id))
        if (attempt := self._attempts.get(run_id)) is not None:
            attempt.info = run
        self._feed.publish("run", run_id, run)
        return run


def _passive_address(connection: sqlite3.Connection, host_id: str) -> str:
    """Where a passive host is dialled; empty for one that dials."""
    host = hosts.get(connection, host_id)
    return (host.address or "") if host.link_mode is LinkMode.PASSIVE else ""


def _outcome_of(error: VdrError) -> Outcome:
    return Outcome(RunState.FAILED, error.code, error.message, is_retryable=error.retryable)


def _final_progress(progress: RunProgress, outcome: Outcome) -> RunProgress:
    """Progress of a run that came to its end."""
    done_bytes = outcome.done_bytes or progress.done_bytes
    done_files = outcome.done_files or progress.done_files
    return RunProgress(
        step="",
        done_bytes=done_bytes,
        total_bytes=done_bytes,
        done_files=done_files,
        total_files=done_files if done_files else None,
        new_bytes=outcome.new_bytes or progress.new_bytes,
        stored_bytes=outcome.stored_bytes or progress.stored_bytes,
    )
