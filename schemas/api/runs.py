"""Calls about runs: one execution of a job on one host, a restore, a verification."""

from typing import Annotated

from msgspec import Meta, field

from schemas.api.values import ById, Id, Message, Page, PageRequest, Time
from schemas.api.words import BackupType, LogLevel, RunKind, RunState


class RunProgress(Message, frozen=True, kw_only=True):
    """How far a run is. `total_*` is None while unknown."""

    step: str = ""
    done_bytes: int = 0
    total_bytes: int | None = None
    done_files: int = 0
    total_files: int | None = None
    new_bytes: int = 0
    """Bytes of chunks the storage lacked, before compression."""
    stored_bytes: int = 0
    """The same after compression."""
    bytes_per_second: float = 0.0
    """Over the last ten seconds or so."""
    remaining_seconds: float | None = None


class RunInfo(Message, frozen=True, kw_only=True):
    """One execution."""

    id: Id
    kind: RunKind
    state: RunState
    job_id: Id | None
    job_name: str
    """As it was at the start; empty for a run without a job."""
    host_id: Id | None
    host_name: str
    node_id: Id | None
    storage_id: Id | None
    storage_name: str
    batch_id: Id
    """Runs that were started together share it."""
    backup_type: BackupType | None
    attempt: int
    """1 for the first."""
    attempts_max: int
    created_by: str
    """A user name, or `schedule`."""
    created_at: Time
    not_before: Time
    """A queued run waits for this moment (retries with back-off)."""
    started_at: Time | None
    ended_at: Time | None
    progress: RunProgress
    warning_count: int
    error_code: str = ""
    error: str = ""
    """What went wrong and what to do, as one or two sentences; of the last attempt if it is waiting for a
    retry."""
    point_ids: list[Id] = field(default_factory=list)
    """Points it made, or the one it restores."""


class RunList(PageRequest, frozen=True, kw_only=True):
    """Lists runs, newest first."""

    job_id: Id | None = None
    host_id: Id | None = None
    storage_id: Id | None = None
    batch_id: Id | None = None
    kinds: list[RunKind] = field(default_factory=list)
    states: list[RunState] = field(default_factory=list)
    since: Time | None = None
    until: Time | None = None


class RunPage(Page, frozen=True, kw_only=True):
    """Some runs."""

    items: list[RunInfo]


class RunGet(ById, frozen=True, kw_only=True):
    """One run."""


class RunLog(ById, frozen=True, kw_only=True):
    """The lines of a run's log with a sequence number above `after_sequence`."""

    after_sequence: int = 0
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500
    level: LogLevel | None = None
    """Lowest level wanted."""


class LogLine(Message, frozen=True, kw_only=True):
    """A line of a run's log."""

    sequence: int
    time: Time
    level: LogLevel
    text: str
    attempt: int = 1


class RunLogPage(Message, frozen=True, kw_only=True):
    """Some lines. Ask again with the last sequence number for more."""

    items: list[LogLine]
    is_complete: bool
    """True if there is nothing more now."""


class RunCancel(ById, frozen=True, kw_only=True):
    """Stops an open run. What it stored is used by the next one. Done when the request is noted, not when the
    run ended."""


class EventsPoll(Message, frozen=True, kw_only=True):
    """Waits for something to happen. The live feed of consoles: ask, show, ask again with `next_sequence`.

    Returns as soon as there is an event with a sequence number above `after_sequence`, or empty after
    `wait_seconds`.
    """

    after_sequence: int = 0
    """0: from now on."""
    wait_seconds: Annotated[float, Meta(ge=0, le=60)] = 25.0
    run_id: Id | None = None
    """Only events about this run."""
    limit: Annotated[int, Meta(ge=1, le=1000)] = 200


class Event(Message, frozen=True, kw_only=True):
    """Something changed. Carries the run when it is about one; otherwise list the topic again."""

    sequence: int
    time: Time
    topic: str
    """`run`, `run-progress`, `host`, `node`, `storage`, `job`, `point`, `export`, `user`."""
    id: Id
    run: RunInfo | None = None


class EventsReply(Message, frozen=True, kw_only=True):
    """Events in order."""

    items: list[Event]
    next_sequence: int
    has_missed: bool = False
    """True if the server no longer has all events since (or restarted): list what is shown again."""
