from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from schemas.api import (
    BackupType,
    DailySchedule,
    IntervalSchedule,
    MonthlySchedule,
    OnceSchedule,
    Schedule,
    Window,
    longest_gap_seconds,
)
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
        schedule.check([DailySchedule(at="01:00", zone=zone)], utc("2026-01-01T00:00"))


@pytest.mark.parametrize(
    ("monthly", "after", "expected"),
    [
        (MonthlySchedule(at="01:00", day=15), "2026-01-15T01:00", "2026-02-15T01:00"),
        (MonthlySchedule(at="01:00", day=31), "2026-02-01T00:00", "2026-02-28T01:00"),
        (MonthlySchedule(at="01:00", day=29), "2028-02-01T00:00", "2028-02-29T01:00"),
        (MonthlySchedule(at="01:00", weekday=7, week=1), "2026-03-01T01:00", "2026-04-05T01:00"),
        (MonthlySchedule(at="01:00", weekday=5, week=5), "2026-05-01T00:00", "2026-05-29T01:00"),
        (MonthlySchedule(at="01:00", day=1, months=[1, 7]), "2026-01-02T00:00", "2026-07-01T01:00"),
        (MonthlySchedule(at="01:00", day=1, months=[1]), "2026-01-01T01:00", "2027-01-01T01:00"),
        # In Auckland the new month begins while UTC is still in the old one.
        (MonthlySchedule(at="01:00", day=1, zone="Pacific/Auckland"), "2026-05-31T12:00", "2026-05-31T13:00"),
        # The night the clocks skip 02:30.
        (MonthlySchedule(at="02:30", weekday=7, week=5, zone=BERLIN), "2026-03-20T00:00", "2026-03-29T01:00"),
    ],
    ids=[
        "day",
        "short-month",
        "leap-day",
        "first-sunday",
        "last-friday",
        "two-months",
        "a-year",
        "zone",
        "gap",
    ],
)
def test_monthly_fires_on_its_day(monthly: MonthlySchedule, after: str, expected: str) -> None:
    assert schedule.next_firing(monthly, utc(after), None) == utc(expected)


def test_once_fires_once() -> None:
    once = OnceSchedule(time=utc("2026-12-24T18:00"))
    assert schedule.next_firing(once, utc("2026-01-01T00:00"), None) == utc("2026-12-24T18:00")
    assert schedule.next_firing(once, utc("2026-12-24T18:00"), utc("2026-12-24T18:00")) is None


@pytest.mark.parametrize(
    ("window", "wanted", "expected"),
    [
        (Window(begin="08:00", end="18:00"), "2026-01-05T09:00", "2026-01-05T09:00"),
        (Window(begin="08:00", end="18:00"), "2026-01-05T07:00", "2026-01-05T08:00"),
        (Window(begin="08:00", end="18:00"), "2026-01-05T18:00", "2026-01-06T08:00"),
        (Window(begin="22:00", end="06:00"), "2026-01-05T03:00", "2026-01-05T03:00"),
        (Window(begin="22:00", end="06:00"), "2026-01-05T12:00", "2026-01-05T22:00"),
        # Friday's window goes on into Saturday; Saturday has none of its own.
        (Window(begin="22:00", end="06:00", weekdays=[5]), "2026-01-10T05:00", "2026-01-10T05:00"),
        (Window(begin="22:00", end="06:00", weekdays=[5]), "2026-01-10T06:00", "2026-01-16T22:00"),
        (Window(begin="08:00", end="18:00", zone="Asia/Shanghai"), "2026-01-05T12:00", "2026-01-06T00:00"),
    ],
    ids=["inside", "before", "at-its-end", "after-midnight", "by-day", "friday-night", "saturday", "zone"],
)
def test_interval_outside_its_window_waits_for_the_next(window: Window, wanted: str, expected: str) -> None:
    hourly = IntervalSchedule(every_seconds=3600, window=window)
    last = utc(wanted) - timedelta(hours=1)
    assert schedule.next_firing(hourly, last, last) == utc(expected)


