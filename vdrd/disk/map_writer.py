"""Building the block map of a disk point, leaf by leaf, on top of the parent's map where there is one."""

import threading
from collections.abc import Iterator

from native import blake3, diskmap
from native.err import NativeError
from vdrd.formats.batch import raw_batch
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSink, ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.points import DiskRoot

FANOUT = diskmap.FANOUT
_EMPTY_IDS = bytes(CHUNK_ID_BYTES * FANOUT)
_ALL_ABSENT = b"\x01" * FANOUT


def levels_for(size_bytes: int, block_bytes: int) -> int:
    """The smallest root level that covers a disk."""
    blocks = -(-size_bytes // block_bytes)
    levels = 1
    while FANOUT**levels < blocks:
        levels += 1
    return levels


class Node:
    """Children of a map node: 32 bytes and an absent flag each."""

    __slots__ = ("absent", "ids")

    def __init__(self, ids: bytes | bytearray = _EMPTY_IDS, absent: bytes | bytearray = _ALL_ABSENT) -> None:
        self.ids = bytearray(ids)
        self.absent = bytearray(absent)

    def child(self, i: int) -> bytes | None:
        """Id of a child, None when absent."""
        return None if self.absent[i] else bytes(self.ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)])

    def put(self, i: int, child_id: bytes | None) -> None:
        """Set a child."""
        self.absent[i] = child_id is None
        if child_id is not None:
            self.ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)] = child_id

    def children(self) -> Iterator[tuple[int, bytes]]:
        """Present children."""
        for i in range(FANOUT):
            child_id = self.child(i)
            if child_id is not None:
                yield i, child_id


def decode_node(data: bytes, level: int, node_id: bytes) -> Node:
    """Raises Damaged naming the node."""
    try:
        return Node(*diskmap.node_decode(data, level))
    except NativeError as error:
        raise Damaged(what=f"map node {node_id.hex()}", reason="it is no node of its level") from error


class MapReader:
    """Nodes of a stored map. Thread-safe; remembers the upper levels it has walked."""

    def __init__(self, root: DiskRoot, source: ChunkSource) -> None:
        self.root = root
        self._source = source
        self._lock = threading.Lock()
        self._upper: dict[tuple[int, int], Node] = {}
        self.is_damaged = False
        """A node could not be read."""

    def node(self, level: int, index: int) -> Node:
        """The node at `level` that covers leaf range `index`; an empty one where the map has none."""
        node_id = self.node_id(level, index)
        if node_id is None:
            return Node()
        try:
            return decode_node(self._source.fetch(node_id)[0], level, node_id)
        except Damaged:
            self.is_damaged = True
            raise

    def node_id(self, level: int, index: int) -> bytes | None:
        """Id of that node."""
        if level == self.root.levels:
            return self.root.root_id
        return self._upper_node(level + 1, index // FANOUT).child(index % FANOUT)

    def _upper_node(self, level: int, index: int) -> Node:
        with self._lock:
            if (level, index) not in self._upper:
                if len(self._upper) > 1024:
                    self._upper.clear()
                known = None
            else:
                known = self._upper[level, index]
        if known is None:
            known = self.node(level, index)
            with self._lock:
                self._upper[level, index] = known
        return known


class MapWriter:
    """Collects finished leaves, then writes the nodes above them. Thread-safe."""

    def __init__(self, sink: ChunkSink, size_bytes: int, block_bytes: int, parent: MapReader | None) -> None:
        self._sink = sink
        self._size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._levels = levels_for(size_bytes, block_bytes)
        self._parent = parent
        self._key = sink.keys.id_keys[ChunkKind.MAP_NODE]
        self._lock = threading.Lock()
        self._changed: dict[int, bytes | None] = {}
        self.new_bytes = 0
        self.stored_bytes = 0

    def put_leaf(self, index: int, node: Node) -> None:
        """A leaf is complete: all its data chunks have been put."""
        leaf_id = self._put(1, node)
        with self._lock:
            if leaf_id is not None or self._parent is not None:
                self._changed[index] = leaf_id

    def finish(self) -> DiskRoot:
        """Write the upper levels."""
        changed = self._changed
        for level in range(2, self._levels + 1):
            above: dict[int, Node] = {}
            for index, child_id in changed.items():
                node = above.get(index // FANOUT)
                if node is None:
                    node = self._parent.node(level, index // FANOUT) if self._parent else Node()
                    above[index // FANOUT] = node
                node.put(index % FANOUT, child_id)
            changed = {index: self._put(level, node) for index, node in above.items()}
        untouched = self._parent.root.root_id if self._parent else None
        root_id = changed.get(0, untouched)
        return DiskRoot(root_id, self._levels, self._size_bytes, self._block_bytes)

    def _put(self, level: int, node: Node) -> bytes | None:
        data = diskmap.node_encode(level, node.ids, node.absent)
        if not data:
            return None
        node_id = blake3.keyed(self._key, data)
        if self._sink.claim(node_id)[0]:
            self._sink.put(raw_batch(node_id, data, ChunkKind.MAP_NODE))
            with self._lock:
                self.new_bytes += len(data)
                self.stored_bytes += len(data)
        return node_id
