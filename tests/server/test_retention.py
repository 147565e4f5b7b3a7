"""What the server asks of nodes about retention, and what it makes of the answers."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from schemas.api import BackupType, JobOptions, JobSource, ObjectKind, PointList, RunInfo
from schemas.control import ExportAdd, PointRecord, PointsRetain, PointsRetained
from vdrd.catalog import exports, hosts, jobs, points
from vdrd.catalog.database import Catalog
from vdrd.catalog.times import from_ms
from vdrd.model.errors import NotOnline
from vdrd.server.events import Feed
from vdrd.server.retention import DAY_MS, retain_after, retain_if_due
from vdrd.server.services import Services

from .test_director import furnish

START_MS = 20_000 * DAY_MS
NAMES = {path: f"web1:{path}" for path in ("/etc", "/home", "/left")}


@dataclass
class Node:
    """Stands for all nodes: notes what is asked, and forgets the oldest point it was not told to spare."""

    catalog: Catalog
    asked: list[PointsRetain] = field(default_factory=list)
    is_online: bool = True

    async def ask(self, ident: str, what: str, message: PointsRetain, *_: Any) -> msgspec.Struct:
        assert ident == "node"
        self.asked.append(message)
        if not self.is_online:
            raise NotOnline(what=what)
        listed, _ = await self.catalog.read(
            points.list_page, "default", PointList(object_name=message.object_name)
        )
        spared = {*message.used_ids, *message.broken_ids}
        return PointsRetained(forgotten_ids=[p.id for p in listed[1:] if p.id not in spared])


@dataclass
class Parts:
    """The parts of a server that retention knows."""

    catalog: Catalog
    peers: Node
    feed: Feed
    now_ms: int = START_MS

    def clock(self) -> int:
        return self.now_ms

    async def known(self, path: str) -> list[str]:
        items, _ = await self.catalog.read(points.list_page, "default", PointList(object_name=NAMES[path]))
        return [point.id for point in items]


def record(path: str, number: int, run_id: str = "") -> PointRecord:
    time = from_ms(START_MS) - timedelta(days=10 - number)
    return PointRecord(
        point_id=f"{path}-{number}",
        time=time,
        started_at=time,
        object_name=NAMES[path],
        kind=ObjectKind.FILES,
        backup_type=BackupType.INCREMENTAL,
        source=path,
        host_name="web1",
        parent_id=None,
        logical_bytes=1,
        new_bytes=1,
        stored_bytes=1,
        warning_count=0,
        labels={"run-id": run_id},
    )


def add_job(parts: Parts, name: str, paths: list[str], **options: int) -> None:
    parts.catalog.write_now(
        jobs.create,
        job_id=name,
        tenant_id="default",
        name=name,
        kind=ObjectKind.FILES,
        storage_id="storage",
        sources=[JobSource(host_id="agent", paths=paths)],
        schedules=[],
        options=JobOptions(**options),
        is_enabled=False,
        created_by="admin",
        now_ms=START_MS,
    )


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[Parts]:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    catalog.write_now(furnish)
    for path in NAMES:
        catalog.write_now(
            hosts.object_name, host_id="agent", kind=ObjectKind.FILES, path=path, now_ms=START_MS
        )
        catalog.write_now(points.put, "storage", [record(path, number) for number in range(3)])
    made = Parts(catalog, Node(catalog), Feed(100, lambda: START_MS))
    yield made
    catalog.close()


def services(parts: Parts) -> Services:
    return cast(Services, parts)


async def ended(parts: Parts, path: str) -> None:
    """A run of this path made a point and ended well."""
    await parts.catalog.write(points.put, "storage", [record(path, 3, "run")])
    run = cast(RunInfo, _Run("storage", [f"{path}-3"]))
    await retain_after(services(parts), run)


@dataclass
class _Run:
    storage_id: str
    point_ids: list[str]


async def test_run_lets_the_node_apply_the_policy_of_its_object(parts: Parts) -> None:
    add_job(parts, "a", ["/etc", "/home"], keep_last=2, keep_weekly=4)
    await ended(parts, "/etc")
    (ask,) = parts.peers.asked
    assert (ask.storage_id, ask.object_name, ask.now) == ("storage", NAMES["/etc"], from_ms(START_MS))
    assert (ask.keep_last, ask.keep_days, ask.keep_weekly, ask.keep_yearly) == (2, None, 4, None)
    assert await parts.known("/etc") == ["/etc-3"]
    assert len(await parts.known("/home")) == 3


async def test_object_of_several_jobs_keeps_what_each_of_them_wants(parts: Parts) -> None:
    add_job(parts, "a", ["/etc"], keep_last=2, keep_days=9)
    add_job(parts, "b", ["/etc"], keep_last=5, keep_yearly=1)
    await ended(parts, "/etc")
    (ask,) = parts.peers.asked
    assert (ask.keep_last, ask.keep_days, ask.keep_yearly) == (5, 9, 1)


async def test_object_with_a_job_that_keeps_all_loses_nothing(parts: Parts) -> None:
    add_job(parts, "a", ["/etc"], keep_last=1)
    add_job(parts, "b", ["/etc"])
    await ended(parts, "/etc")
    assert parts.peers.asked == []


async def test_points_in_use_and_damaged_ones_are_named_to_the_node(parts: Parts) -> None:
    add_job(parts, "a", ["/etc"], keep_last=1)
    await parts.catalog.write(points.note_verified, "storage", ["/etc-1"], False, START_MS)
    export = ExportAdd(export_id="e", storage_id="storage", point_id="/etc-0", is_writable=False)
    await parts.catalog.write(_export, export)
    await ended(parts, "/etc")
    (ask,) = parts.peers.asked
    assert (ask.used_ids, ask.broken_ids) == (["/etc-0"], ["/etc-1"])


def _export(connection: Any, export: ExportAdd) -> None:
    connection.execute(
        "INSERT INTO exports (export_id, tenant_id, node_id, storage_id, point_id, object_name, is_writable,"
        " created_at_ms, created_by) VALUES (?, 'default', 'node', ?, ?, 'o', 0, 1, 'admin')",
        [export.export_id, export.storage_id, export.point_id],
    )
    assert exports.of_point(connection, export.point_id) == [export.export_id]


async def test_node_that_is_away_leaves_the_catalog_as_it_is(
    parts: Parts, caplog: pytest.LogCaptureFixture
) -> None:
    add_job(parts, "a", ["/etc"], keep_last=1)
    parts.peers.is_online = False
    await ended(parts, "/etc")
    assert len(await parts.known("/etc")) == 4
    assert "retention failed" in caplog.text


async def test_every_object_of_a_job_is_looked_after_once_a_day(parts: Parts) -> None:
    add_job(parts, "a", ["/etc", "/home"], keep_last=1)
    for day, expected in ((0, 0), (0.5, 0), (1, 2), (1.5, 2), (2, 4), (-9, 6)):
        parts.now_ms = START_MS + int(day * DAY_MS)
        await retain_if_due(services(parts))
        assert len(parts.peers.asked) == expected, day
    assert {ask.object_name for ask in parts.peers.asked} == {NAMES["/etc"], NAMES["/home"]}
    assert len(await parts.known("/left")) == 3
