"""The director against an agent and a node that say exactly what a test tells them."""

import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
import trio.testing

from schemas.api import BackupType, Encryption, RunKind, RunProgress, RunState
from schemas.api.runs import RunLog
from schemas.control import (
    Ack,
    BackupItem,
    HeldRun,
    PointRecord,
    RunCancel,
    RunEnded,
    RunPrepare,
    RunPrepared,
    RunProgressed,
    RunRelease,
    RunSpec,
    RunStart,
    StorageAnnounced,
)
from vdrd.catalog import hosts, nodes, points, runs, settings, storages
from vdrd.catalog.database import Catalog
from vdrd.catalog.times import from_ms
from vdrd.model.errors import StorageFull, Unreachable
from vdrd.net.identity import Role
from vdrd.server import director as director_module
from vdrd.server.clock import wall_clock_ms
from vdrd.server.config import ServerConfig
from vdrd.server.director import Director
from vdrd.server.events import Feed
from vdrd.server.peers import Peers

PATIENT = ServerConfig(grace_seconds=600, wait_online_seconds=600, progress_write_seconds=0.05)
"""For what must happen before a time is up: no load makes it so."""
HASTY = ServerConfig(grace_seconds=0.3, wait_online_seconds=0.5, progress_write_seconds=0.05)
"""For what happens when it is."""
BRIEF = ServerConfig(grace_seconds=2, wait_online_seconds=600, progress_write_seconds=0.05)
"""For what must not happen although it is."""
Answer = Callable[[Any], Awaitable[msgspec.Struct]]


@dataclass
class Machine:
    """Stands for an agent or node and its link: notes what it is asked and answers as `failures` say."""

    ident: str
    asked: list[Any] = field(default_factory=list)
    failures: dict[type, Exception] = field(default_factory=dict)
    heard: trio.Event = field(default_factory=trio.Event)

    async def request(self, message: Any, _reply: Any, *, deadline_seconds: float = 30.0) -> msgspec.Struct:
        await trio.lowlevel.checkpoint()
        self.asked.append(message)
        self.heard.set()
        self.heard = trio.Event()
        if type(message) in self.failures:
            raise self.failures[type(message)]
        if isinstance(message, RunPrepare):
            return RunPrepared(tickets=[b"t" * 32], data_address="n:1", certificate_fingerprint="f")
        return Ack()

    def close(self, _reason: str = "") -> None:
        return

    async def wait_asked(self, kind: type, count: int = 1) -> Any:
        with trio.fail_after(60):
            while len(found := [message for message in self.asked if isinstance(message, kind)]) < count:
                await self.heard.wait()
        return found[-1]


@dataclass
class Stage:
    catalog: Catalog
    peers: Peers
    director: Director
    agent: Machine
    node: Machine
    config: ServerConfig

    def link_up(self, machine: Machine, held: list[HeldRun] | None = None) -> list[str]:
        """The machine registers; returns what it is told to drop."""
        role = Role.AGENT if machine is self.agent else Role.NODE
        drop = self.director.unwanted(machine.ident, [(run.run_id, run.attempt) for run in held or []])
        self.peers.add(machine.ident, role, machine.ident, machine, held or [])  # type: ignore[arg-type]
        if machine is self.node:
            self.peers.note_storages(machine.ident, frozenset({"storage"}))
        return drop

    def link_down(self, machine: Machine) -> None:
        assert self.peers.remove(machine.ident, machine)  # type: ignore[arg-type]

    async def queue(self, run_id: str = "r", attempts: int = 3, items: int = 1) -> str:
        spec = RunSpec(
            run_id=run_id,
            attempt=1,
            kind=RunKind.BACKUP_FILES,
            storage_id="storage",
            host_id="agent",
            host_name="web1",
            backup_type=BackupType.INCREMENTAL,
            items=[BackupItem(object_name=f"web1:/{number}", path=f"/{number}") for number in range(items)],
        )
        await self.catalog.write(
            runs.create,
            spec=spec,
            tenant_id=settings.TENANT_DEFAULT,
            batch_id="b",
            job_name="j",
            storage_name="local",
            attempts_max=attempts,
            retry_seconds=0,
            created_by="admin",
            now_ms=wall_clock_ms(),
        )
        await self.director.submit(run_id)
        return run_id

    async def state(self, run_id: str = "r") -> RunState:
        return (await self.catalog.read(runs.get, run_id)).state

    async def wait_state(self, wanted: RunState, run_id: str = "r", attempt: int | None = None) -> Any:
        with trio.fail_after(60):
            while True:
                run = await self.catalog.read(runs.get, run_id)
                if run.state is wanted and attempt in (None, run.attempt):
                    return run
                await trio.sleep(0.01)

    async def running(self, run_id: str = "r", attempt: int = 1) -> None:
        await self.agent.wait_asked(RunStart, attempt)
        await self.wait_state(RunState.RUNNING, run_id, attempt)

    async def end(self, state: RunState, run_id: str = "r", attempt: int = 1, **more: Any) -> None:
        ended = RunEnded(run_id=run_id, attempt=attempt, state=state, **more)
        await self.director.note_ended("agent", ended)


