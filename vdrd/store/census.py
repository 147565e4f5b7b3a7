"""Counting what belongs to whom: exact figures of space, by walking what points reach.

The memory it takes is three bits for each chunk in the index, whatever the number of points. A subtree that
a second point reaches is known to be shared and never entered again, so a chain of increments costs its
changes.
"""

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import compress
from typing import TYPE_CHECKING

from native.chunk import RECORD_HEADER_BYTES
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.store.walk import fetch_each, references, root_reference, split_ids

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

_REACHED, _SHARED, _VISITED = range(3)
"""Planes of marks: some group reaches it, several do, the group that is being walked does."""
_FRESH, _MISSING = 1, 2
_IS_FRESH = bytes(mark == _FRESH for mark in range(256))
_IS_KNOWN = bytes(mark == 0 for mark in range(256))
_NODES_PER_FETCH = 64

Node = tuple[ChunkKind, bytes]


@dataclass(frozen=True, slots=True)
class ObjectFigures:
    """An object in bytes. Stored bytes are those of records in packs, compressed, with their headers."""

    name: str
    point_count: int
    logical_bytes: int
    """Sum over its points of what they protect."""
    unique_bytes: int
    """Stored bytes that no other object reaches: what forgetting all its points would free."""
    shared_bytes: int
    """Stored bytes that another object reaches too."""


@dataclass(frozen=True, slots=True)
class PointFigures:
    """A point in bytes."""

    point: Point
    freed_bytes: int
    """Stored bytes that no other point reaches: what forgetting it would free, once collected."""


@dataclass(frozen=True, slots=True)
class Census:
    """A storage in bytes."""

    point_count: int
    logical_bytes: int
    live_bytes: int
    """Of records that points reach."""
    dead_bytes: int
    """Of records that none reaches: freed by collections, as packs empty."""
    stored_bytes: int
    """Length of all packs, with headers and tables."""
    pack_count: int
    objects: tuple[ObjectFigures, ...]
    points: tuple[PointFigures, ...]
    """Of the object that was asked for, oldest first."""
    damage_count: int
    """Chunks and points that could not be read; the figures leave them out."""


