"""The runs a node serves or does: prepared, watched, released.

State per run: its service (what data channels may do) or its own thread of work. Changes only in plain
functions on the
loop; the work itself is in threads.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Protocol

import trio

from schemas.api.words import LogLevel, RunKind, RunState
from schemas.control import (
    HeldRun,
    LoggedLine,
    RunDial,
    RunEnded,
    RunPrepare,
    RunPrepared,
    RunProgressed,
    RunSpec,
    StoragePlace,
)
from vdrd.jobs import backup, collect, restore, verify
from vdrd.model.errors import BadInput, Cancelled, NotFound, VdrError
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress
from vdrd.net.address import AGENT_PORT, Address
from vdrd.net.data_server import ChannelService, DataChannelServer
from vdrd.net.dial import dial_detached
from vdrd.net.identity import Expected, Role
from vdrd.net.tls import TlsProfile
from vdrd.node.storages import StorageKeeper
from vdrd.store.storage import Storage

log = logging.getLogger(__name__)

SOLO_AT_ONCE = 2
"""Verifications and collections at once: each keeps a core and the storage's disks busy."""
_PROGRESS_SECONDS = 0.5
_LINES_MAX = 1000
_WARNINGS_SENT = 200


class Service(ChannelService, Protocol):
    """A channel service that can be ended."""

    def close(self) -> None:
        """End the run here. Blocking, short."""
        ...


@dataclass(slots=True)
class NodeRun:
    """A run on this node."""

    spec: RunSpec
    service: Service | None = None
    cancel: Cancel = field(default_factory=Cancel)
    ended: RunEnded | None = None
    """Of a run the node did alone: how it ended, until the server has taken note."""


