"""The verdict over hosts: protected, at risk, unprotected, and why."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from console.protection import Protection, interval_seconds, judge
from schemas import api
from tests.console.fake_server import FakeServer

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAILY = api.DailySchedule(at="01:00")
HOURLY = api.IntervalSchedule(every_seconds=3600)


def made(
    newest_hours: float | None, *, host: dict[str, Any] | None = None, job: dict[str, Any] | None = None
) -> tuple[Any, ...]:
    server = FakeServer(lambda: NOW)
    server.add_storage("main")
    newest = None if newest_hours is None else NOW - timedelta(hours=newest_hours)
    host_made = server.add_host("h", last_success_at=newest, **(host or {}))
    job_made = server.add_job("j", api.ObjectKind.FILES, [host_made], ["/srv"])
    return host_made, msgspec.structs.replace(job_made, **(job or {}))


@pytest.mark.parametrize(
    ("newest_hours", "job", "host", "protection", "reason"),
    [
        (30, {"schedules": [DAILY]}, {}, Protection.PROTECTED, "fine"),
        (37, {"schedules": [DAILY]}, {}, Protection.AT_RISK, "stale"),
        (37, {"schedules": [DAILY]}, {"presence": api.Presence.OFFLINE}, Protection.AT_RISK, "offline"),
        (2, {"schedules": [HOURLY]}, {}, Protection.AT_RISK, "stale"),
        (2, {"schedules": [DAILY, HOURLY]}, {}, Protection.AT_RISK, "stale"),
        (2, {"schedules": [HOURLY], "is_enabled": False}, {}, Protection.PROTECTED, "fine"),
        (150, {"schedules": []}, {}, Protection.PROTECTED, "fine"),
        (170, {"schedules": []}, {}, Protection.AT_RISK, "stale"),
        (1, {"last_run_state": api.RunState.FAILED}, {}, Protection.AT_RISK, "failed"),
        (1, {"last_run_state": api.RunState.WARNING}, {}, Protection.PROTECTED, "fine"),
        (None, {}, {}, Protection.UNPROTECTED, "no-point"),
    ],
)
def test_host_with_job_is_judged_by_its_newest_point_and_last_run(
    newest_hours: float | None, job: dict[str, Any], host: dict[str, Any], protection: Protection, reason: str
) -> None:
    host_made, job_made = made(newest_hours, host=host, job=job)
    (judged,) = judge([host_made], [job_made], NOW).hosts
    assert (judged.protection, judged.reason) == (protection, reason)


def test_host_without_job_is_unprotected_however_fresh_its_point() -> None:
    host, _ = made(1)
    (judged,) = judge([host], [], NOW).hosts
    assert (judged.protection, judged.reason, judged.job) == (Protection.UNPROTECTED, "no-job", None)


def test_things_to_do_are_the_worst_first_and_revoked_hosts_do_not_count() -> None:
    server = FakeServer(lambda: NOW)
    server.add_storage("main")
    fresh = NOW - timedelta(hours=1)
    fine = server.add_host("a", last_success_at=fresh)
    risk = server.add_host("b", last_success_at=NOW - timedelta(days=9))
    none = server.add_host("c")
    gone = server.add_host("d", presence=api.Presence.REVOKED)
    jobs = [server.add_job("j", api.ObjectKind.FILES, [fine, risk], ["/srv"])]
    verdict = judge([gone, fine, risk, none], jobs, NOW)
    assert (verdict.protected, verdict.at_risk, verdict.unprotected, verdict.total) == (1, 1, 1, 3)
    assert [item.host.name for item in verdict.to_do] == ["c", "b"]


@pytest.mark.parametrize(
    ("weekdays", "days"), [([1, 2, 3, 4, 5, 6, 7], 1), ([1], 7), ([1, 5], 4), ([6, 7], 6), ([1, 3, 5], 3)]
)
def test_longest_gap_of_weekdays_is_what_is_promised(weekdays: list[int], days: int) -> None:
    _, job = made(1, job={"schedules": [api.DailySchedule(at="01:00", weekdays=weekdays)]})
    assert interval_seconds(job) == days * 86400
