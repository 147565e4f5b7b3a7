"""A restore as the node serves it: the root the agent starts from, and chunks to read."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from schemas.api.words import ObjectKind as KindWord
from schemas.api.words import RunKind
from schemas.control import PointRoot, RunSpec
from vdrd.disk.source import NativeDisk
from vdrd.jobs.disk_files import DiskFiles, Warnings
from vdrd.model.chunks import ChunkSource
from vdrd.model.errors import BadInput, NotAuthorised, VdrError
from vdrd.model.paths import path_of_text
from vdrd.model.points import DiskRoot, FilesRoot, Point, PointDraft
from vdrd.model.progress import Cancel
from vdrd.store.storage import Storage

NOTHING_LEFT_OUT = Warnings()
_ROOTS = {RunKind.RESTORE_DISK: DiskRoot, RunKind.RESTORE_FILES: FilesRoot}


def plan(spec: RunSpec, point_of: Callable[[str], Point]) -> PointRoot:
    """The root of the point to bring back. Raises NotFound, Damaged, BadInput if it is of another kind."""
    if spec.restore is None:
        raise BadInput(what="a restore that names no point")
    point = point_of(spec.restore.point_id)
    root = point.draft.root
    if not isinstance(root, _ROOTS[spec.kind]):
        raise BadInput(what=f"point {point.point_id} is of a {point.draft.kind}")
    match root:
        case DiskRoot():
            return PointRoot(
                kind=KindWord.DISK,
                root_id=root.root_id,
                levels=root.levels,
                size_bytes=root.size_bytes,
                block_bytes=root.block_bytes,
            )
        case FilesRoot():
            return _files_root(root)


class RestoreService:
    """What a restore run offers to its agent: chunks, until `holding` is closed with it."""

    sink = None

    def __init__(self, source: ChunkSource, holding: ExitStack) -> None:
        self._source = source
        self._holding = holding

    @property
    def source(self) -> ChunkSource:
        """Where chunks come from."""
        return self._source

    def commit(self, draft: PointDraft) -> Point:
        """A restore makes no point."""
        raise NotAuthorised(reason=f"a restore makes no point of {draft.object_name}")

    def channel_ended(self, error: VdrError | None, left: int) -> None:
        """Nothing to do: the run ends by its release."""

    def close(self) -> None:
        """Let the point's chunks go."""
        self._holding.close()


@dataclass(frozen=True, slots=True)
class Offer:
    """What a restore begins with."""

    root: PointRoot
    service: RestoreService
    warnings: Warnings


def offer(spec: RunSpec, storage: Storage, cancel: Cancel) -> Offer:
    """Open the point of a restore. Paths within a disk become a file point made for this run.

    Raises as `plan`, and for a disk VolumeUnreadable; Cancelled.
    """
    wanted = spec.restore
    if wanted is None:
        raise BadInput(what="a restore that names no point")
    point = storage.point(wanted.point_id)
    root, reader = point.draft.root, storage.reader_of(point.draft.domain)
    with ExitStack() as holding:
        holding.enter_context(storage.hold(point))
        if spec.kind is RunKind.RESTORE_FILES and isinstance(root, DiskRoot) and wanted.paths:
            disk = holding.enter_context(NativeDisk(reader.open_disk(root)))
            files = holding.enter_context(DiskFiles(disk))
            made = files.as_point([path_of_text(path) for path in wanted.paths], cancel)
            service = RestoreService(made.source, holding.pop_all())
            return Offer(_files_root(made.root), service, made.warnings)
        planned = plan(spec, storage.point)
        return Offer(planned, RestoreService(reader, holding.pop_all()), NOTHING_LEFT_OUT)


def _files_root(root: FilesRoot) -> PointRoot:
    return PointRoot(
        kind=KindWord.FILES, root_id=root.root_id, levels=root.levels, entry_count=root.entry_count
    )
