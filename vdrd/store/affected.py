"""Which points need which of the damaged chunks: exact, in memory that grows with the damage only."""

from collections.abc import Iterable

from native.index import Index
from vdrd.model.chunks import ChunkKind, ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.model.progress import Cancel
from vdrd.store.walk import References, fetch_each, references, root_reference, split_ids

_EMPTY: frozenset[bytes] = frozenset()


class Affected:
    """Answers for one set of bad chunks. Uses the index's marks: one walk at a time."""

    def __init__(self, index: Index, source: ChunkSource, bad: frozenset[bytes], cancel: Cancel) -> None:
        self._index = index
        self._source = source
        self._bad = bad
        self._cancel = cancel
        self.unread: set[bytes] = set()
        """Nodes that could not be read: what they name is unknown."""
        self._below: dict[bytes, frozenset[bytes]] = {}
        """Of nodes with something bad beneath; the marks tell which others were looked at."""

    def by_point(self, points: Iterable[Point]) -> dict[str, frozenset[bytes]]:
        """Bad chunks that each point reaches, by point id."""
        self._index.mark_begin()
        result = {}
        for point in points:
            root = root_reference(point)
            result[point.point_id] = self._visit(*root) if root else _EMPTY
        return result

    def _visit(self, kind: ChunkKind, chunk_id: bytes) -> frozenset[bytes]:
        if chunk_id in self._below:
            return self._below[chunk_id]
        if not self._index.mark(chunk_id)[0]:
            return _EMPTY  # looked at before, and nothing was found
        self._cancel.check()
        found = {chunk_id} & self._bad
        for below, ids in self._named(kind, chunk_id):
            if below is ChunkKind.DATA:
                found.update(i for i in split_ids(ids) if i in self._bad)
                continue
            for child in split_ids(ids):
                found |= self._visit(below, child)
        if found:
            self._below[chunk_id] = frozenset(found)
        return frozenset(found)

    def _named(self, kind: ChunkKind, chunk_id: bytes) -> References:
        (plain,) = fetch_each(self._source, [chunk_id], lambda *_: None)
        try:
            if plain is not None:
                return references(kind, plain)
        except Damaged:
            pass  # told by the walk that met it first
        self.unread.add(chunk_id)
        return []
