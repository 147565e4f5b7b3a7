from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from schemas import api
from schemas.api import AlertKind, AlertLevel, AlertState, DailySchedule, JobOptions, JobSource, RunState
from schemas.control import RunSpec
from vdrd.catalog import alerts, channels, jobs, runs
from vdrd.catalog.conditions import patience_hours
from vdrd.catalog.database import Catalog
from vdrd.net.identity import Role
from vdrd.server.alarm import Alarm
from vdrd.server.events import Feed

from .test_director import furnish

HOUR_MS = 3_600_000
START_MS = 20_000 * 24 * HOUR_MS


@dataclass
class Clock:
    now_ms: int = START_MS

    def __call__(self) -> int:
        return self.now_ms


@dataclass
class Silent:
    """Stands for the messenger: nothing is sent."""

    woken: int = 0

    def wake(self) -> None:
        self.woken += 1


@dataclass
class Online:
    """Stands for the peers: who has a link."""

    by_role: dict[Role, frozenset[str]] = field(default_factory=dict)

    def ids(self, role: Role) -> frozenset[str]:
        return self.by_role.get(role, frozenset())


class House:
    """A catalog with a job, and an alarm over it whose looks the test makes."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog
        self.clock = Clock()
        self.online = Online({Role.NODE: frozenset({"node"}), Role.AGENT: frozenset({"agent"})})
        self.alarm = self.fresh_alarm()
        self.runs = 0

    def fresh_alarm(self) -> Alarm:
        feed = Feed(100, self.clock)
        made: Any = Alarm(
            self.catalog,
            self.online,  # type: ignore[arg-type]
            feed,
            Silent(),  # type: ignore[arg-type]
            host_offline_hours=24,
            clock=self.clock,
        )
        self.alarm = made
        return self.alarm

    def sql(self, text: str, *values: object) -> None:
        self.catalog.write_now(lambda connection: connection.execute(text, values))

    def ran(self, state: RunState, error: str = "") -> str:
        """A run of the job that ended now."""
        self.runs += 1
        run_id = f"run-{self.runs}"
        spec = RunSpec(
            run_id=run_id,
            attempt=1,
            kind=api.RunKind.BACKUP_FILES,
            storage_id="storage",
            host_id="agent",
            host_name="web1",
            job_id="job",
        )
        self.catalog.write_now(
            runs.create,
            spec=spec,
            tenant_id="default",
            batch_id=run_id,
            job_name="nightly",
            storage_name="main",
            attempts_max=1,
            retry_seconds=30,
            created_by="schedule",
            now_ms=self.clock(),
        )
        for to in (RunState.PREPARING, RunState.RUNNING, state):
            assert self.catalog.write_now(runs.move, run_id, to, now_ms=self.clock(), error=error)
        return run_id

    async def alerts(self, *states: AlertState) -> list[api.AlertInfo]:
        await self.alarm.look()
        items, _ = await self.catalog.read(alerts.list_page, "default", api.AlertList(states=list(states)))
        return items

    async def open(self) -> list[api.AlertInfo]:
        return await self.alerts(AlertState.OPEN, AlertState.ACKNOWLEDGED)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    catalog = Catalog.open(tmp_path / "catalog.sqlite")
    catalog.write_now(furnish)
    catalog.write_now(
        jobs.create,
        job_id="job",
        tenant_id="default",
        name="nightly",
        kind=api.ObjectKind.FILES,
        storage_id="storage",
        sources=[JobSource(host_id="agent", paths=["/etc"])],
        schedules=[DailySchedule(at="01:00")],
        options=JobOptions(),
        is_enabled=True,
        created_by="admin",
        now_ms=START_MS,
    )
    made = House(catalog)
    made.sql("UPDATE storages SET is_online = 1")
    yield made
    catalog.close()


async def test_quiet_house_has_no_alerts(house: House) -> None:
    house.ran(RunState.DONE)
    assert await house.alerts() == []


async def test_failed_run_opens_one_alert_that_the_next_success_closes(house: House) -> None:
    house.ran(RunState.FAILED, "disk gone")
    (alert,) = await house.open()
    assert (alert.kind, alert.level, alert.count) == (AlertKind.RUN_FAILED, AlertLevel.CRITICAL, 1)
    assert alert.subject == "nightly on web1"
    assert "disk gone" in alert.text
    again = house.ran(RunState.FAILED, "disk still gone")
    (alert,) = await house.open()
    assert (alert.count, alert.run_id) == (2, again)
    assert "disk still gone" in alert.text
    house.ran(RunState.DONE)
    assert await house.open() == []
    (closed,) = await house.alerts()
    assert (closed.id, closed.state, closed.closed_by) == (alert.id, AlertState.CLOSED, "system")


async def test_cancelled_run_changes_nothing(house: House) -> None:
    house.ran(RunState.FAILED, "disk gone")
    (before,) = await house.open()
    house.ran(RunState.CANCELLED)
    assert await house.open() == [before]


async def test_run_with_warnings_is_an_alert_of_its_own(house: House) -> None:
    house.ran(RunState.WARNING)
    (alert,) = await house.open()
    assert (alert.kind, alert.level) == (AlertKind.RUN_WARNINGS, AlertLevel.WARNING)


async def test_silence_for_too_long_is_told_once_and_ends_with_a_success(house: House) -> None:
    house.ran(RunState.DONE)
    house.clock.now_ms += 38 * HOUR_MS
    assert await house.open() == []
    house.clock.now_ms += HOUR_MS
    (alert,) = await house.open()
    assert (alert.kind, alert.count) == (AlertKind.NO_SUCCESS, 1)
    house.clock.now_ms += 100 * HOUR_MS
    assert await house.open() == [alert]
    house.ran(RunState.DONE)
    assert await house.open() == []


async def test_job_that_never_succeeded_is_told_after_its_patience(house: House) -> None:
    house.clock.now_ms += 39 * HOUR_MS
    (alert,) = await house.open()
    assert "never succeeded" in alert.text


async def test_paused_job_is_not_missed(house: House) -> None:
    house.sql("UPDATE jobs SET is_enabled = 0")
    house.clock.now_ms += 1000 * HOUR_MS
    assert await house.open() == []


def test_patience_of_the_job_wins_over_the_schedule() -> None:
    assert patience_hours([DailySchedule(at="01:00")], JobOptions(alert_hours=5)) == 5
    assert patience_hours([], JobOptions(alert_hours=5)) == 5


async def test_alert_closed_by_hand_is_silent_until_it_shows_anew(house: House) -> None:
    house.ran(RunState.FAILED, "disk gone")
    (alert,) = await house.open()
    await house.catalog.write(alerts.close, "default", [alert.id], "admin", house.clock())
    assert await house.open() == []
    house.ran(RunState.FAILED, "disk gone again")
    (anew,) = await house.open()
    assert anew.id != alert.id


async def test_lasting_alert_closed_by_hand_is_silent_until_it_ended_and_came_back(house: House) -> None:
    house.sql("UPDATE storages SET capacity_bytes = 1000, free_bytes = 100")
    (alert,) = await house.open()
    await house.catalog.write(alerts.close, "default", [alert.id], "admin", house.clock())
    house.clock.now_ms += HOUR_MS
    assert await house.open() == []
    house.sql("UPDATE storages SET free_bytes = 900")
    await house.open()
    house.clock.now_ms += HOUR_MS
    await house.open()
    house.sql("UPDATE storages SET free_bytes = 100")
    (anew,) = await house.open()
    assert anew.id != alert.id


async def test_acknowledged_alert_names_who_and_stays_until_mended(house: House) -> None:
    house.ran(RunState.FAILED, "disk gone")
    (alert,) = await house.open()
    assert await house.catalog.write(alerts.acknowledge, "default", [alert.id], "eve", house.clock()) == [
        alert.id
    ]
    assert await house.catalog.write(alerts.acknowledge, "default", [alert.id], "bob", house.clock()) == []
    (taken,) = await house.open()
    assert (taken.state, taken.acknowledged_by) == (AlertState.ACKNOWLEDGED, "eve")


async def test_space_that_shrinks_escalates_the_same_alert(house: House) -> None:
    house.sql("UPDATE storages SET capacity_bytes = 1000, free_bytes = 140")
    (alert,) = await house.open()
    assert alert.level is AlertLevel.WARNING
    house.sql("UPDATE storages SET free_bytes = 40")
    (worse,) = await house.open()
    assert (worse.id, worse.level) == (alert.id, AlertLevel.CRITICAL)


async def test_node_that_comes_and_goes_is_one_alert(house: House) -> None:
    house.sql("UPDATE nodes SET last_seen_at_ms = ?", house.clock())
    for _ in range(5):
        house.online.by_role[Role.NODE] = frozenset()
        house.clock.now_ms += 40_000
        (alert,) = await house.open()
        house.online.by_role[Role.NODE] = frozenset({"node"})
        house.clock.now_ms += 20_000
        await house.open()
    assert (alert.kind, len(await house.alerts())) == (AlertKind.NODE_OFFLINE, 1)
    house.clock.now_ms += 299_000
    assert len(await house.open()) == 1
    house.clock.now_ms += 2_000
    assert await house.open() == []


async def test_node_gets_time_to_link_after_a_restart_of_the_server(house: House) -> None:
    house.clock.now_ms += HOUR_MS
    house.online.by_role[Role.NODE] = frozenset()
    house.fresh_alarm()
    house.clock.now_ms += 29_000
    assert await house.open() == []
    house.clock.now_ms += 2_000
    (alert,) = await house.open()
    assert alert.kind is AlertKind.NODE_OFFLINE


async def test_storage_of_a_node_that_is_away_is_not_told_twice(house: House) -> None:
    house.online.by_role[Role.NODE] = frozenset()
    house.sql("UPDATE storages SET is_online = 0")
    house.clock.now_ms += HOUR_MS
    await house.open()
    house.clock.now_ms += HOUR_MS
    assert [alert.kind for alert in await house.open() if alert.kind is not AlertKind.NO_SUCCESS] == [
        AlertKind.NODE_OFFLINE
    ]


async def test_storage_that_opens_at_once_after_its_node_linked_is_no_alert(house: House) -> None:
    house.sql("UPDATE storages SET is_online = 0, problem = 'wrong key'")
    assert await house.open() == []
    house.clock.now_ms += 31_000
    (alert,) = await house.open()
    assert alert.kind is AlertKind.STORAGE_OFFLINE
    assert "wrong key" in alert.text


async def test_host_away_for_a_day_is_an_alert(house: House) -> None:
    house.ran(RunState.DONE)
    house.online.by_role[Role.AGENT] = frozenset()
    house.sql("UPDATE hosts SET last_seen_at_ms = ?", house.clock())
    house.clock.now_ms += 23 * HOUR_MS
    assert await house.open() == []
    house.clock.now_ms += 2 * HOUR_MS
    (alert,) = await house.open()
    assert (alert.kind, alert.host_id) == (AlertKind.HOST_OFFLINE, "agent")


async def test_certificate_that_was_not_renewed_is_an_alert_until_a_newer_one_is_there(house: House) -> None:
    insert = (
        "INSERT INTO certificates (serial, role, holder_id, not_after_ms, issued_at_ms) VALUES (?,?,?,?,?)"
    )
    house.sql(insert, "1", "agent", "agent", house.clock() + 13 * 24 * HOUR_MS, house.clock())
    (alert,) = await house.open()
    assert (alert.kind, alert.host_id) == (AlertKind.CERTIFICATE_ENDING, "agent")
    house.sql(insert, "2", "agent", "agent", house.clock() + 300 * 24 * HOUR_MS, house.clock())
    assert await house.open() == []


async def test_alerts_and_the_queue_outlive_a_restart(house: House) -> None:
    house.catalog.write_now(
        channels.create,
        channel_id="mail",
        tenant_id="default",
        name="mail",
        sealed=b"sealed",
        least_level=AlertLevel.WARNING,
        now_ms=house.clock(),
    )
    house.ran(RunState.FAILED, "disk gone")
    (alert,) = await house.open()
    house.fresh_alarm()
    assert await house.open() == [alert]
    (waiting,) = await house.catalog.read(channels.due, house.clock(), 10)
    assert (waiting.alert_id, waiting.event) == (alert.id, "opened")


@pytest.mark.parametrize(
    ("least", "told"), [(AlertLevel.WARNING, 1), (AlertLevel.CRITICAL, 0)], ids=["wants-it", "too-low"]
)
async def test_channel_gets_what_reaches_its_least_level(house: House, least: AlertLevel, told: int) -> None:
    house.catalog.write_now(
        channels.create,
        channel_id="mail",
        tenant_id="default",
        name="mail",
        sealed=b"sealed",
        least_level=least,
        now_ms=house.clock(),
    )
    house.ran(RunState.WARNING)
    await house.open()
    assert len(await house.catalog.read(channels.due, house.clock(), 10)) == told


async def test_end_is_told_only_where_the_beginning_was(house: House) -> None:
    for name in ("told", "waiting"):
        house.catalog.write_now(
            channels.create,
            channel_id=name,
            tenant_id="default",
            name=name,
            sealed=b"sealed",
            least_level=AlertLevel.INFO,
            now_ms=house.clock(),
        )
    house.ran(RunState.FAILED, "disk gone")
    await house.open()
    first, _second = await house.catalog.read(channels.due, house.clock(), 10)
    house.catalog.write_now(channels.note_sent, first.delivery_id, house.clock())
    house.ran(RunState.DONE)
    await house.open()
    (last,) = await house.catalog.read(channels.due, house.clock(), 10)
    assert (last.channel_id, last.event) == (first.channel_id, "closed")
