"""A backup as the node serves it: which parents the agent may compare with, and what becomes of the drafts it
commits.

The agent reads and sends; this side decides. Whatever an agent writes into a draft about itself is replaced
by what the
server said about the run, so no host can make a point in another's name.
"""

import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace

from schemas.api.words import BackupType, RunKind
from schemas.control import ParentRecord, RunSpec
from vdrd.model.chunks import ChunkSink, ChunkSource
from vdrd.model.errors import NotAuthorised, NotFound, VdrError
from vdrd.model.points import DiskRoot, FilesRoot, ObjectKind, Point, PointDraft
from vdrd.store.session import WriteSession
from vdrd.store.storage import Storage

_KINDS = {RunKind.BACKUP_DISK: ObjectKind.DISK, RunKind.BACKUP_FILES: ObjectKind.FILES}


LACKING_MAX = 4096
"""Lost chunks of a parent that an agent is told of, 128 KiB; with more it is no parent any more."""


def parent_record(point: Point, lacking: frozenset[bytes] = frozenset()) -> ParentRecord:
    """A parent so far as an agent needs it; `lacking` are the ids of its lost chunks."""
    match point.draft.root:
        case DiskRoot() as root:
            return ParentRecord(
                object_name=point.draft.object_name,
                point_id=point.point_id,
                root_id=root.root_id,
                levels=root.levels,
                size_bytes=root.size_bytes,
                block_bytes=root.block_bytes,
            )
        case FilesRoot() as root:
            return ParentRecord(
                object_name=point.draft.object_name,
                point_id=point.point_id,
                root_id=root.root_id,
                levels=root.levels,
                entry_count=root.entry_count,
                lacking=b"".join(sorted(lacking)),
            )


def plan(spec: RunSpec, point_of: Callable[[str], Point], domain: int = 0) -> list[Point]:
    """The parents of a backup that are there and of the right object, kind and key domain.

    The others are backed up in full: a parent only saves work.
    """
    kind = _KINDS[spec.kind]
    parents = []
    for item in spec.items:
        if item.parent_id is None:
            continue
        try:
            point = point_of(item.parent_id)
        except VdrError:
            continue
        draft = point.draft
        if (draft.object_name, draft.kind, draft.domain) == (item.object_name, kind, domain):
            parents.append(point)
    return parents


def completed(draft: PointDraft, spec: RunSpec) -> PointDraft:
    """An agent's draft with what the server said in place of what the agent says about itself. Raises
    NotAuthorised."""
    item = next((item for item in spec.items if item.object_name == draft.object_name), None)
    if item is None or draft.kind is not _KINDS[spec.kind]:
        raise NotAuthorised(reason=f"{draft.object_name} is not part of this run")
    labels = {"run-id": spec.run_id}
    if spec.host_id is not None:
        labels["host-id"] = spec.host_id
    if spec.job_id is not None:
        labels["job-id"] = spec.job_id
    return replace(draft, host=spec.host_name, source=item.path, labels=labels)


class BackupService:
    """What a backup run offers to its agent: a sink that outlives each commit, the parents' chunks, the
    commit.

    Thread-safe. `on_point` is called after each commit, before the agent hears of it.
    """

    def __init__(
        self, storage: Storage, spec: RunSpec, on_point: Callable[[Point], None], domain: int = 0
    ) -> None:
        """`domain`: the key domain whose keys the agent gets and whose chunks it reaches."""
        self._storage = storage
        self._domain = domain
        self._spec = spec
        self._on_point = on_point
        self._lock = threading.Lock()
        self._session: WriteSession | None = None
        self._is_closed = False
        self._holding = ExitStack()

    def hold(self, parents: Iterable[Point]) -> list[Point]:
        """Keep these points' chunks from collection until the run is closed.

        Returns those that are held; one that was forgotten meanwhile is no parent any more.
        """
        held = []
        for point in parents:
            try:
                self._holding.enter_context(self._storage.hold(point))
            except NotFound:
                continue
            held.append(point)
        return held

    def parents(self, points: Iterable[Point]) -> list[ParentRecord]:
        """Hold these points; records of those that can serve as parents."""
        records = []
        for point in self.hold(points):
            # A disk is compared block by block, whatever its parent lacks.
            is_compared = isinstance(point.draft.root, DiskRoot)
            lacking = frozenset[bytes]() if is_compared else self._storage.lacking(point)
            if len(lacking) <= LACKING_MAX:
                records.append(parent_record(point, lacking))
        return records

    @property
    def sink(self) -> ChunkSink:
        """Where chunks go: the session of the item under way. Raises NotFound once the run was released."""
        with self._lock:
            if self._is_closed:
                raise NotFound(what="run", name=self._spec.run_id)
            if self._session is None:
                is_full = self._spec.backup_type is BackupType.FULL
                self._session = self._storage.session(domain=self._domain, proves=is_full)
            return self._session

    @property
    def source(self) -> ChunkSource:
        """Where the parents' chunks come from."""
        return self._storage.reader_of(self._domain)

    def commit(self, draft: PointDraft) -> Point:
        """Make the point; durable on return. The next item begins a session of its own."""
        draft = completed(draft, self._spec)
        session = self.sink
        assert isinstance(session, WriteSession)
        point = session.commit(draft)
        with self._lock:
            if self._session is session:
                self._session = None
        self._on_point(point)
        return point

    def channel_ended(self, error: VdrError | None, left: int) -> None:
        """Nothing to do: the run ends by its release."""

    def close(self) -> None:
        """End the run here. Chunks already put stay usable by the next one."""
        with self._lock:
            self._is_closed = True
            session, self._session = self._session, None
        if session is not None:
            session.abort()
        self._holding.close()
