"""Walking what points reach: every chunk once, in bounded memory, marked in the index as it is met.

Who is alive (collect), what is missing (verify) and what a point costs (statistics) are questions to the
same walk.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import compress

from native import diskmap
from native.err import NativeError
from native.index import Index
from vdrd.formats import manifest
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.points import DiskRoot, Point
from vdrd.model.progress import Cancel

_NODES_PER_FETCH = 64
_MARK_FRESH = 1
_MARK_MISSING = 2
_IS_FRESH = bytes(mark == _MARK_FRESH for mark in range(256))

References = list[tuple[ChunkKind, bytes]]
"""Chunks that a chunk names: kind, ids back to back."""


def root_reference(point: Point) -> tuple[ChunkKind, bytes] | None:
    """Kind and id of a point's root, None when it has none (an all-zero disk)."""
    root = point.draft.root
    if root.root_id is None:
        return None
    return (ChunkKind.MAP_NODE if isinstance(root, DiskRoot) else ChunkKind.MANIFEST_NODE), root.root_id


def references(kind: ChunkKind, plain: bytes) -> References:
    """What a chunk of this kind names. Raises Damaged when it is none."""
    if kind is ChunkKind.DATA:
        return []
    if kind is ChunkKind.MAP_NODE:
        return _map_references(plain)
    named = manifest.references(plain)
    return [
        (ChunkKind.DATA, named.data),
        (ChunkKind.MANIFEST_SEGMENT, named.segments),
        (ChunkKind.MANIFEST_NODE, named.nodes),
    ]


def _map_references(plain: bytes) -> References:
    level = plain[3] if len(plain) > diskmap.NODE_HEADER_BYTES else 0
    try:
        diskmap.node_decode(plain, level)
    except NativeError as error:
        raise Damaged(what="map node", reason="it cannot be understood") from error
    # The ids of the present children are all that follows the header.
    return [(ChunkKind.DATA if level == 1 else ChunkKind.MAP_NODE, plain[diskmap.NODE_HEADER_BYTES :])]


def split_ids(ids: bytes) -> Iterator[bytes]:
    """Each id."""
    return (ids[i : i + CHUNK_ID_BYTES] for i in range(0, len(ids), CHUNK_ID_BYTES))


class Walk:
    """One walk over the trees of some points. For one thread; only one walk at a time may mark an index."""

    def __init__(
        self,
        index: Index,
        source: ChunkSource,
        *,
        on_damage: Callable[[bytes, Damaged], None],
        on_data: Callable[[bytes], None] | None = None,
        on_read: Callable[[int], None] = lambda _: None,
        cancel: Cancel,
    ) -> None:
        """`on_damage` gets each chunk that is missing or wrong; `on_data` the ids of data chunks met first;
        `on_read` how many bytes of nodes were read."""
        self._index = index
        self._source = source
        self._on_damage = on_damage
        self._on_data = on_data
        self._on_read = on_read
        self._cancel = cancel
        self.chunk_count = 0
        index.mark_begin()

    def visit(self, points: Iterable[Point]) -> None:
        """Mark all that these points reach and that was not met before."""
        for point in points:
            root = root_reference(point)
            if root is None:
                continue
            todo = [(root[0], chunk_id) for chunk_id in split_ids(self._mark(*root))]
            while todo:
                self._cancel.check()
                batch, todo = todo[-_NODES_PER_FETCH:], todo[:-_NODES_PER_FETCH]
                for kind, ids in self._open(batch):
                    fresh = self._mark(kind, ids)
                    if kind is not ChunkKind.DATA:
                        todo += [(kind, chunk_id) for chunk_id in split_ids(fresh)]
                    elif self._on_data is not None:
                        self._on_data(fresh)

    def _mark(self, kind: ChunkKind, ids: bytes) -> bytes:
        """Those that were not met before; of data chunks only where somebody wants them. Missing ones are
        told and left out."""
        marks = self._index.mark(ids)
        self.chunk_count += marks.count(_MARK_FRESH)
        if marks.count(_MARK_MISSING):
            for chunk_id, mark in zip(split_ids(ids), marks, strict=True):
                if mark == _MARK_MISSING:
                    reason = f"it is in no pack ({kind.name.lower()})"
                    self._on_damage(chunk_id, Damaged(what=f"chunk {chunk_id.hex()}", reason=reason))
        if kind is ChunkKind.DATA and self._on_data is None:
            return b""
        return b"".join(compress(split_ids(ids), marks.translate(_IS_FRESH)))

    def _open(self, batch: list[tuple[ChunkKind, bytes]]) -> References:
        named: References = []
        for (kind, chunk_id), plain in zip(
            batch, self._fetch([chunk_id for _, chunk_id in batch]), strict=True
        ):
            if plain is None:
                continue
            self._on_read(len(plain))
            try:
                named += references(kind, plain)
            except Damaged as error:
                self._on_damage(chunk_id, error)
        return named

    def _fetch(self, ids: list[bytes]) -> list[bytes | None]:
        return list(fetch_each(self._source, ids, self._on_damage))


def fetch_each(
    source: ChunkSource, ids: list[bytes], on_damage: Callable[[bytes, Damaged], None]
) -> list[bytes | None]:
    """Chunks one by one where they cannot be had together; None, and `on_damage` called, for one that is
    damaged."""
    try:
        return list(source.fetch(b"".join(ids)))
    except Damaged as error:
        if len(ids) == 1:
            on_damage(ids[0], error)
            return [None]
    middle = len(ids) // 2
    return fetch_each(source, ids[:middle], on_damage) + fetch_each(source, ids[middle:], on_damage)