def furnish(connection: sqlite3.Connection) -> None:
    settings.ensure_default_tenant(connection, 1)
    nodes.create(connection, "node", "node", 1)
    hosts.create(connection, host_id="agent", tenant_id="default", wanted_name="web1", now_ms=1)
    announced = StorageAnnounced(
        storage_id="storage", path="/s", encryption=Encryption.NONE, compression=1, is_online=True
    )
    storages.create(
        connection,
        tenant_id="default",
        node_id="node",
        name="local",
        key_file=None,
        announced=announced,
        now_ms=1,
    )


@pytest.fixture
def config() -> ServerConfig:
    return PATIENT


hasty = pytest.mark.parametrize("config", [HASTY], ids=["hasty"])
brief = pytest.mark.parametrize("config", [BRIEF], ids=["brief"])


@pytest.fixture
async def stage(tmp_path: Path, nursery: trio.Nursery, config: ServerConfig) -> AsyncIterator[Stage]:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    catalog.write_now(furnish)
    made = await begin(catalog, config, nursery)
    yield made
    nursery.cancel_scope.cancel()


async def begin(catalog: Catalog, config: ServerConfig, nursery: trio.Nursery) -> Stage:
    peers = Peers()
    director = Director(catalog, peers, Feed(100, wall_clock_ms), config, wall_clock_ms)
    await nursery.start(director.run)
    return Stage(catalog, peers, director, Machine("agent"), Machine("node"), config)


