"""Calls about jobs: configured tasks, their sources and schedules."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType, field

from schemas.api.schedules import Schedule
from schemas.api.values import ById, Id, Message, Name, Page, PageRequest, PathText, Time
from schemas.api.words import BackupType, ObjectKind, RunState


class JobSource(Message, frozen=True, kw_only=True):
    """What to protect on one host: disks for a disk job, directories or files for a file job."""

    host_id: Id
    paths: Annotated[list[PathText], Meta(min_length=1, max_length=1000)]


class JobOptions(Message, frozen=True, kw_only=True):
    """How a job does its work."""

    include: list[str] = field(default_factory=list)
    """Patterns; empty means everything. File jobs only."""
    exclude: list[str] = field(default_factory=list)
    """Patterns. File jobs only."""
    channel_count: Annotated[int, Meta(ge=1, le=16)] = 2
    """Data channels per run."""
    retry_count: Annotated[int, Meta(ge=0, le=20)] = 3
    """How often a run that failed for a passing reason is tried again."""
    retry_delay_seconds: Annotated[int, Meta(ge=1, le=86400)] = 30
    """Before the first retry; doubles each time, at most an hour."""
    keep_last: Annotated[int, Meta(ge=1, le=100000)] | None = None
    """Keep the newest so many points of each object. A point stays as long as any of these five rules wants
    it; with none of them all stay, and the newest whole one always does."""
    keep_days: Annotated[int, Meta(ge=1, le=100000)] | None = None
    """Keep what is younger than so many days."""
    keep_weekly: Annotated[int, Meta(ge=1, le=100000)] | None = None
    """Keep the newest point of each of the last so many ISO weeks (UTC) that have one."""
    keep_monthly: Annotated[int, Meta(ge=1, le=100000)] | None = None
    """The same by months."""
    keep_yearly: Annotated[int, Meta(ge=1, le=100000)] | None = None
    """The same by years."""
    alert_hours: Annotated[int, Meta(ge=1, le=10_000)] | None = None
    """Hours without a success on a host after which an alert is opened; None: worked out from the
    schedule."""


class JobInfo(Message, frozen=True, kw_only=True):
    """A configured task."""

    id: Id
    name: str
    kind: ObjectKind
    storage_id: Id
    storage_name: str
    sources: list[JobSource]
    schedules: list[Schedule]
    """Empty: started by hand only."""
    options: JobOptions
    is_enabled: bool
    created_at: Time
    created_by: str
    revision: int
    """Counts edits; `job.edit` may name it to refuse overwriting somebody else's."""
    next_run_at: Time | None = None
    last_run_id: Id | None = None
    last_run_state: RunState | None = None
    last_run_at: Time | None = None


class JobList(PageRequest, frozen=True, kw_only=True):
    """Lists jobs by name."""

    search: str | None = None
    kind: ObjectKind | None = None
    host_id: Id | None = None
    storage_id: Id | None = None
    is_enabled: bool | None = None


class JobPage(Page, frozen=True, kw_only=True):
    """Some jobs."""

    items: list[JobInfo]


class JobGet(ById, frozen=True, kw_only=True):
    """One job."""


class JobCreate(Message, frozen=True, kw_only=True):
    """Makes a job."""

    name: Name
    kind: ObjectKind
    storage_id: Id | None = None
    """None: the only storage."""
    sources: Annotated[list[JobSource], Meta(min_length=1, max_length=10000)]
    schedules: Annotated[list[Schedule], Meta(max_length=100)] = field(default_factory=list)
    options: JobOptions = field(default_factory=JobOptions)
    is_enabled: bool = True


class JobEdit(ById, frozen=True, kw_only=True):
    """Changes the fields that are given. Runs already open keep what they started with."""

    revision: int | None = None
    """Refused if the job has another one by now; None does not check."""
    name: Name | UnsetType = UNSET
    storage_id: Id | UnsetType = UNSET
    sources: Annotated[list[JobSource], Meta(min_length=1, max_length=10000)] | UnsetType = UNSET
    schedules: Annotated[list[Schedule], Meta(max_length=100)] | UnsetType = UNSET
    options: JobOptions | UnsetType = UNSET


class JobClone(ById, frozen=True, kw_only=True):
    """Copies a job under another name; the copy is disabled."""

    name: Name


class JobEnable(ById, frozen=True, kw_only=True):
    """Lets the schedule start runs."""


class JobDisable(ById, frozen=True, kw_only=True):
    """Stops the schedule from starting runs. An open run goes on; starting by hand stays possible."""


class JobDelete(ById, frozen=True, kw_only=True):
    """Deletes a job. Its points and runs stay. Refused while a run of it is open."""


class JobRunNow(ById, frozen=True, kw_only=True):
    """Queues a run per host of the job, whether enabled or not."""

    backup_type: BackupType = BackupType.INCREMENTAL
    host_ids: list[Id] = field(default_factory=list)
    """Only these hosts; empty means all."""


class RunsStarted(Message, frozen=True, kw_only=True):
    """The runs that were queued."""

    batch_id: Id
    run_ids: list[Id]
