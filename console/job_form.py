"""The form of a job: what the wizard's steps carry from one to the next, checked step by step, and turned
into calls.

Pure: fields in, problems or requests out. Nothing typed is ever lost: the fields go back to the page as they
came.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar
from zoneinfo import available_timezones

import msgspec
from werkzeug.datastructures import MultiDict

from console.words import Words
from schemas import api

STEPS: Final = ("what", "pick", "when", "check")
SCHEDULES_MAX = 8
UNITS: Final = {"minutes": 60, "hours": 3600, "days": 86400}

M = TypeVar("M", bound=api.Message)

_MINUTE = 60
_DAY = 86400


@dataclass(slots=True)
class ScheduleRow:
    """One schedule as it is typed."""

    kind: str = "none"
    """`none`, `interval` or `daily`."""
    every: str = "6"
    unit: str = "hours"
    at: str = "01:00"
    zone: str = "UTC"
    days: list[str] = field(default_factory=lambda: [str(day) for day in range(1, 8)])
    backup_type: str = "incremental"


@dataclass(slots=True)
class JobForm:
    """All fields of a job as text."""

    name: str = ""
    kind: str = "files"
    hosts: list[str] = field(default_factory=list)
    paths: dict[str, str] = field(default_factory=dict)
    """By host, a path a line."""
    include: str = ""
    exclude: str = ""
    storage_id: str = ""
    schedules: list[ScheduleRow] = field(default_factory=lambda: [ScheduleRow(kind="daily")])
    keep_last: str = ""
    keep_days: str = "30"
    channel_count: str = "2"
    retry_count: str = "3"
    retry_delay_seconds: str = "30"
    revision: str = ""

    # In and out of the page

    @classmethod
    def read(cls, given: MultiDict[str, str]) -> "JobForm":
        """The form as it was sent."""
        form = cls()
        for name in (
            "name",
            "kind",
            "include",
            "exclude",
            "storage_id",
            "keep_last",
            "keep_days",
            "revision",
        ):
            setattr(form, name, given.get(name, getattr(form, name)).strip("\r\n"))
        for name in ("channel_count", "retry_count", "retry_delay_seconds"):
            setattr(form, name, given.get(name, getattr(form, name)).strip())
        form.name = form.name.strip()
        form.hosts = list(dict.fromkeys(given.getlist("host")))
        form.paths = {
            host: "\n".join(_lines("\n".join(given.getlist(f"paths_{host}")))) for host in form.hosts
        }
        if "schedules" in given:
            form.schedules = [_row(given, n) for n in range(_count(given.get("schedules", "0")))]
        return form

    @classmethod
    def of_job(cls, job: api.JobInfo) -> "JobForm":
        """The form of a job that exists."""
        options = job.options
        return cls(
            name=job.name,
            kind=job.kind,
            hosts=[source.host_id for source in job.sources],
            paths={source.host_id: "\n".join(source.paths) for source in job.sources},
            include="\n".join(options.include),
            exclude="\n".join(options.exclude),
            storage_id=job.storage_id,
            schedules=[_row_of(schedule) for schedule in job.schedules] or [ScheduleRow()],
            keep_last=str(options.keep_last or ""),
            keep_days=str(options.keep_days or ""),
            channel_count=str(options.channel_count),
            retry_count=str(options.retry_count),
            retry_delay_seconds=str(options.retry_delay_seconds),
            revision=str(job.revision),
        )

    def hidden(self, step: str) -> Iterator[tuple[str, str]]:
        """Fields that the page of `step` does not show, to be carried along."""
        if step != "what":
            yield "kind", self.kind
            yield from (("host", host) for host in self.hosts)
        if step != "pick":
            yield from ((f"paths_{host}", self.paths.get(host, "")) for host in self.hosts)
            yield "include", self.include
            yield "exclude", self.exclude
        if step != "when":
            yield "storage_id", self.storage_id
            yield from self._hidden_schedules()
            for name in ("keep_last", "keep_days", "channel_count", "retry_count", "retry_delay_seconds"):
                yield name, getattr(self, name)
        if step != "check":
            yield "name", self.name
        if self.revision:
            yield "revision", self.revision

    def _hidden_schedules(self) -> Iterator[tuple[str, str]]:
        yield "schedules", str(len(self.schedules))
        for n, row in enumerate(self.schedules):
            for name in ("kind", "every", "unit", "at", "zone", "backup_type"):
                yield f"s{n}_{name}", getattr(row, name)
            yield from ((f"s{n}_day", day) for day in row.days)

    # Checks

    def problems(self, step: str, t: Words) -> dict[str, str]:
        """What is wrong on one step, by field."""
        found: dict[str, str] = {}
        if step == "what":
            if self.kind not in set(api.ObjectKind):
                found["kind"] = t("wizard.wrong.kind")
            if not self.hosts:
                found["host"] = t("wizard.wrong.host")
        elif step == "pick":
            for host in self.hosts:
                lines = _lines(self.paths.get(host, ""))
                bad = next((line for line in lines if not line.startswith("/")), None)
                if not lines:
                    found[f"paths_{host}"] = t(f"wizard.wrong.paths_{self.kind}")
                elif bad is not None:
                    found[f"paths_{host}"] = t("wizard.wrong.path", path=bad)
        elif step == "when":
            found.update(self._schedule_problems(t))
            for name, low, high in (
                ("keep_last", 1, 100000),
                ("keep_days", 1, 36500),
                ("channel_count", 1, 16),
                ("retry_count", 0, 20),
                ("retry_delay_seconds", 1, 86400),
            ):
                text = getattr(self, name)
                if (text or not name.startswith("keep")) and _number(text, low, high) is None:
                    found[name] = t("wizard.wrong.number", low=low, high=high)
            if not self.storage_id:
                found["storage_id"] = t("wizard.wrong.storage")
        elif step == "check" and not self.name:
            found["name"] = t("wizard.wrong.name")
        return found

    def _schedule_problems(self, t: Words) -> Iterator[tuple[str, str]]:
        for n, row in enumerate(self.schedules):
            if row.kind == "interval":
                seconds = (_number(row.every, 1, 100000) or 0) * UNITS.get(row.unit, 0)
                if not _MINUTE <= seconds <= 366 * _DAY:
                    yield f"s{n}_every", t("wizard.wrong.every")
            elif row.kind == "daily":
                if not _is_wall_time(row.at):
                    yield f"s{n}_at", t("wizard.wrong.at")
                if row.zone not in available_timezones():
                    yield f"s{n}_zone", t("wizard.wrong.zone", zone=row.zone)
                if not row.days:
                    yield f"s{n}_day", t("wizard.wrong.days")

    # Calls

    def sources(self) -> list[api.JobSource]:
        """What to protect."""
        return [api.JobSource(host_id=host, paths=_lines(self.paths.get(host, ""))) for host in self.hosts]

    def schedule_list(self) -> list[api.Schedule]:
        """When to run. Only after `problems('when')` was empty."""
        made: list[api.Schedule] = []
        for row in self.schedules:
            kind = api.BackupType(row.backup_type)
            if row.kind == "interval":
                made.append(
                    api.IntervalSchedule(every_seconds=int(row.every) * UNITS[row.unit], backup_type=kind)
                )
            elif row.kind == "daily":
                days = sorted({int(day) for day in row.days})
                made.append(api.DailySchedule(at=row.at, zone=row.zone, weekdays=days, backup_type=kind))
        return made

    def options(self) -> api.JobOptions:
        """How to do it."""
        is_files = self.kind == api.ObjectKind.FILES
        return api.JobOptions(
            include=_lines(self.include) if is_files else [],
            exclude=_lines(self.exclude) if is_files else [],
            channel_count=int(self.channel_count),
            retry_count=int(self.retry_count),
            retry_delay_seconds=int(self.retry_delay_seconds),
            keep_last=int(self.keep_last) if self.keep_last else None,
            keep_days=int(self.keep_days) if self.keep_days else None,
        )

    def create(self) -> api.JobCreate:
        """The call that makes the job. Raises msgspec.ValidationError where a value breaks the schema."""
        return _checked(
            api.JobCreate(
                name=self.name,
                kind=api.ObjectKind(self.kind),
                storage_id=self.storage_id or None,
                sources=self.sources(),
                schedules=self.schedule_list(),
                options=self.options(),
            )
        )

    def edit(self, job_id: str) -> api.JobEdit:
        """The call that changes the job. Raises msgspec.ValidationError where a value breaks the schema."""
        return _checked(
            api.JobEdit(
                id=job_id,
                revision=int(self.revision) if self.revision.isdigit() else None,
                name=self.name,
                storage_id=self.storage_id,
                sources=self.sources(),
                schedules=self.schedule_list(),
                options=self.options(),
            )
        )


def _checked(message: M) -> M:
    return msgspec.convert(msgspec.to_builtins(message), type(message))


def _lines(text: str) -> list[str]:
    return list(dict.fromkeys(line.rstrip("\r") for line in text.split("\n") if line.strip()))


def _count(text: str) -> int:
    return min(int(text), SCHEDULES_MAX) if text.isdigit() else 0


def _number(text: str, low: int, high: int) -> int | None:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        return None
    return int(text) if low <= int(text) <= high else None


def _is_wall_time(text: str) -> bool:
    hours, colon, minutes = text.partition(":")
    return (
        colon == ":"
        and len(hours) == len(minutes) == 2
        and _number(hours, 0, 23) is not None
        and _number(minutes, 0, 59) is not None
    )


def _row(given: MultiDict[str, str], n: int) -> ScheduleRow:
    plain = ScheduleRow()
    row = ScheduleRow(
        **{
            name: given.get(f"s{n}_{name}", getattr(plain, name)).strip()
            for name in ("kind", "every", "unit", "at", "zone", "backup_type")
        }
    )
    row.days = [day for day in given.getlist(f"s{n}_day") if day in set("1234567")]
    if row.backup_type not in set(api.BackupType):
        row.backup_type = plain.backup_type
    return row


def _row_of(schedule: api.Schedule) -> ScheduleRow:
    if isinstance(schedule, api.DailySchedule):
        return ScheduleRow(
            kind="daily",
            at=schedule.at,
            zone=schedule.zone,
            days=[str(day) for day in schedule.weekdays],
            backup_type=schedule.backup_type,
        )
    seconds = schedule.every_seconds
    unit = next(
        name for name in ("days", "hours", "minutes") if seconds % UNITS[name] == 0 or name == "minutes"
    )
    return ScheduleRow(
        kind="interval", every=str(seconds // UNITS[unit]), unit=unit, backup_type=schedule.backup_type
    )