@pytest.mark.parametrize(
    "wrong",
    [
        DailySchedule(at="01:00", weekdays=[]),
        MonthlySchedule(at="01:00"),
        MonthlySchedule(at="01:00", day=1, weekday=1),
        MonthlySchedule(at="01:00", day=1, months=[]),
        IntervalSchedule(every_seconds=3600, window=Window(begin="08:00", end="08:00")),
        IntervalSchedule(every_seconds=3600, window=Window(begin="08:00", end="09:00", weekdays=[])),
        OnceSchedule(time=utc("2025-12-31T23:59")),
    ],
    ids=["no-days", "no-day", "day-and-weekday", "no-months", "empty-window", "window-no-days", "past"],
)
def test_check_of_a_schedule_that_never_fires_is_refused(wrong: Schedule) -> None:
    with pytest.raises(BadArgument):
        schedule.check([wrong], utc("2026-01-01T00:00"))


@pytest.mark.parametrize("zone", [BERLIN, "America/New_York", "Asia/Shanghai", "Australia/Lord_Howe"])
def test_a_year_of_a_usual_calendar_has_each_run_it_should_and_no_other(zone: str) -> None:
    """Full on the first Sunday of a month, differential on other Sundays, incremental on other days, and
    every two hours in the office hours of workdays."""
    calendar: list[Schedule] = [
        MonthlySchedule(at="02:30", zone=zone, weekday=7, week=1, backup_type=BackupType.FULL),
        DailySchedule(at="02:30", zone=zone, weekdays=[7], backup_type=BackupType.DIFFERENTIAL),
        DailySchedule(at="02:30", zone=zone),
        IntervalSchedule(
            every_seconds=7200, window=Window(begin="08:00", end="18:00", zone=zone, weekdays=[1, 2, 3, 4, 5])
        ),
    ]
    clocks = ZoneInfo(zone)
    moment = datetime(2026, 1, 1, tzinfo=clocks).astimezone(UTC)
    end = datetime(2027, 1, 1, tzinfo=clocks).astimezone(UTC)
    nights: dict[date, BackupType] = {}
    by_day = 0
    last: datetime | None = None
    while True:
        planned = schedule.plan(calendar, moment, last)
        assert planned is not None
        fired, kind = planned
        assert fired >= moment
        if fired >= end:
            break
        local = fired.astimezone(clocks)
        # In the night the clocks jump, half past two is three o'clock, or half past two an hour's half later.
        if local.hour in (2, 3):
            assert local.date() not in nights
            nights[local.date()] = kind
        else:
            assert (8 <= local.hour < 18, local.isoweekday() <= 5, kind) == (
                True,
                True,
                BackupType.INCREMENTAL,
            )
            by_day += 1
        moment = last = fired
    assert len(nights) == 365
    for day, kind in nights.items():
        sunday = BackupType.FULL if day.day <= 7 else BackupType.DIFFERENTIAL
        assert kind is (sunday if day.isoweekday() == 7 else BackupType.INCREMENTAL)
    workdays = sum(day.isoweekday() <= 5 for day in nights)
    assert by_day == 5 * workdays


@pytest.mark.parametrize(
    ("schedules", "days"),
    [
        ([], None),
        ([OnceSchedule(time=utc("2026-12-24T18:00"))], None),
        ([MonthlySchedule(at="01:00", day=1)], 31),
        ([MonthlySchedule(at="01:00", day=1, months=[1, 4])], 279),
        (
            [
                IntervalSchedule(
                    every_seconds=3600, window=Window(begin="08:00", end="18:00", weekdays=[1, 2])
                )
            ],
            6,
        ),
    ],
    ids=["none", "once", "monthly", "two-months", "window"],
)
def test_longest_gap_follows_the_schedules(schedules: list[Schedule], days: float | None) -> None:
    found = longest_gap_seconds(schedules)
    assert (None if found is None else found / 86400) == days
