"""A restore as the node serves it: the root the agent starts from, and chunks to read."""

from collections.abc import Callable
from contextlib import ExitStack

from schemas.api.words import ObjectKind as KindWord
from schemas.api.words import RunKind
from schemas.control import PointRoot, RunSpec
from vdrd.model.chunks import ChunkSource
from vdrd.model.errors import BadInput, NotAuthorised, VdrError
from vdrd.model.points import DiskRoot, FilesRoot, Point, PointDraft
from vdrd.store.storage import Storage

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
            return PointRoot(
                kind=KindWord.FILES, root_id=root.root_id, levels=root.levels, entry_count=root.entry_count
            )


class RestoreService:
    """What a restore run offers to its agent: chunks."""

    sink = None

    def __init__(self, storage: Storage, point: Point) -> None:
        self._source = storage.reader_of(point.draft.domain)
        self._holding = ExitStack()
        self._holding.enter_context(storage.hold(point))

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
