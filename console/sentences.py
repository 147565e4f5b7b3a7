"""Jobs, schedules and retention as plain sentences, in the reader's language. Pure."""

from collections.abc import Iterable, Sequence

from console import shown
from console.words import Words
from schemas import api

_EVERY_DAY = 7
_EVERY_MONTH = 12


def schedule_sentence(schedule: api.Schedule, t: Words) -> str:
    """`Incremental every 6 h`, `Incremental every day at 01:00 (Asia/Shanghai)`."""
    kind = t(f"word.backup_type.{schedule.backup_type}")
    match schedule:
        case api.IntervalSchedule():
            text = t("sentence.interval", type=kind, span=shown.duration(schedule.every_seconds, t))
            window = schedule.window
            if window is None:
                return text
            return t(
                "sentence.window",
                text=text,
                when=_days(window.weekdays, t),
                begin=window.begin,
                end=window.end,
                zone=window.zone,
            )
        case api.DailySchedule():
            when = _days(schedule.weekdays, t)
            return t("sentence.daily", type=kind, when=when, at=schedule.at, zone=schedule.zone)
        case api.MonthlySchedule():
            if schedule.weekday is None:
                when = t("sentence.on_day", day=schedule.day)
            else:
                when = t(f"sentence.week.{schedule.week}", day=t(f"weekday.{schedule.weekday}"))
            if len(set(schedule.months)) < _EVERY_MONTH:
                months = t("sentence.day_comma").join(str(month) for month in sorted(set(schedule.months)))
                when = t("sentence.in_months", when=when, months=months)
            return t("sentence.monthly", type=kind, when=when, at=schedule.at, zone=schedule.zone)
        case api.OnceSchedule():
            return t("sentence.once", type=kind, moment=shown.absolute(schedule.time))


def _days(weekdays: Sequence[int], t: Words) -> str:
    days = sorted(set(weekdays))
    if len(days) == _EVERY_DAY:
        return t("sentence.every_day")
    return t("sentence.on_days", days=t("sentence.day_comma").join(t(f"weekday.{day}") for day in days))


def schedules_sentence(schedules: Sequence[api.Schedule], t: Words, *, is_enabled: bool = True) -> str:
    """All schedules of a job in one line."""
    if not schedules:
        return t("sentence.by_hand")
    text = t("sentence.semicolon").join(schedule_sentence(schedule, t) for schedule in schedules)
    return text if is_enabled else t("sentence.paused", text=text)


def retention_sentence(options: api.JobOptions, t: Words) -> str:
    """What is kept."""
    rules = [
        t(f"sentence.{name}", count=count)
        for name in ("keep_last", "keep_days", "keep_weekly", "keep_monthly", "keep_yearly")
        if (count := getattr(options, name))
    ]
    # Chinese sentences stand without spaces between them.
    return ("" if t.language == "zh" else " ").join(rules) or t("sentence.keep_all")


def sources_sentence(kind: api.ObjectKind, sources: Iterable[api.JobSource], t: Words) -> str:
    """`3 disks of 2 hosts`."""
    listed = list(sources)
    paths = sum(len(source.paths) for source in listed)
    hosts = t("sentence.hosts", count=len({source.host_id for source in listed}))
    return t(f"sentence.sources_{kind}", count=paths, hosts=hosts)
