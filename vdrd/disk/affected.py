"""Which parts of a disk point need which of the chunks that are damaged."""

from collections.abc import Iterator

from vdrd.disk.map_writer import FANOUT, decode_node
from vdrd.model.chunks import ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.extents import Extent
from vdrd.model.points import DiskRoot


class DiskAffected:
    """Answers for one set of bad chunks and any number of points; what points share is read once."""

    def __init__(self, source: ChunkSource, bad: frozenset[bytes]) -> None:
        self._source = source
        self._bad = bad
        self._clean: set[bytes] = set()

    def of(self, root: DiskRoot) -> list[tuple[bytes, Extent]]:
        """Bad chunk and range of each part that cannot be read, in order; ranges that touch are one."""
        found: list[tuple[bytes, Extent]] = []
        for chunk_id, level, index in self.places(root):
            width_bytes = FANOUT**level * root.block_bytes
            begin = index * width_bytes
            length = min(width_bytes, root.size_bytes - begin)
            if length <= 0:
                continue
            if found and found[-1][0] == chunk_id and found[-1][1].end_bytes == begin:
                extent = found.pop()[1]
                begin, length = extent.offset_bytes, extent.length_bytes + length
            found.append((chunk_id, Extent(begin, length)))
        return found

    def places(self, root: DiskRoot) -> Iterator[tuple[bytes, int, int]]:
        """Bad chunk, its level in the map (0: a block) and its number on that level."""
        if root.root_id is not None:
            yield from self._below(root.root_id, root.levels, 0)

    def _below(self, chunk_id: bytes, level: int, index: int) -> Iterator[tuple[bytes, int, int]]:
        if chunk_id in self._bad:
            yield chunk_id, level, index
            return
        if level == 0 or chunk_id in self._clean:
            return
        try:
            node = decode_node(self._source.fetch(chunk_id)[0], level, chunk_id)
        except Damaged:
            yield chunk_id, level, index
            return
        is_clean = True
        for i, child in node.children():
            for one in self._below(child, level - 1, index * FANOUT + i):
                is_clean = False
                yield one
        if is_clean:
            self._clean.add(chunk_id)
