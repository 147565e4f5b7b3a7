"""When a schedule fires next: pure arithmetic over wall clocks and zones. Knows no jobs and no clock."""

from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from schemas.api.jobs import DailySchedule, IntervalSchedule, Schedule
from schemas.api.words import BackupType
from vdrd.model.errors import BadArgument

_DAYS_AHEAD = 15
"""A week finds every weekday; the rest is room for a day a zone leaves out altogether."""


def check(schedules: list[Schedule]) -> None:
    """Raise BadArgument for what the types alone let through."""
    for schedule in schedules:
        if isinstance(schedule, DailySchedule):
            zone_named(schedule.zone)
            if not schedule.weekdays:
                raise BadArgument(field="schedules", reason="a daily schedule needs at least one weekday")


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
            if last is None:
                return after + timedelta(seconds=schedule.every_seconds)
            return max(after, last + timedelta(seconds=schedule.every_seconds))
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