async def test_run_with_both_ends_online_is_prepared_started_and_done(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    start = await stage.agent.wait_asked(RunStart)
    assert (start.tickets, start.data_address) == ([b"t" * 32], "n:1")
    await stage.end(RunState.DONE, done_bytes=10)
    run = await stage.wait_state(RunState.DONE)
    assert run.ended_at is not None
    assert run.progress.done_bytes == 10
    assert await stage.node.wait_asked(RunRelease) == RunRelease(run_id="r", attempt=1)


@hasty
async def test_run_whose_host_never_comes_fails_and_says_so(stage: Stage) -> None:
    stage.link_up(stage.node)
    await stage.queue()
    run = await stage.wait_state(RunState.FAILED)
    assert (run.error_code, "host web1" in run.error) == ("not-online", True)


async def test_run_waits_until_the_node_has_opened_its_storage(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    stage.peers.note_storages("node", frozenset())
    await stage.queue()
    await trio.sleep(0.1)
    assert (await stage.state(), stage.node.asked) == (RunState.QUEUED, [])
    stage.peers.note_storages("node", frozenset({"storage"}))
    await stage.running()


async def test_run_waits_for_its_host_to_link(stage: Stage) -> None:
    stage.link_up(stage.node)
    await stage.queue()
    await trio.sleep(0.1)
    assert await stage.state() is RunState.QUEUED
    stage.link_up(stage.agent)
    await stage.running()


@hasty
async def test_agent_that_dies_for_good_fails_the_run_after_all_attempts(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(attempts=1)
    await stage.running()
    stage.link_down(stage.agent)
    run = await stage.wait_state(RunState.FAILED)
    assert run.error_code == "interrupted"
    await stage.node.wait_asked(RunRelease)


async def test_agent_that_was_restarted_gets_the_next_attempt_at_once(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    stage.link_down(stage.agent)
    stage.link_up(stage.agent)
    await stage.running(attempt=2)
    await stage.end(RunState.DONE, attempt=1)
    assert await stage.state() is RunState.RUNNING
    await stage.end(RunState.DONE, attempt=2)
    assert await stage.state() is RunState.DONE


@brief
async def test_agent_that_links_again_in_time_goes_on(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    stage.link_down(stage.agent)
    await trio.testing.wait_all_tasks_blocked()
    assert stage.link_up(stage.agent, [HeldRun(run_id="r", attempt=1)]) == []
    await trio.sleep(BRIEF.grace_seconds + 0.5)
    assert await stage.state() is RunState.RUNNING
    await stage.end(RunState.WARNING, warning_count=3)
    assert (await stage.wait_state(RunState.WARNING)).warning_count == 3


async def test_node_that_was_restarted_ends_the_attempt_and_the_agent_is_told(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    stage.link_down(stage.node)
    stage.link_up(stage.node)
    assert (await stage.agent.wait_asked(RunCancel)).run_id == "r"
    await stage.running(attempt=2)


@brief
async def test_server_restart_with_everybody_still_at_work_goes_on(
    stage: Stage, nursery: trio.Nursery
) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    later = await begin(stage.catalog, stage.config, nursery)
    held = [HeldRun(run_id="r", attempt=1)]
    assert later.link_up(later.agent, held) == []
    assert later.link_up(later.node, held) == []
    await trio.sleep(BRIEF.grace_seconds + 0.5)
    assert await later.state() is RunState.RUNNING
    await later.end(RunState.DONE)
    assert await later.state() is RunState.DONE


@hasty
async def test_server_restart_with_nobody_left_fails_the_run(stage: Stage, nursery: trio.Nursery) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(attempts=1)
    await stage.running()
    later = await begin(stage.catalog, stage.config, nursery)
    run = await later.wait_state(RunState.FAILED)
    assert run.error_code == "interrupted"
    assert later.link_up(later.agent, [HeldRun(run_id="r", attempt=1)]) == ["r"]


@pytest.mark.parametrize("kind", [RunPrepare, RunStart], ids=["node", "agent"])
async def test_end_that_cannot_be_reached_while_starting_is_tried_again(stage: Stage, kind: type) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    machine = stage.node if kind is RunPrepare else stage.agent
    machine.failures[kind] = Unreachable(peer="it", reason="cut")
    await stage.queue()
    await machine.wait_asked(kind)
    machine.failures.clear()
    await stage.running(attempt=1 if kind is RunPrepare else 2) if kind is RunStart else None
    await stage.wait_state(RunState.RUNNING, attempt=2)


async def test_refusal_that_cannot_pass_by_itself_is_final(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    stage.node.failures[RunPrepare] = StorageFull(path="/s")
    await stage.queue()
    run = await stage.wait_state(RunState.FAILED)
    assert (run.error_code, run.attempt) == ("no-space", 1)


async def test_failure_is_tried_again_only_if_it_may_pass(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(attempts=2)
    await stage.running()
    await stage.end(RunState.FAILED, error_code="unreachable", error="cut", is_retryable=True)
    await stage.running(attempt=2)
    await stage.end(RunState.FAILED, attempt=2, error_code="unreachable", error="cut", is_retryable=True)
    assert (await stage.wait_state(RunState.FAILED)).attempt == 2


async def test_log_of_a_run_that_is_tried_again_says_why_and_when(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(attempts=2)
    await stage.running()
    await stage.end(RunState.FAILED, error_code="unreachable", error="cut", is_retryable=True)
    await stage.running(attempt=2)
    lines, _ = await stage.catalog.read(runs.log, RunLog(id="r"))
    assert "attempt 1 of 2 failed: cut; next one in 0 s" in [line.text for line in lines]


async def test_end_with_an_error_without_measure_is_cut(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(attempts=1)
    await stage.running()
    await stage.end(RunState.FAILED, error_code="c" * 9999, error="e" * 900_000)
    run = await stage.wait_state(RunState.FAILED)
    assert (len(run.error_code), len(run.error)) == (255, 4000)


async def test_catalog_whose_disk_is_full_delays_the_end_of_a_run_and_ends_no_server(
    stage: Stage, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(director_module, "CATALOG_RETRY_SECONDS", 0.01)
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(attempts=1)
    await stage.running()
    real, refused = stage.catalog.write, trio.Event()
    is_full = True

    async def write(work: Any, *args: Any, **named: Any) -> Any:
        if is_full:
            refused.set()
            raise StorageFull(path="catalog")
        return await real(work, *args, **named)

    monkeypatch.setattr(stage.catalog, "write", write)
    told = trio.Event()

    async def report() -> None:
        await stage.end(RunState.DONE)
        told.set()

    with trio.fail_after(60):
        nursery.start_soon(report)
        await refused.wait()
        refused = trio.Event()
        await refused.wait()  # tried again
        assert not told.is_set()  # its worker keeps the end until it is durable
        assert await stage.state() is RunState.RUNNING
        is_full = False
        await told.wait()
    assert await stage.state() is RunState.DONE
    # And the next run starts as ever.
    await stage.queue("next")
    await stage.running("next")


async def test_run_that_a_full_catalog_could_not_start_starts_when_there_is_room(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(director_module, "CATALOG_RETRY_SECONDS", 0.01)
    await stage.queue()
    real, refusals = stage.catalog.write, 0

    async def write(work: Any, *args: Any, **named: Any) -> Any:
        nonlocal refusals
        if refusals < 3:
            refusals += 1
            raise StorageFull(path="catalog")
        return await real(work, *args, **named)

    monkeypatch.setattr(stage.catalog, "write", write)
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.running()
    assert refusals == 3


@pytest.mark.parametrize("field_name", ["warning_count", "done_bytes", "stored_bytes"])
@pytest.mark.parametrize("value", [-1, 1 << 63, (1 << 64) - 1])
def test_end_with_a_number_no_catalog_can_keep_is_refused_on_arrival(field_name: str, value: int) -> None:
    said = {"t": "run-ended", "run_id": "r", "attempt": 1, "state": "done", field_name: value}
    with pytest.raises(msgspec.ValidationError, match=field_name):
        msgspec.msgpack.decode(msgspec.msgpack.encode(said), type=RunEnded)


async def test_cancel_reaches_the_agent_and_the_run_ends_cancelled(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    await stage.director.cancel("r")
    await stage.agent.wait_asked(RunCancel)
    await stage.end(RunState.CANCELLED)
    assert await stage.state() is RunState.CANCELLED


@hasty
async def test_cancel_of_a_run_whose_agent_does_not_react_ends_it_all_the_same(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    await stage.director.cancel("r")
    await stage.wait_state(RunState.CANCELLED)
    await stage.node.wait_asked(RunRelease)


async def test_cancel_of_a_queued_run_ends_it_at_once(stage: Stage) -> None:
    await stage.queue()
    await stage.director.cancel("r")
    assert await stage.state() is RunState.CANCELLED


async def test_retry_leaves_out_what_an_earlier_attempt_has_stored(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue(items=2)
    await stage.running()
    record = record_of("p" * 32, "web1:/0")
    await stage.catalog.write(points.put, "storage", [record])
    await stage.end(RunState.FAILED, error_code="unreachable", error="cut", is_retryable=True)
    await stage.running(attempt=2)
    start = await stage.agent.wait_asked(RunStart, 2)
    assert [item.object_name for item in start.spec.items] == ["web1:/1"]


def record_of(point_id: str, object_name: str) -> PointRecord:
    return PointRecord(
        point_id=point_id,
        time=from_ms(5),
        started_at=from_ms(4),
        object_name=object_name,
        kind="files",  # type: ignore[arg-type]
        backup_type=BackupType.FULL,
        source="/0",
        host_name="web1",
        parent_id=None,
        logical_bytes=1,
        new_bytes=1,
        stored_bytes=1,
        warning_count=0,
        labels={"run-id": "r", "host-id": "agent"},
    )


async def test_end_of_a_backup_waits_for_its_points_to_be_announced(
    stage: Stage, nursery: trio.Nursery
) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    ended = RunEnded(run_id="r", attempt=1, state=RunState.DONE, point_ids=["p" * 32])
    nursery.start_soon(stage.director.note_ended, "agent", ended)
    await trio.sleep(0.1)
    assert await stage.state() is RunState.RUNNING
    await stage.catalog.write(points.put, "storage", [record_of("p" * 32, "web1:/0")])
    stage.director.note_points()
    assert (await stage.wait_state(RunState.DONE)).point_ids == ["p" * 32]


@hasty
async def test_end_of_a_backup_whose_points_never_come_is_taken_all_the_same(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    await stage.end(RunState.DONE, point_ids=["p" * 32])
    assert await stage.state() is RunState.DONE


async def test_runs_of_one_host_are_limited_and_follow_in_order(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    for run_id in ("a", "b", "c"):
        await stage.queue(run_id)
    await stage.wait_state(RunState.RUNNING, "b")
    await trio.sleep(0.05)
    assert await stage.state("c") is RunState.QUEUED
    await stage.end(RunState.DONE, "a")
    await stage.wait_state(RunState.RUNNING, "c")


async def test_draining_node_starts_nothing_until_it_is_lifted(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    stage.director.set_draining("node", True)
    await stage.queue()
    await trio.sleep(0.1)
    assert await stage.state() is RunState.QUEUED
    stage.director.set_draining("node", False)
    await stage.running()


async def test_draining_is_remembered_over_a_restart(stage: Stage, nursery: trio.Nursery) -> None:
    await stage.catalog.write(nodes.set_draining, "node", True)
    later = await begin(stage.catalog, stage.config, nursery)
    later.link_up(later.node)
    later.link_up(later.agent)
    await later.queue()
    await trio.sleep(0.1)
    assert await later.state() is RunState.QUEUED


async def test_progress_counts_only_from_the_worker_of_the_present_attempt(stage: Stage) -> None:
    stage.link_up(stage.node)
    stage.link_up(stage.agent)
    await stage.queue()
    await stage.running()
    report = RunProgressed(run_id="r", attempt=1, step="reading", done_bytes=7)
    assert stage.director.note_progress("stranger", report) is None
    assert stage.director.note_progress("node", report) is None
    assert stage.director.note_progress("agent", msgspec.structs.replace(report, attempt=2)) is None
    assert stage.director.note_progress("agent", report) == "r"
    with trio.fail_after(60):
        while (await stage.catalog.read(runs.get, "r")).progress == RunProgress():  # noqa: ASYNC110
            await trio.sleep(0.01)
