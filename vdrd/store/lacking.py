"""Which chunks below a point are held by no pack, or only by records that do not hold. Changes nothing."""

from native.index import Index
from vdrd.model.chunks import ChunkKind, ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.store.walk import fetch_each, references, root_reference, split_ids

_NODES_PER_FETCH = 64


def lacking_below(point: Point, index: Index, source: ChunkSource) -> frozenset[bytes]:
    """Ids of such chunks; what only an unreadable node names stays unknown, the node is among them.

    Reads every node of the point once, and no data.
    """
    root = root_reference(point)
    lacking: set[bytes] = set()
    if root is None:
        return frozenset()
    met = {root[1]}
    todo = [root]

    def cannot_be_read(chunk_id: bytes, _: Damaged) -> None:
        lacking.add(chunk_id)

    while todo:
        batch, todo = todo[-_NODES_PER_FETCH:], todo[:-_NODES_PER_FETCH]
        plains = fetch_each(source, [chunk_id for _, chunk_id in batch], cannot_be_read)
        for (kind, chunk_id), plain in zip(batch, plains, strict=True):
            if plain is None:
                continue
            try:
                named = references(kind, plain)
            except Damaged:
                lacking.add(chunk_id)
                continue
            for below, ids in named:
                if below is ChunkKind.DATA:
                    flags = index.lacking(ids)
                    lacking |= {i for i, flag in zip(split_ids(ids), flags, strict=True) if flag}
                    continue
                fresh = [i for i in split_ids(ids) if i not in met]
                met.update(fresh)
                todo += [(below, i) for i in fresh]
    return frozenset(lacking)
