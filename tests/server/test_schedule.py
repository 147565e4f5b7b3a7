from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from schemas.api import BackupType, DailySchedule, IntervalSchedule, Schedule
from vdrd.model.errors import BadArgument
from vdrd.server import schedule


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


BERLIN = "Europe/Berlin"


@pytest.mark.parametrize(
    ("after", "at", "zone", "expected"),
    [
        ("2026-01-10T00:00", "01:00", "UTC", "2026-01-10T01:00"),
        ("2026-01-10T01:00", "01:00", "UTC", "2026-01-11T01:00"),
        ("2026-01-10T16:59", "01:00", "Asia/Shanghai", "2026-01-10T17:00"),
        # The clocks jump from 02:00 to 03:00 at 01:00 UTC: 02:30 does not exist, 03:00 comes right after.
        ("2026-03-28T12:00", "02:30", BERLIN, "2026-03-29T01:00"),
        # From 03:00 back to 02:00 at 01:00 UTC: 02:30 comes twice, the first one counts, and only it.
        ("2026-10-24T12:00", "02:30", BERLIN, "2026-10-25T00:30"),
        ("2026-10-25T00:30", "02:30", BERLIN, "2026-10-26T01:30"),
        # A day that Samoa left out altogether.
        ("2011-12-29T12:00", "12:00", "Pacific/Apia", "2011-12-29T22:00"),
    ],
    ids=["later-today", "tomorrow", "other-zone", "skipped", "twice-first", "twice-once", "day-left-out"],
)
def test_daily_fires_at_the_wall_time_of_its_zone(after: str, at: str, zone: str, expected: str) -> None:
    found = schedule.next_firing(DailySchedule(at=at, zone=zone), utc(after), None)
    assert found == utc(expected)


@pytest.mark.parametrize("zone", ["UTC", BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu"])
def test_daily_over_a_year_fires_once_on_each_wanted_day(zone: str) -> None:
    daily = DailySchedule(at="02:15", zone=zone, weekdays=[1, 2, 3, 4, 5])
    moment, days = utc("2026-01-01T00:00"), []
    while moment < utc("2027-01-01T00:00"):
        found = schedule.next_firing(daily, moment, moment)
        assert found is not None
        assert found > moment
        moment = found
        days.append(found.astimezone(ZoneInfo(zone)).date())
    assert len(days) == len(set(days))
    first, last = days[0], days[-1]
    every = [first + timedelta(days=offset) for offset in range((last - first).days + 1)]
    assert days == [day for day in every if day.isoweekday() <= 5]


def test_interval_counts_from_the_last_firing_and_never_into_the_past() -> None:
    hourly = IntervalSchedule(every_seconds=3600)
    now = utc("2026-01-01T12:00")
    assert schedule.next_firing(hourly, now, None) == utc("2026-01-01T13:00")
    assert schedule.next_firing(hourly, now, utc("2026-01-01T11:30")) == utc("2026-01-01T12:30")
    assert schedule.next_firing(hourly, now, utc("2025-12-01T00:00")) == now


def test_plan_of_several_takes_the_first_and_at_a_tie_the_most_thorough() -> None:
    schedules: list[Schedule] = [
        DailySchedule(at="01:00", backup_type=BackupType.INCREMENTAL),
        DailySchedule(at="01:00", weekdays=[7], backup_type=BackupType.FULL),
    ]
    saturday, sunday = utc("2026-01-03T00:00"), utc("2026-01-04T00:00")
    assert schedule.plan(schedules, saturday, None) == (utc("2026-01-03T01:00"), BackupType.INCREMENTAL)
    assert schedule.plan(schedules, sunday, None) == (utc("2026-01-04T01:00"), BackupType.FULL)
    assert schedule.plan([], saturday, None) is None


@pytest.mark.parametrize("zone", ["Nowhere/Land", "../etc/passwd", "\x00"], ids=["unknown", "path", "nul"])
def test_check_of_a_zone_that_is_none_is_refused(zone: str) -> None:
    with pytest.raises(BadArgument, match="zone"):
        schedule.check([DailySchedule(at="01:00", zone=zone)])