class NodeRuns:
    """All runs of this node by id."""

    def __init__(
        self,
        keeper: StorageKeeper,
        channels: DataChannelServer,
        profile: TlsProfile,
        nursery: trio.Nursery,
        *,
        on_point: Callable[[str, Point], None],
        on_progress: Callable[[RunProgressed], None],
        on_ended: Callable[[RunEnded], None],
    ) -> None:
        self._keeper = keeper
        self._channels = channels
        self._profile = profile
        self._nursery = nursery
        self._on_point = on_point
        self._on_progress = on_progress
        self._on_ended = on_ended
        self._runs: dict[str, NodeRun] = {}
        self._solo = trio.CapacityLimiter(SOLO_AT_ONCE)
        self.data_address = ""
        self.fingerprint = ""

    def held(self) -> list[HeldRun]:
        """What the server is told at registration."""
        return [HeldRun(run_id=run_id, attempt=run.spec.attempt) for run_id, run in self._runs.items()]

    def undelivered(self) -> list[RunEnded]:
        """Ends of runs the server has not taken note of."""
        return [run.ended for run in self._runs.values() if run.ended is not None]

    def is_used(self, storage_id: str) -> bool:
        """True while a run uses the storage."""
        return any(run.spec.storage_id == storage_id for run in self._runs.values())

    async def prepare(self, message: RunPrepare) -> RunPrepared:
        """Get ready to serve a run, or begin it if it needs no agent. The same attempt again is prepared
        afresh."""
        spec = message.spec
        await self.release(spec.run_id)
        storage = self._keeper.storage(spec.storage_id)
        run = NodeRun(spec)
        if spec.host_id is None:
            self._runs[spec.run_id] = run
            self._nursery.start_soon(self._do_alone, run, storage)
            return RunPrepared(tickets=[], data_address="", certificate_fingerprint="")
        parents, root, left_out = [], None, restore.NOTHING_LEFT_OUT
        if spec.kind in {RunKind.BACKUP_DISK, RunKind.BACKUP_FILES}:
            points = await trio.to_thread.run_sync(backup.plan, spec, storage.point, message.domain)
            service = backup.BackupService(
                storage, spec, lambda made: self._on_point(spec.storage_id, made), message.domain
            )
            parents = await trio.to_thread.run_sync(service.parents, points)
            run.service = service
        elif spec.kind in {RunKind.RESTORE_DISK, RunKind.RESTORE_FILES}:
            offered = await self._offered(run, storage)
            root, run.service, left_out = offered.root, offered.service, offered.warnings
        else:
            raise BadInput(what=f"a {spec.kind} run needs no host")
        self._runs[spec.run_id] = run
        tickets = self._channels.tickets.issue(
            spec.run_id, spec.host_id, run.service, count=spec.channel_count, seconds=message.ticket_seconds
        )
        log.info("run prepared run=%s attempt=%d kind=%s", spec.run_id, spec.attempt, spec.kind)
        return RunPrepared(
            tickets=tickets,
            data_address=self.data_address,
            certificate_fingerprint=self.fingerprint,
            parents=parents,
            restore_root=root,
            restore_warnings=left_out.first[:_WARNINGS_SENT],
            restore_warning_count=left_out.count,
            storage_place=StoragePlace(path=str(storage.path), mark=storage.info.storage_id),
        )

    async def _offered(self, run: NodeRun, storage: Storage) -> restore.Offer:
        """Open what a run restores. That may take long, so the run can be cancelled and released
        meanwhile."""
        run_id = run.spec.run_id
        self._runs[run_id] = run
        try:
            offered = await trio.to_thread.run_sync(restore.offer, run.spec, storage, run.cancel)
        except BaseException:
            if self._runs.get(run_id) is run:
                del self._runs[run_id]
            raise
        if self._runs.get(run_id) is not run:
            await trio.to_thread.run_sync(offered.service.close)
            raise Cancelled
        return offered

    async def dial(self, message: RunDial) -> None:
        """Open the data channels of a run to a passive agent. Raises NotFound, Unreachable,
        CertificateRefused."""
        run = self._runs.get(message.run_id)
        if run is None or run.spec.attempt != message.attempt or run.spec.host_id is None:
            raise NotFound(what="run", name=message.run_id)
        address = Address.parse(message.address, AGENT_PORT)
        for _ in range(message.channel_count):
            connection = await dial_detached(
                address, self._profile, expected=Expected(Role.AGENT, run.spec.host_id), run=message.run_id
            )
            self._channels.adopt(connection)

    def cancel(self, run_id: str) -> None:
        """Stop a run the node does alone; one it serves ends when its agent stops."""
        run = self._runs.get(run_id)
        if run is not None:
            run.cancel.request()

    async def release(self, run_id: str) -> None:
        """Forget a run: void its tickets, end its channels and its session. Repeating it does nothing."""
        run = self._runs.pop(run_id, None)
        if run is None:
            return
        run.cancel.request()
        self._channels.close_run(run_id)
        if run.service is not None:
            await trio.to_thread.run_sync(run.service.close)
        log.info("run released run=%s attempt=%d", run_id, run.spec.attempt)

    def statistics(self) -> dict[str, int]:
        """Counters."""
        return {"runs": len(self._runs), "alone": int(self._solo.borrowed_tokens)}

    # ---- runs without an agent -----------------------------------------------------------------------------

    async def _do_alone(self, run: NodeRun, storage: Storage) -> None:
        """Verify or collect. The root of its task: every ending becomes a report."""
        spec = run.spec
        report = self._reporter(run)

        def work() -> RunEnded:
            if spec.kind is RunKind.VERIFY:
                found = verify.run(verify.plan(spec), storage, report, run.cancel)
                lines = [_line(LogLevel.ERROR, text) for text in found.lines[:_LINES_MAX]]
                return _end(
                    spec,
                    RunState.FAILED if found.damages else RunState.DONE,
                    error_code="damaged" if found.damages else "",
                    error=f"{len(found.damages)} damages found" if found.damages else "",
                    lines=lines,
                    point_ids=found.damaged_point_ids,
                    done_bytes=found.checked_bytes,
                )
            freed_bytes = collect.run(storage, report, run.cancel)
            return _end(spec, RunState.DONE, lines=[_line(LogLevel.INFO, f"{freed_bytes} bytes freed")])

        try:
            ended = await trio.to_thread.run_sync(work, limiter=self._solo)
        except Cancelled:
            ended = _end(spec, RunState.CANCELLED, error_code="cancelled", error="cancelled")
        except VdrError as error:
            ended = _end(
                spec,
                RunState.FAILED,
                error_code=error.code,
                error=error.message,
                is_retryable=error.retryable,
                lines=[_line(LogLevel.ERROR, error.message)],
            )
        except Exception as error:
            log.exception("run broke run=%s", spec.run_id)
            ended = _end(spec, RunState.FAILED, error_code="internal", error=f"a defect in the node: {error}")
        if self._runs.get(spec.run_id) is run:
            run.ended = ended
            self._on_ended(ended)

    def _reporter(self, run: NodeRun) -> Callable[[Progress], None]:
        """Passes progress from the working thread to the loop, at most twice a second."""
        token = trio.lowlevel.current_trio_token()
        last_seconds = -_PROGRESS_SECONDS

        def report(progress: Progress) -> None:
            nonlocal last_seconds
            now = datetime.now(UTC).timestamp()
            if 0 <= now - last_seconds < _PROGRESS_SECONDS:
                return
            last_seconds = now
            message = RunProgressed(
                run_id=run.spec.run_id,
                attempt=run.spec.attempt,
                step=progress.step,
                done_bytes=progress.done_bytes,
                total_bytes=progress.total_bytes,
                done_files=progress.done_files,
                total_files=progress.total_files,
            )
            token.run_sync_soon(self._on_progress, message)

        return report


def _line(level: LogLevel, text: str) -> LoggedLine:
    return LoggedLine(time=datetime.now(UTC), level=level, text=text)


def _end(
    spec: RunSpec,
    state: RunState,
    *,
    error_code: str = "",
    error: str = "",
    is_retryable: bool = False,
    lines: list[LoggedLine] | None = None,
    point_ids: list[str] | None = None,
    done_bytes: int = 0,
) -> RunEnded:
    return RunEnded(
        run_id=spec.run_id,
        attempt=spec.attempt,
        state=state,
        error_code=error_code,
        error=error,
        is_retryable=is_retryable,
        lines=lines or [],
        point_ids=point_ids or [],
        done_bytes=done_bytes,
    )