class CensusTaker:
    """One count. For one thread; no other walk may mark the index meanwhile."""

    def __init__(self, storage: "Storage", *, progress: ProgressSink, cancel: Cancel) -> None:
        self._storage = storage
        self._index = storage.index.native
        self._progress = progress
        self._cancel = cancel
        self._damaged: set[bytes] = set()

    def take(self, object_name: str | None) -> Census:
        """Count every object, or, given one, its points too."""
        points, damages = self._storage.book.list()
        by_object: dict[str, list[Point]] = {}
        for point in points:
            by_object.setdefault(point.draft.object_name, []).append(point)
        wanted = by_object if object_name is None else {object_name: by_object.get(object_name, [])}
        rows = list(self._storage.index.pack_rows().values())
        objects, live_bytes = self._count_objects(by_object, set(wanted))
        return Census(
            point_count=len(points),
            logical_bytes=sum(point.draft.logical_bytes for point in points),
            live_bytes=live_bytes,
            dead_bytes=max(0, sum(row.record_bytes for row in rows) - live_bytes),
            stored_bytes=sum(row.file_bytes for row in rows),
            pack_count=len(rows),
            objects=tuple(objects),
            points=tuple(self._count_points(by_object, object_name) if object_name is not None else ()),
            damage_count=len(damages) + len(self._damaged),
        )

    def _count_objects(
        self, by_object: dict[str, list[Point]], wanted: set[str]
    ) -> tuple[list[ObjectFigures], int]:
        self._begin()
        reached: dict[str, int] = {}
        live_bytes = 0
        for number, (name, points) in enumerate(by_object.items(), 1):
            reached[name], first_bytes = self._reach(points, prune=False)
            live_bytes += first_bytes
            self._progress(Progress("count objects", done_files=number, total_files=len(by_object)))
        self._index.mark_begin(_VISITED)
        figures = []
        for name in sorted(wanted & by_object.keys()):
            unique_bytes = self._alone(by_object[name])
            figures.append(
                ObjectFigures(
                    name,
                    len(by_object[name]),
                    sum(point.draft.logical_bytes for point in by_object[name]),
                    unique_bytes,
                    reached[name] - unique_bytes,
                )
            )
        return figures, live_bytes

    def _count_points(self, by_object: dict[str, list[Point]], object_name: str) -> Iterator[PointFigures]:
        self._begin()
        points = by_object.get(object_name, [])
        self._reach(
            [point for name, others in by_object.items() if name != object_name for point in others],
            prune=True,
        )
        for number, point in enumerate(points, 1):
            self._reach([point], prune=True)
            self._progress(Progress("count points", done_files=number, total_files=len(points)))
        self._index.mark_begin(_VISITED)
        for point in points:
            yield PointFigures(point, self._alone([point]))

    def _begin(self) -> None:
        for plane in (_REACHED, _SHARED):
            self._index.mark_begin(plane)

    # ---- walking ----

    def _reach(self, points: Iterable[Point], *, prune: bool) -> tuple[int, int]:
        """Mark what a group of points reaches. Returns its bytes, and those that no group before reached.

        With `prune` what is known to be shared is not entered, and the first figure means nothing.
        """
        self._index.mark_begin(_VISITED)
        reached_bytes = first_bytes = 0

        def enter(ids: bytes) -> bytes:
            nonlocal reached_bytes, first_bytes
            visited = self._fresh(ids, _VISITED)
            first = self._index.mark(visited, _REACHED)
            first_ids = _chosen(visited, first.translate(_IS_FRESH))
            again = _chosen(visited, first.translate(_IS_KNOWN))
            newly_shared = self._fresh(again, _SHARED)
            first_bytes += self._weight(first_ids)
            if prune:
                return first_ids + newly_shared
            reached_bytes += self._weight(visited)
            return visited

        self._walk(points, enter)
        return reached_bytes, first_bytes

    def _alone(self, points: Iterable[Point]) -> int:
        """Bytes that only this group reaches; it was marked with all others before."""
        total_bytes = 0

        def enter(ids: bytes) -> bytes:
            nonlocal total_bytes
            alone = _chosen(ids, self._index.unmarked(ids, _SHARED))
            fresh = self._fresh(alone, _VISITED)
            total_bytes += self._weight(fresh)
            return fresh

        self._walk(points, enter)
        return total_bytes

    def _walk(self, points: Iterable[Point], enter: Callable[[bytes], bytes]) -> None:
        """From the roots down; `enter` says which chunks of those named are to be looked into."""
        for point in points:
            root = root_reference(point)
            todo: list[Node] = [] if root is None else [(root[0], i) for i in split_ids(enter(root[1]))]
            while todo:
                self._cancel.check()
                batch, todo = todo[-_NODES_PER_FETCH:], todo[:-_NODES_PER_FETCH]
                for kind, ids in self._open(batch):
                    entered = enter(ids)
                    if kind is not ChunkKind.DATA:
                        todo += [(kind, chunk_id) for chunk_id in split_ids(entered)]

    def _open(self, batch: list[Node]) -> Iterator[Node]:
        plains = fetch_each(self._storage.reader, [chunk_id for _, chunk_id in batch], self._note_damage)
        for (kind, chunk_id), plain in zip(batch, plains, strict=True):
            if plain is None:
                continue
            try:
                yield from references(kind, plain)
            except Damaged as error:
                self._note_damage(chunk_id, error)

    def _note_damage(self, chunk_id: bytes, _: Damaged) -> None:
        self._damaged.add(chunk_id)

    def _fresh(self, ids: bytes, plane: int) -> bytes:
        marks = self._index.mark(ids, plane)
        if marks.count(_MISSING):
            self._damaged.update(i for i, mark in zip(split_ids(ids), marks, strict=True) if mark == _MISSING)
        return _chosen(ids, marks.translate(_IS_FRESH))

    def _weight(self, ids: bytes) -> int:
        """Bytes of their records."""
        places = array("I")
        places.frombytes(self._index.find(ids))
        return sum(places[2::4]) + RECORD_HEADER_BYTES * (len(places) // 4)


def _chosen(ids: bytes, flags: bytearray) -> bytes:
    count = flags.count(1)
    if count == len(flags):
        return ids
    return b"".join(compress(split_ids(ids), flags)) if count else b""
