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
    """Takes finished leaves and writes the nodes above them as soon as they are complete: what waits is one
    open node a level, however large the disk. Thread-safe."""

    def __init__(self, sink: ChunkSink, size_bytes: int, block_bytes: int, parent: MapReader | None) -> None:
        self._sink = sink
        self._size_bytes = size_bytes
        self._block_bytes = block_bytes
        self._levels = levels_for(size_bytes, block_bytes)
        self._parent = parent
        self._key = sink.keys.id_keys[ChunkKind.MAP_NODE]
        self._lock = threading.Lock()
        self._climbing = threading.Lock()
        self._waiting: list[dict[int, dict[int, bytes | None]]] = [{} for _ in range(self._levels + 1)]
        """By level and number of the node above: its new children."""
        self._root_id = parent.root.root_id if parent else None
        self.new_bytes = 0
        self.stored_bytes = 0

    def put_leaf(self, index: int, node: Node) -> None:
        """A leaf is complete: all its data chunks have been put."""
        leaf_id = self._put(1, node)
        if leaf_id is not None or self._parent is not None:
            self._add(1, index, leaf_id)

    def advance(self, leaf: int) -> None:
        """No leaf before this one is still to come."""
        # Whoever holds this is at it already, and what it passes over waits for the next call.
        if self._climbing.acquire(blocking=False):
            try:
                self._climb(leaf)
            finally:
                self._climbing.release()

    def finish(self) -> DiskRoot:
        """Write what is open."""
        with self._climbing:
            self._climb(FANOUT**self._levels)
        return DiskRoot(self._root_id, self._levels, self._size_bytes, self._block_bytes)

    def _climb(self, leaf: int) -> None:
        """Write the nodes that lie wholly before a leaf, from the lowest level up."""
        for level in range(2, self._levels + 1):
            with self._lock:
                waiting = self._waiting[level]
                complete = [index for index in waiting if (index + 1) * FANOUT ** (level - 1) <= leaf]
                taken = {index: waiting.pop(index) for index in complete}
            for index, children in taken.items():
                node = self._parent.node(level, index) if self._parent else Node()
                for child, child_id in children.items():
                    node.put(child, child_id)
                self._add(level, index, self._put(level, node))

    def _add(self, level: int, index: int, node_id: bytes | None) -> None:
        with self._lock:
            if level == self._levels:
                self._root_id = node_id
            else:
                above = self._waiting[level + 1].setdefault(index // FANOUT, {})
                above[index % FANOUT] = node_id

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
