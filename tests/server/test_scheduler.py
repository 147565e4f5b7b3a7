from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio
import trio.testing

from schemas.api import DailySchedule, JobOptions, JobSource, ObjectKind, RunList
from vdrd.catalog import jobs, runs
from vdrd.catalog.database import Catalog
from vdrd.server.scheduler import Scheduler, plan_job

from .test_director import furnish

DAY_MS = 86_400_000
START_MS = 20_000 * DAY_MS


@dataclass
class Submitted:
    """Stands for the director: notes what is handed to it."""

    ids: list[str] = field(default_factory=list)
    news: trio.Event = field(default_factory=trio.Event)

    async def submit(self, run_id: str) -> None:
        self.ids.append(run_id)
        self.news.set()
        self.news = trio.Event()


@dataclass
class Clock:
    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms


async def until_resting(catalog: Catalog) -> None:
    """The scheduler waits for something to happen: nothing runs, in the loop or in the catalog's threads."""
    while True:
        await trio.testing.wait_all_tasks_blocked()
        if not catalog._reader_limiter.borrowed_tokens and not catalog._writer_limiter.borrowed_tokens:
            return
        await trio.sleep(0.01)


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(tmp_path / "catalog.sqlite")
    opened.write_now(furnish)
    opened.write_now(
        jobs.create,
        job_id="job",
        tenant_id="default",
        name="nightly",
        kind=ObjectKind.FILES,
        storage_id="storage",
        sources=[JobSource(host_id="agent", paths=["/etc", "/home"])],
        schedules=[DailySchedule(at="01:00")],
        options=JobOptions(),
        is_enabled=True,
        created_by="admin",
        now_ms=START_MS,
    )
    opened.write_now(plan_job, "job", START_MS)
    yield opened
    opened.close()


async def test_job_fires_once_when_its_moment_has_come_and_is_planned_anew(
    catalog: Catalog, nursery: trio.Nursery
) -> None:
    clock, director = Clock(), Submitted()
    scheduler = Scheduler(catalog, director, clock)  # type: ignore[arg-type]
    nursery.start_soon(scheduler.run)
    await until_resting(catalog)
    assert director.ids == []
    clock.now_ms = START_MS + 3_600_000
    news = director.news
    scheduler.wake()
    with trio.fail_after(60):
        await news.wait()
    await until_resting(catalog)
    (run,), _ = await catalog.read(runs.list_page, "default", RunList())
    assert director.ids == [run.id]
    assert run.created_by == "schedule"
    assert await catalog.read(jobs.next_due_ms) == START_MS + DAY_MS + 3_600_000


async def test_firings_missed_while_away_are_made_up_for_once(
    catalog: Catalog, nursery: trio.Nursery
) -> None:
    clock, director = Clock(START_MS + 5 * DAY_MS), Submitted()
    nursery.start_soon(Scheduler(catalog, director, clock).run)  # type: ignore[arg-type]
    await until_resting(catalog)
    assert len(director.ids) == 1
    assert await catalog.read(jobs.next_due_ms) == START_MS + 5 * DAY_MS + 3_600_000


async def test_job_with_an_open_run_is_not_started_a_second_time(
    catalog: Catalog, nursery: trio.Nursery
) -> None:
    clock, director = Clock(START_MS + DAY_MS), Submitted()
    scheduler = Scheduler(catalog, director, clock)  # type: ignore[arg-type]
    nursery.start_soon(scheduler.run)
    await until_resting(catalog)
    clock.now_ms += DAY_MS
    scheduler.wake()
    await until_resting(catalog)
    assert len(director.ids) == 1


async def test_disabled_job_does_not_fire(catalog: Catalog, nursery: trio.Nursery) -> None:
    catalog.write_now(lambda connection: connection.execute("UPDATE jobs SET is_enabled = 0"))
    director = Submitted()
    nursery.start_soon(Scheduler(catalog, director, Clock(START_MS + DAY_MS)).run)  # type: ignore[arg-type]
    await until_resting(catalog)
    assert director.ids == []
