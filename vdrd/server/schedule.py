"""When a schedule fires next: pure arithmetic over wall clocks and zones. Knows no jobs and no clock."""

from calendar import monthrange
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.api.schedules import (
    DailySchedule,
    IntervalSchedule,
    MonthlySchedule,
    OnceSchedule,
    Schedule,
    Window,
)
from schemas.api.words import BackupType
from vdrd.model.errors import BadArgument

_DAYS_AHEAD = 15
"""A week finds every weekday; the rest is room for a day a zone leaves out altogether."""
_MONTHS_AHEAD = 13
_LAST_WEEK = 5


def check(schedules: list[Schedule], now: datetime) -> None:
    """Raise BadArgument for what the types alone let through, and for a moment that has passed already."""
    for schedule in schedules:
        match schedule:
            case DailySchedule():
                _check_days(schedule.zone, schedule.weekdays, "a daily schedule")
            case IntervalSchedule(window=Window() as window):
                _check_days(window.zone, window.weekdays, "a window")
                if window.begin == window.end:
                    raise BadArgument(field="schedules", reason="a window must not end when it begins")
            case MonthlySchedule():
                zone_named(schedule.zone)
                if (schedule.day is None) == (schedule.weekday is None):
                    reason = "a monthly schedule needs a day of the month or a weekday, not both"
                    raise BadArgument(field="schedules", reason=reason)
                if not schedule.months:
                    raise BadArgument(field="schedules", reason="a monthly schedule needs at least one month")
            case OnceSchedule() if schedule.time <= now:
                raise BadArgument(field="schedules", reason=f"{schedule.time.isoformat()} has passed already")
            case _:
                pass


def _check_days(zone: str, weekdays: list[int], what: str) -> None:
    zone_named(zone)
    if not weekdays:
        raise BadArgument(field="schedules", reason=f"{what} needs at least one weekday")


def zone_named(name: str) -> ZoneInfo:
    """The time zone. Raises BadArgument."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise BadArgument(field="zone", reason=f"there is no time zone {name}") from error


def moment_of(day: date, at: time, zone: ZoneInfo) -> datetime:
    """The moment in UTC at which the zone's clocks show `at` on `day`.

    A time that is skipped is the first moment after the gap; a time that comes twice is the first of both.
    """
    local = datetime.combine(day, at, tzinfo=zone)
    moment = local.astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local.replace(tzinfo=None):
        return moment
    # In a gap: find, to the minute, the first moment at which the clocks have passed it.
    low, high = moment - timedelta(hours=4), moment + timedelta(hours=4)
    wanted = local.replace(tzinfo=None)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        if middle.astimezone(zone).replace(tzinfo=None) < wanted:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


def next_firing(schedule: Schedule, after: datetime, last: datetime | None) -> datetime | None:
    """First moment after `after` at which the schedule fires. `last` is when it fired before, None for
    never."""
    match schedule:
        case IntervalSchedule():
            every = timedelta(seconds=schedule.every_seconds)
            wanted = after + every if last is None else max(after, last + every)
            return wanted if schedule.window is None else into_window(schedule.window, wanted)
        case DailySchedule():
            zone = zone_named(schedule.zone)
            at = time.fromisoformat(schedule.at)
            day = after.astimezone(zone).date() - timedelta(days=1)
            for offset in range(_DAYS_AHEAD):
                candidate = day + timedelta(days=offset)
                if candidate.isoweekday() in schedule.weekdays:
                    moment = moment_of(candidate, at, zone)
                    if moment > after:
                        return moment
            return None
        case MonthlySchedule():
            return _next_monthly(schedule, after)
        case OnceSchedule():
            return schedule.time if schedule.time > after else None


def _next_monthly(schedule: MonthlySchedule, after: datetime) -> datetime | None:
    zone = zone_named(schedule.zone)
    at = time.fromisoformat(schedule.at)
    # From the month before: at its end the zone may still be in it while UTC is not.
    first = (after.astimezone(zone).date().replace(day=1) - timedelta(days=1)).replace(day=1)
    for offset in range(_MONTHS_AHEAD + 1):
        index = first.month - 1 + offset
        year, month = first.year + index // 12, index % 12 + 1
        if month in schedule.months:
            moment = moment_of(day_in_month(schedule, year, month), at, zone)
            if moment > after:
                return moment
    return None


def day_in_month(schedule: MonthlySchedule, year: int, month: int) -> date:
    """The day on which a monthly schedule falls."""
    first_weekday, days = monthrange(year, month)
    if schedule.day is not None:
        return date(year, month, min(schedule.day, days))
    # monthrange counts Monday as 0.
    first = 1 + ((schedule.weekday or 1) - 1 - first_weekday) % 7
    if schedule.week < _LAST_WEEK:
        return date(year, month, first + 7 * (schedule.week - 1))
    return date(year, month, first + (days - first) // 7 * 7)


def into_window(window: Window, wanted: datetime) -> datetime:
    """`wanted` if it lies in the window, else the window's next beginning."""
    zone = zone_named(window.zone)
    begin, end = time.fromisoformat(window.begin), time.fromisoformat(window.end)
    day = wanted.astimezone(zone).date() - timedelta(days=1)
    for offset in range(_DAYS_AHEAD):
        candidate = day + timedelta(days=offset)
        if candidate.isoweekday() not in window.weekdays:
            continue
        opens = moment_of(candidate, begin, zone)
        closes = moment_of(candidate + timedelta(days=1) if end <= begin else candidate, end, zone)
        if wanted < closes:
            return max(wanted, opens)
    return wanted


def plan(
    schedules: list[Schedule], after: datetime, last: datetime | None
) -> tuple[datetime, BackupType] | None:
    """The first firing of several schedules after `after`. At the same moment the most thorough type wins."""
    order = [BackupType.FULL, BackupType.DIFFERENTIAL, BackupType.INCREMENTAL]
    firings = [
        (moment, order.index(schedule.backup_type))
        for schedule in schedules
        if (moment := next_firing(schedule, after, last)) is not None
    ]
    if not firings:
        return None
    moment, rank = min(firings)
    return moment, order[rank]
