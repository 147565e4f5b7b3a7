"""When a job runs: the kinds of schedules. Their arithmetic over clocks and zones is the server's."""

from collections.abc import Iterable
from typing import Annotated

from msgspec import Meta, field

from schemas.api.values import Message, Time
from schemas.api.words import BackupType

Zone = Annotated[str, Meta(min_length=1, max_length=64)]
"""A name of the IANA time zone database, such as Asia/Shanghai."""

WallTime = Annotated[str, Meta(pattern=r"^([01]\d|2[0-3]):[0-5]\d$")]
Weekday = Annotated[int, Meta(ge=1, le=7)]
"""1 is Monday."""


class Window(Message, frozen=True, kw_only=True):
    """The part of a day in which runs may start. One that ends at or before its beginning goes past midnight
    and belongs to the day it begins on."""

    begin: WallTime
    end: WallTime
    zone: Zone = "UTC"
    weekdays: list[Weekday] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 7])


class IntervalSchedule(Message, frozen=True, kw_only=True, tag="interval"):
    """Every so many seconds after the start of the run before."""

    every_seconds: Annotated[int, Meta(ge=60, le=366 * 86400)]
    window: Window | None = None
    """A firing outside it waits for its next beginning. None: at any time."""
    backup_type: BackupType = BackupType.INCREMENTAL


class DailySchedule(Message, frozen=True, kw_only=True, tag="daily"):
    """Once on each of the given days. A moment that a change to summer time skips is the first one after the
    gap; one
    that occurs twice is the first."""

    at: WallTime
    zone: Zone = "UTC"
    weekdays: list[Weekday] = field(default_factory=lambda: [1, 2, 3, 4, 5, 6, 7])
    backup_type: BackupType = BackupType.INCREMENTAL


class MonthlySchedule(Message, frozen=True, kw_only=True, tag="monthly"):
    """Once a month: on a day of the month, or on the first to fourth or last of a weekday. A month without
    that day has its last one instead. Skipped and repeated moments as for `daily`."""

    at: WallTime
    zone: Zone = "UTC"
    day: Annotated[int, Meta(ge=1, le=31)] | None = None
    weekday: Weekday | None = None
    week: Annotated[int, Meta(ge=1, le=5)] = 1
    """Which one of the weekday; 5 is the last."""
    months: list[Annotated[int, Meta(ge=1, le=12)]] = field(default_factory=lambda: list(range(1, 13)))
    backup_type: BackupType = BackupType.INCREMENTAL


class OnceSchedule(Message, frozen=True, kw_only=True, tag="once"):
    """At one moment. Missed while the server is down, it is made up for."""

    time: Time
    backup_type: BackupType = BackupType.INCREMENTAL


Schedule = IntervalSchedule | DailySchedule | MonthlySchedule | OnceSchedule

_DAY_SECONDS = 86400.0
_MONTH_DAYS = 31
_YEAR_MONTHS = 12


def longest_gap_seconds(schedules: Iterable[Schedule]) -> float | None:
    """The longest time between two runs that these schedules promise; None if none of them repeats."""
    gaps = []
    for schedule in schedules:
        match schedule:
            case IntervalSchedule(window=None):
                gaps.append(float(schedule.every_seconds))
            case IntervalSchedule(window=Window() as window):
                gaps.append(
                    max(float(schedule.every_seconds), _longest_step(window.weekdays, 7) * _DAY_SECONDS)
                )
            case DailySchedule():
                gaps.append(_longest_step(schedule.weekdays, 7) * _DAY_SECONDS)
            case MonthlySchedule():
                months = _longest_step(schedule.months, _YEAR_MONTHS)
                gaps.append(months * _MONTH_DAYS * _DAY_SECONDS)
            case _:
                pass
    return min(gaps, default=None)


def _longest_step(turns: Iterable[int], cycle: int) -> int:
    """The longest way from one of `turns` to the next, round a cycle of that length."""
    given = sorted(set(turns)) or [1]
    return max(
        (after - before - 1) % cycle + 1 for before, after in zip(given, [*given[1:], given[0]], strict=True)
    )
