"""One run on this host, from open data channels to its outcome. Blocking; called in a thread of its own.

Knows the protocol's messages and the backup and restore code; knows neither links nor tasks.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from schemas.api.words import BackupType as BackupWord
from schemas.api.words import ObjectKind, RunKind
from schemas.control import BackupItem, ParentRecord, PointRoot, RunStart, StoragePlace
from vdrd.disk.backup import backup_disk
from vdrd.disk.restore import restore_disk
from vdrd.files.backup import backup_files
from vdrd.files.restore import restore_files
from vdrd.model.chunks import CHUNK_ID_BYTES
from vdrd.model.errors import BadInput
from vdrd.model.paths import path_of_text
from vdrd.model.points import BackupType, DiskRoot, FilesRoot, PointDraft
from vdrd.model.progress import Cancel, Progress
from vdrd.model.reports import RestoreReport
from vdrd.net.remote import ChannelPool, RemoteSink, RemoteSource

_HEADER_BYTES_MAX = 1 << 16

ItemProgress = Callable[[int, Progress], None]
"""Called with the item's index and what the run did so far, finished items included."""


@dataclass(slots=True)
class Outcome:
    """What a run did. Filled while it goes on, so that a failure keeps what came before it."""

    point_ids: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    """The first ones, at most 1,000."""
    warning_count: int = 0
    done_bytes: int = 0
    done_files: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0

    def warn(self, warnings: tuple[str, ...], count: int) -> None:
        """Add the warnings of an item."""
        self.warnings += warnings[: 1000 - len(self.warnings)]
        self.warning_count += count


def perform(
    start: RunStart, pool: ChannelPool, outcome: Outcome, progress: ItemProgress, cancel: Cancel
) -> None:
    """Do what `start` says; `outcome` grows with every finished item.

    Raises Cancelled and what the backup or restore raises; points committed before stay.
    """
    match start.spec.kind:
        case RunKind.BACKUP_DISK | RunKind.BACKUP_FILES:
            _backup(start, pool, outcome, progress, cancel)
        case RunKind.RESTORE_DISK | RunKind.RESTORE_FILES:
            _restore(start, RemoteSource(pool), outcome, lambda done: progress(0, done), cancel)
        case _:
            raise BadInput(what=f"an agent does not do {start.spec.kind} runs")


def _backup(
    start: RunStart, pool: ChannelPool, outcome: Outcome, progress: ItemProgress, cancel: Cancel
) -> None:
    sink = RemoteSink(pool)
    parents = {parent.object_name: parent for parent in start.parents}
    for number, item in enumerate(start.spec.items):
        before = replace(outcome)

        def report(done: Progress, number: int = number, before: Outcome = before) -> None:
            progress(number, _added(before, done))

        cancel.check()
        draft = _draft_of(start, item, parents.get(item.object_name), pool, progress=report, cancel=cancel)
        report(Progress("commit", draft.logical_bytes, new_bytes=draft.new_bytes))
        point = sink.commit(draft)
        outcome.point_ids.append(point.point_id)
        outcome.warn(draft.warnings, draft.warning_count)
        outcome.done_bytes += draft.logical_bytes
        outcome.new_bytes += draft.new_bytes
        outcome.stored_bytes += draft.stored_bytes
        if isinstance(draft.root, FilesRoot):
            outcome.done_files += draft.root.entry_count


def _draft_of(
    start: RunStart,
    item: BackupItem,
    parent: ParentRecord | None,
    pool: ChannelPool,
    *,
    progress: Callable[[Progress], None],
    cancel: Cancel,
) -> PointDraft:
    spec, sink, source = start.spec, RemoteSink(pool), RemoteSource(pool)
    is_full = spec.backup_type is BackupWord.FULL
    path = Path(_text_path(item.path))
    if spec.kind is RunKind.BACKUP_DISK:
        # Without a changed-block list every block is read and compared by hash: the parent would not save
        # reading.
        draft = backup_disk(path, sink, object_name=item.object_name, progress=progress, cancel=cancel)
    else:
        root = FilesRoot(parent.root_id, parent.levels, parent.entry_count) if parent else None
        draft = backup_files(
            path,
            sink,
            object_name=item.object_name,
            include=spec.include,
            exclude=spec.exclude,
            parent=None if is_full else root,
            parent_source=None if is_full or root is None else source,
            full=is_full,
            lacking=lambda: _lacking(parent),
            skip_directories=_storage_here(start.storage_place),
            progress=progress,
            cancel=cancel,
        )
    has_parent = parent is not None and not is_full
    return replace(
        draft,
        backup_type=BackupType(spec.backup_type) if has_parent else BackupType.FULL,
        parent_id=parent.point_id if parent is not None and has_parent else None,
    )


def _lacking(parent: ParentRecord | None) -> frozenset[bytes]:
    ids = parent.lacking if parent else b""
    return frozenset(ids[at : at + CHUNK_ID_BYTES] for at in range(0, len(ids), CHUNK_ID_BYTES))


def _storage_here(place: StoragePlace | None) -> list[Path]:
    """The storage's directory if it lies on this very machine: a backup must not protect itself."""
    if place is None:
        return []
    try:
        with Path(place.path, "storage.json").open("rb") as file:
            found = json.loads(file.read(_HEADER_BYTES_MAX))
    except (OSError, ValueError):
        return []
    is_same = isinstance(found, dict) and found.get("storage_id") == place.mark
    return [Path(place.path)] if is_same else []


def _restore(
    start: RunStart,
    source: RemoteSource,
    outcome: Outcome,
    progress: Callable[[Progress], None],
    cancel: Cancel,
) -> None:
    outcome.warn(tuple(start.restore_warnings), start.restore_warning_count)
    wanted, root = start.spec.restore, start.restore_root
    if wanted is None or root is None:
        raise BadInput(what="a restore without a point")
    target = Path(_text_path(wanted.target_path))
    report: RestoreReport
    if root.kind is ObjectKind.DISK:
        report = restore_disk(
            _disk_root(root), source, target, overwrite=wanted.overwrite, progress=progress, cancel=cancel
        )
    else:
        report = restore_files(
            FilesRoot(root.root_id, root.levels, root.entry_count),
            source,
            target,
            paths=[path_of_text(path) for path in wanted.paths],
            overwrite=wanted.overwrite,
            progress=progress,
            cancel=cancel,
        )
    outcome.done_bytes = report.logical_bytes
    outcome.done_files = report.file_count
    outcome.warn(report.warnings, report.warning_count)


def _disk_root(root: PointRoot) -> DiskRoot:
    return DiskRoot(root.root_id, root.levels, root.size_bytes, root.block_bytes)


def _text_path(path: str) -> str:
    return path_of_text(path).decode("utf-8", "surrogateescape")


def _added(before: Outcome, done: Progress) -> Progress:
    """`done` of one item, with what the items before it did."""
    return replace(
        done,
        done_bytes=before.done_bytes + done.done_bytes,
        total_bytes=None if done.total_bytes is None else before.done_bytes + done.total_bytes,
        done_files=before.done_files + done.done_files,
        total_files=None if done.total_files is None else before.done_files + done.total_files,
        new_bytes=before.new_bytes + done.new_bytes,
        stored_bytes=before.stored_bytes + done.stored_bytes,
    )
