"""A manifest as a tree of chunks: written in path order, read by path or as a stream in bounded memory.

Owns where nodes are cut and how a path is found. Must not know what the entries mean.
"""

from array import array
from collections import OrderedDict
from collections.abc import Iterator

from native.err import NativeError
from native.segment import SegmentBuilder, SegmentInfo, check_segment
from vdrd.files.chunk_writer import ChunkWriter
from vdrd.formats.manifest import (
    Child,
    Head,
    damaged,
    parse_head,
    parse_node,
    path_key,
    write_head,
    write_node,
)
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSource
from vdrd.model.errors import StorageNewer
from vdrd.model.points import FilesRoot

NODE_CHILDREN_MIN = 8
NODE_CHILDREN_MAX = 1024
NODE_CUT_MASK = 63
NODE_BYTES_MAX = 1 << 19
_NODES_KEPT = 32
_READ_AHEAD = 16
_WRITE_BYTES = 1 << 20
"""Segments are claimed and put this many bytes at a time: a claim may cost a round trip."""


def cut_seed(cut_key: bytes) -> int:
    """Seed of the path hash: the first 8 bytes of the cut key."""
    return int.from_bytes(cut_key[:8], "little")


def _ends_node(children: list[Child], node_bytes: int) -> bool:
    if len(children) < NODE_CHILDREN_MIN:
        return False
    is_chosen = int.from_bytes(children[-1].chunk_id[:4], "little") & NODE_CUT_MASK == 0
    return is_chosen or len(children) >= NODE_CHILDREN_MAX or node_bytes >= NODE_BYTES_MAX


class TreeWriter:
    """Writes a manifest from loose entries in path order. For one thread. Memory: one open node per level."""

    def __init__(self, writer: ChunkWriter, seed: int) -> None:
        self._writer = writer
        self._builder = SegmentBuilder(seed)
        self._levels: list[list[Child]] = []
        self._bytes: list[int] = []
        self._pending = bytearray()
        self._infos: list[SegmentInfo] = []
        self.entry_count = 0

    def append(self, records: bytes) -> None:
        """Take complete loose entries."""
        for plain, infos in self._builder.append(records):
            self._take(plain, infos)

    def finish(self, *, logical_bytes: int, users: dict[int, str], groups: dict[int, str]) -> FilesRoot:
        """Write what is open and the head. There must have been an entry."""
        for plain, infos in self._builder.append(b"", is_end=True):
            self._take(plain, infos)
        self._flush()
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close_node(level)
            level += 1
        tree_id = self._levels[level][0].chunk_id
        head = Head(tree_id, level, self.entry_count, logical_bytes, users, groups)
        root_id = self._writer.write_one(ChunkKind.MANIFEST_NODE, write_head(head))
        return FilesRoot(root_id, level, self.entry_count)

    def _take(self, plain: memoryview, infos: list[SegmentInfo]) -> None:
        self._pending += plain
        self._infos += infos
        self.entry_count += sum(info.entry_count for info in infos)
        if len(self._pending) >= _WRITE_BYTES:
            self._flush()

    def _flush(self) -> None:
        plain, infos = self._pending, self._infos
        self._pending, self._infos = bytearray(), []
        if not infos:
            return
        offsets = array("Q")
        lengths = array("I", [info.plain_bytes for info in infos])
        at = 0
        for info in infos:
            offsets.append(at)
            at += info.plain_bytes
        ids = self._writer.write(ChunkKind.MANIFEST_SEGMENT, plain, offsets, lengths)
        for i, info in enumerate(infos):
            chunk_id = ids[i * CHUNK_ID_BYTES : (i + 1) * CHUNK_ID_BYTES]
            self._add(0, Child(chunk_id, info.entry_count, info.last_path))

    def _add(self, level: int, child: Child) -> None:
        if level == len(self._levels):
            self._levels.append([])
            self._bytes.append(0)
        children = self._levels[level]
        children.append(child)
        self._bytes[level] += len(child.last_path) + CHUNK_ID_BYTES
        if _ends_node(children, self._bytes[level]):
            self._close_node(level)

    def _close_node(self, level: int) -> None:
        children = self._levels[level]
        self._levels[level] = []
        self._bytes[level] = 0
        chunk_id = self._writer.write_one(ChunkKind.MANIFEST_NODE, write_node(level + 1, children))
        count = sum(child.entry_count for child in children)
        self._add(level + 1, Child(chunk_id, count, children[-1].last_path))


class TreeReader:
    """Reads one manifest. Keeps a few nodes; thread-safe only for one reader at a time."""

    def __init__(self, root: FilesRoot, source: ChunkSource) -> None:
        self._source = source
        self._nodes: OrderedDict[tuple[bytes, int], list[Child]] = OrderedDict()
        if root.root_id is None:
            raise damaged("a point of files without a manifest")
        self.head = parse_head(source.fetch(root.root_id)[0])
        if self.head.levels != root.levels or self.head.entry_count != root.entry_count:
            raise damaged("its head does not belong to this point")

    def segments_from(self, path: bytes) -> Iterator[bytes]:
        """Checked segments in order, from the one that holds `path` or its place on. Reads a few ahead."""
        pending: list[bytes] = []
        ahead = 1
        for chunk_id in self._ids_from(self.head.tree_id, self.head.levels, path_key(path)):
            pending.append(chunk_id)
            if len(pending) >= ahead:
                yield from self._fetch_segments(pending)
                pending = []
                ahead = min(2 * ahead, _READ_AHEAD)  # one path is often all that is wanted
        yield from self._fetch_segments(pending)

    def _fetch_segments(self, ids: list[bytes]) -> Iterator[bytes]:
        if not ids:
            return
        for plain in self._source.fetch(b"".join(ids)):
            checked_segment(plain)
            yield plain

    def _ids_from(self, chunk_id: bytes, level: int, key: bytes) -> Iterator[bytes]:
        if level == 0:
            yield chunk_id
            return
        for child in self._node(chunk_id, level):
            if path_key(child.last_path) >= key:
                yield from self._ids_from(child.chunk_id, level - 1, key)

    def _node(self, chunk_id: bytes, level: int) -> list[Child]:
        children = self._nodes.get((chunk_id, level))
        if children is None:
            children = parse_node(self._source.fetch(chunk_id)[0], level)
            self._nodes[(chunk_id, level)] = children
            if len(self._nodes) > _NODES_KEPT:
                self._nodes.popitem(last=False)
        else:
            self._nodes.move_to_end((chunk_id, level))
        return children


def checked_segment(plain: bytes) -> int:
    """Entries of a segment that is sound in every bit; Damaged otherwise."""
    try:
        return check_segment(plain)
    except NativeError as error:
        if error.code == "version":
            raise StorageNewer(path="(file manifest)", found="unknown", supported=1) from error
        raise damaged("a segment is not as it was written") from error
