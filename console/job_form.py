"""The form of a job: what the wizard's steps carry from one to the next, checked step by step, and turned
into calls.

Pure: fields in, problems or requests out. Nothing typed is ever lost: the fields go back to the page as they
came.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec
from werkzeug.datastructures import MultiDict

from console.schedule_form import ScheduleRow, number
from console.words import Words
from schemas import api

STEPS: Final = ("what", "pick", "when", "check")
SCHEDULES_MAX = 8
KEEP_RULES: Final = ("keep_last", "keep_days", "keep_weekly", "keep_monthly", "keep_yearly")

M = TypeVar("M", bound=api.Message)


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
    keep_weekly: str = ""
    keep_monthly: str = ""
    keep_yearly: str = ""
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
            *KEEP_RULES,
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
            form.schedules = [ScheduleRow.read(given, n) for n in range(_count(given.get("schedules", "0")))]
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
            schedules=[ScheduleRow.of(schedule) for schedule in job.schedules] or [ScheduleRow()],
            **{name: str(getattr(options, name) or "") for name in KEEP_RULES},
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
            for name in (*KEEP_RULES, "channel_count", "retry_count", "retry_delay_seconds"):
                yield name, getattr(self, name)
        if step != "check":
            yield "name", self.name
        if self.revision:
            yield "revision", self.revision

    def _hidden_schedules(self) -> Iterator[tuple[str, str]]:
        yield "schedules", str(len(self.schedules))
        for n, row in enumerate(self.schedules):
            yield from row.hidden(n)

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
            for n, row in enumerate(self.schedules):
                found.update(row.problems(n, t))
            for name, low, high in (
                *((name, 1, 100000) for name in KEEP_RULES if name != "keep_days"),
                ("keep_days", 1, 36500),
                ("channel_count", 1, 16),
                ("retry_count", 0, 20),
                ("retry_delay_seconds", 1, 86400),
            ):
                text = getattr(self, name)
                if (text or not name.startswith("keep")) and number(text, low, high) is None:
                    found[name] = t("wizard.wrong.number", low=low, high=high)
            if not self.storage_id:
                found["storage_id"] = t("wizard.wrong.storage")
        elif step == "check" and not self.name:
            found["name"] = t("wizard.wrong.name")
        return found

    # Calls

    def sources(self) -> list[api.JobSource]:
        """What to protect."""
        return [api.JobSource(host_id=host, paths=_lines(self.paths.get(host, ""))) for host in self.hosts]

    def schedule_list(self) -> list[api.Schedule]:
        """When to run. Only after `problems('when')` was empty."""
        return [made for row in self.schedules if (made := row.schedule()) is not None]

    def options(self) -> api.JobOptions:
        """How to do it."""
        is_files = self.kind == api.ObjectKind.FILES
        return api.JobOptions(
            include=_lines(self.include) if is_files else [],
            exclude=_lines(self.exclude) if is_files else [],
            channel_count=int(self.channel_count),
            retry_count=int(self.retry_count),
            retry_delay_seconds=int(self.retry_delay_seconds),
            **{name: int(getattr(self, name)) if getattr(self, name) else None for name in KEEP_RULES},
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
