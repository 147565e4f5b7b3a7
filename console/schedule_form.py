"""One schedule of a job's form: fields as they are typed, what is wrong with them, and the schedule they
mean. Pure."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo, available_timezones

from werkzeug.datastructures import MultiDict

from console.words import Words
from schemas import api

KINDS: Final = ("none", "daily", "monthly", "interval", "once")
UNITS: Final = {"minutes": 60, "hours": 3600, "days": 86400}
MONTHLY_ON: Final = ("day", "1", "2", "3", "4", "5")
"""A day of the month, or which one of a weekday; 5 is the last."""

_MINUTE = 60
_DAY = 86400
_TEXTS: Final = (
    "kind",
    "every",
    "unit",
    "at",
    "zone",
    "on",
    "day_of_month",
    "weekday",
    "months",
    "window_begin",
    "window_end",
    "moment",
    "backup_type",
)


def _all_days() -> list[str]:
    return [str(day) for day in range(1, 8)]


@dataclass(slots=True)
class ScheduleRow:
    """One schedule as it is typed."""

    kind: str = "none"
    every: str = "6"
    unit: str = "hours"
    at: str = "01:00"
    zone: str = "UTC"
    days: list[str] = field(default_factory=_all_days)
    on: str = "day"
    day_of_month: str = "1"
    weekday: str = "7"
    months: str = ""
    """Numbers with commas between them; empty means every month."""
    window_begin: str = ""
    window_end: str = ""
    moment: str = ""
    """Wall time of `once` in the zone, such as 2026-12-24T18:00."""
    backup_type: str = "incremental"

    @classmethod
    def read(cls, given: MultiDict[str, str], n: int) -> "ScheduleRow":
        """The `n`th schedule of a form that was sent."""
        plain = cls()
        row = cls(**{name: given.get(f"s{n}_{name}", getattr(plain, name)).strip() for name in _TEXTS})
        row.days = [day for day in given.getlist(f"s{n}_day") if day in set("1234567")]
        if row.backup_type not in set(api.BackupType):
            row.backup_type = plain.backup_type
        return row

    @classmethod
    def of(cls, schedule: api.Schedule) -> "ScheduleRow":
        """The fields of a schedule that exists."""
        row = cls(backup_type=schedule.backup_type)
        match schedule:
            case api.DailySchedule():
                row.kind, row.at, row.zone = "daily", schedule.at, schedule.zone
                row.days = [str(day) for day in schedule.weekdays]
            case api.MonthlySchedule():
                row.kind, row.at, row.zone = "monthly", schedule.at, schedule.zone
                row.on = "day" if schedule.weekday is None else str(schedule.week)
                row.day_of_month, row.weekday = str(schedule.day or 1), str(schedule.weekday or 7)
                months = sorted(set(schedule.months))
                row.months = "" if len(months) == 12 else ",".join(map(str, months))
            case api.OnceSchedule():
                row.kind, row.zone = "once", "UTC"
                row.moment = schedule.time.astimezone(ZoneInfo("UTC")).strftime("%Y-%m-%dT%H:%M")
            case api.IntervalSchedule():
                row.kind = "interval"
                seconds = schedule.every_seconds
                row.unit = next(unit for unit in ("days", "hours", "minutes") if seconds % UNITS[unit] == 0)
                row.every = str(seconds // UNITS[row.unit])
                if schedule.window is not None:
                    row.window_begin, row.window_end = schedule.window.begin, schedule.window.end
                    row.zone = schedule.window.zone
                    row.days = [str(day) for day in schedule.window.weekdays]
        return row

    def hidden(self, n: int) -> Iterator[tuple[str, str]]:
        """All fields, to be carried along by a page that does not show them."""
        yield from ((f"s{n}_{name}", getattr(self, name)) for name in _TEXTS)
        yield from ((f"s{n}_day", day) for day in self.days)

    def problems(self, n: int, t: Words) -> Iterator[tuple[str, str]]:
        """What is wrong, by field."""
        has_window = self.kind == "interval" and bool(self.window_begin or self.window_end)
        if self.kind == "interval":
            seconds = (number(self.every, 1, 100000) or 0) * UNITS.get(self.unit, 0)
            if not _MINUTE <= seconds <= 366 * _DAY:
                yield f"s{n}_every", t("wizard.wrong.every")
        if has_window and not (
            is_wall_time(self.window_begin)
            and is_wall_time(self.window_end)
            and self.window_begin != self.window_end
        ):
            yield f"s{n}_window_begin", t("wizard.wrong.window")
        if self.kind in ("daily", "monthly") and not is_wall_time(self.at):
            yield f"s{n}_at", t("wizard.wrong.at")
        if (
            self.kind in ("daily", "monthly", "once") or has_window
        ) and self.zone not in available_timezones():
            yield f"s{n}_zone", t("wizard.wrong.zone", zone=self.zone)
        if (self.kind == "daily" or has_window) and not self.days:
            yield f"s{n}_day", t("wizard.wrong.days")
        if self.kind == "monthly":
            yield from self._monthly_problems(n, t)
        if self.kind == "once" and self._moment() is None:
            yield f"s{n}_moment", t("wizard.wrong.moment")

    def _monthly_problems(self, n: int, t: Words) -> Iterator[tuple[str, str]]:
        if self.on == "day" and number(self.day_of_month, 1, 31) is None:
            yield f"s{n}_day_of_month", t("wizard.wrong.number", low=1, high=31)
        if self._months() is None:
            yield f"s{n}_months", t("wizard.wrong.months")

    def _months(self) -> list[int] | None:
        if not self.months:
            return list(range(1, 13))
        given = [number(part.strip(), 1, 12) for part in self.months.replace("，", ",").split(",")]
        found = sorted({month for month in given if month is not None})
        return None if None in given else found

    def _moment(self) -> datetime | None:
        try:
            naive = datetime.fromisoformat(self.moment)
        except ValueError:
            return None
        return (
            None
            if naive.tzinfo or self.zone not in available_timezones()
            else naive.replace(tzinfo=ZoneInfo(self.zone))
        )

    def schedule(self) -> api.Schedule | None:
        """What it means; None for by hand. Only after `problems` was empty."""
        kind = api.BackupType(self.backup_type)
        days = sorted({int(day) for day in self.days})
        match self.kind:
            case "daily":
                return api.DailySchedule(at=self.at, zone=self.zone, weekdays=days, backup_type=kind)
            case "monthly":
                is_day = self.on == "day"
                return api.MonthlySchedule(
                    at=self.at,
                    zone=self.zone,
                    day=int(self.day_of_month) if is_day else None,
                    weekday=None if is_day else int(self.weekday),
                    week=1 if is_day else int(self.on),
                    months=self._months() or [],
                    backup_type=kind,
                )
            case "interval":
                window = None
                if self.window_begin:
                    window = api.Window(
                        begin=self.window_begin, end=self.window_end, zone=self.zone, weekdays=days
                    )
                seconds = int(self.every) * UNITS[self.unit]
                return api.IntervalSchedule(every_seconds=seconds, window=window, backup_type=kind)
            case "once":
                moment = self._moment()
                assert moment is not None
                return api.OnceSchedule(time=moment, backup_type=kind)
            case _:
                return None


def number(text: str, low: int, high: int) -> int | None:
    """The whole number, None if it is none or outside."""
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return int(text) if low <= int(text) <= high else None


def is_wall_time(text: str) -> bool:
    """True for `01:30`."""
    hours, colon, minutes = text.partition(":")
    return (
        colon == ":"
        and len(hours) == len(minutes) == 2
        and number(hours, 0, 23) is not None
        and number(minutes, 0, 59) is not None
    )
