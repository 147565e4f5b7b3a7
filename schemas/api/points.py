"""Calls about points: what can be brought back, how, and instant recovery."""

from typing import Annotated

from msgspec import Meta, field

from schemas.api.hosts import FilePage
from schemas.api.values import ById, Id, Message, Page, PageRequest, PathText, Time
from schemas.api.words import BackupType, ObjectKind

__all__ = [
    "ExportInfo",
    "ExportList",
    "ExportPage",
    "ExportStart",
    "ExportStop",
    "FilePage",
    "FilePart",
    "PointBrowse",
    "PointForget",
    "PointForgetReply",
    "PointGet",
    "PointInfo",
    "PointList",
    "PointLock",
    "PointPage",
    "PointRead",
    "PointVerify",
    "RestoreStart",
]


class PointInfo(Message, frozen=True, kw_only=True):
    """A restore point."""

    id: Id
    time: Time
    object_name: str
    kind: ObjectKind
    backup_type: BackupType
    source: PathText
    host_id: Id | None
    """None when no host of this system made it (an attached storage)."""
    host_name: str
    storage_id: Id
    storage_name: str
    job_id: Id | None
    run_id: Id | None
    parent_id: Id | None
    logical_bytes: int
    new_bytes: int
    stored_bytes: int
    duration_seconds: float
    warning_count: int
    verified_at: Time | None = None
    verified_ok: bool | None = None
    is_online: bool = True
    """False while its storage cannot be reached."""
    locked_until: Time | None = None
    """It cannot be removed before, by the time of its storage."""
    is_held: bool = False
    """Under legal hold: it cannot be removed until that is released."""


class PointList(PageRequest, frozen=True, kw_only=True):
    """Lists points, newest first."""

    host_id: Id | None = None
    job_id: Id | None = None
    storage_id: Id | None = None
    object_name: str | None = None
    kind: ObjectKind | None = None
    since: Time | None = None
    until: Time | None = None


class PointPage(Page, frozen=True, kw_only=True):
    """Some points."""

    items: list[PointInfo]


class PointGet(ById, frozen=True, kw_only=True):
    """One point."""


class PointBrowse(ById, frozen=True, kw_only=True):
    """Lists one directory of a point."""

    path: PathText = "/"
    """From the root of the point: `/` is the directory that was backed up. Of a disk, `/` holds a folder for
    each volume."""
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500


class PointRead(ById, frozen=True, kw_only=True):
    """Reads a part of a regular file of a point."""

    path: PathText
    """As `point.browse` gives it."""
    offset: Annotated[int, Meta(ge=0)] = 0
    length: Annotated[int, Meta(ge=0, le=262144)] = 262144


class FilePart(Message, frozen=True, kw_only=True):
    """A part of a file: at most what was asked for, empty from its end on."""

    data: bytes
    size_bytes: int
    """Of the whole file."""
    name: PathText
    modified_at: Time | None = None


class PointVerify(ById, frozen=True, kw_only=True):
    """Starts a run that verifies one point."""

    read_data: bool = True


class PointForget(Message, frozen=True, kw_only=True):
    """Forgets points for good. Their space is freed by the next collection."""

    ids: Annotated[list[Id], Meta(min_length=1, max_length=1000)]


class PointForgetReply(Message, frozen=True, kw_only=True):
    """What was forgotten."""

    forgotten_ids: list[Id]


class PointLock(ById, frozen=True, kw_only=True):
    """Keeps a point from being removed. What is not given stays as it is; a lock is only ever extended."""

    until: Time | None = None
    """By the time of the storage, not the caller's. Refused if it has passed there or is before the present
    end."""
    is_held: bool | None = None
    """Puts it under legal hold, or releases it."""


class RestoreStart(Message, frozen=True, kw_only=True):
    """Starts a run that brings a point back.

    Without `host_id` and `target_path` it goes to where it came from. Refused if the target holds something
    and
    `overwrite` is not set.
    """

    point_id: Id
    host_id: Id | None = None
    """None: the host it came from."""
    target_path: PathText | None = None
    """A directory (files) or a device or image (disk); None: the original place."""
    paths: Annotated[list[PathText], Meta(max_length=10000)] = field(default_factory=list)
    """Only these, as `point.browse` gives them; empty means all. Of a disk point too: then `target_path` is a
    directory."""
    overwrite: bool = False


class ExportInfo(Message, frozen=True, kw_only=True):
    """A point served as a disk: instant recovery."""

    id: Id
    point_id: Id
    object_name: str
    node_id: Id
    url: str
    """Where to read it, `nfs://address/.../disk.raw`."""
    mount_command: str
    """An example for the Linux client, to copy."""
    is_writable: bool
    is_online: bool
    cache_bytes: int
    """Size of what was written over the point."""
    started_at: Time
    started_by: str


class ExportStart(Message, frozen=True, kw_only=True):
    """Serves a disk point over NFS at once. Writes go to a cache beside and never touch the point."""

    point_id: Id
    is_writable: bool = True


class ExportList(PageRequest, frozen=True, kw_only=True):
    """Lists what is exported now."""


class ExportPage(Page, frozen=True, kw_only=True):
    """Some exports."""

    items: list[ExportInfo]


class ExportStop(ById, frozen=True, kw_only=True):
    """Ends an export. What was written over the point is discarded."""
