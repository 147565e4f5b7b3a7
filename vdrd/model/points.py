"""Restore points as values: what a backup hands over for commit, and what a storage gives back."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

DOMAIN_MAX = (1 << 32) - 1
"""Greatest number of a key domain."""


OBJECT_NAME_CHARACTERS_MAX = 20_000
"""Of an object's name: a host's, and the longest path that a job may have."""


class ObjectKind(StrEnum):
    """What a point protects."""

    DISK = "disk"
    FILES = "files"


class BackupType(StrEnum):
    """How the run looked for changes. Every point is complete whatever its type."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"


@dataclass(frozen=True, slots=True)
class DiskRoot:
    """Root of a disk's block map. `root_id` is None for an all-zero disk."""

    root_id: bytes | None
    levels: int
    size_bytes: int
    block_bytes: int


@dataclass(frozen=True, slots=True)
class FilesRoot:
    """Root of a file tree's manifest. `root_id` is None for an empty manifest."""

    root_id: bytes | None
    levels: int
    entry_count: int


@dataclass(frozen=True, slots=True)
class PointDraft:
    """What a finished backup knows; the storage adds id, times and signature at commit."""

    object_name: str
    kind: ObjectKind
    backup_type: BackupType
    root: DiskRoot | FilesRoot
    source: str
    """Path of the disk or directory on its host."""
    host: str
    logical_bytes: int
    new_bytes: int
    """Plain bytes of chunks this run added."""
    stored_bytes: int
    """The same as they travelled: compressed."""
    started_at: datetime
    parent_id: str | None = None
    warnings: tuple[str, ...] = ()
    """First warnings, at most 1,000; the run's log has them all."""
    warning_count: int = 0
    labels: dict[str, str] = field(default_factory=dict)
    read_bytes: int = 0
    """Bytes read from the source; an incremental run with a list of changed blocks reads little."""
    domain: int = 0
    """Key domain of its chunks; the storage sets it."""


@dataclass(frozen=True, slots=True)
class Point:
    """A committed restore point."""

    point_id: str
    """32 hex digits; sorts by time of commit."""
    time: datetime
    """When it was committed, by the clock of the machine that holds the storage."""
    draft: PointDraft
