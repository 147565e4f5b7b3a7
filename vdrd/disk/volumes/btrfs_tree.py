"""Trees of btrfs: logical addresses to places, nodes, and items by key."""

import struct
from bisect import bisect_left, bisect_right, insort
from collections import OrderedDict
from collections.abc import Iterator
from typing import NamedTuple

from vdrd.disk.volumes.ranges import Range, Unreadable

Key = tuple[int, int, int]
_HEADER_BYTES = 101
_POINTER = struct.Struct("<QBQQQ")
_ITEM = struct.Struct("<QBQII")
_LEVELS_MAX = 8
_NODES_KEPT = 512
_STRIPED = 0x8 | 0x40 | 0x80 | 0x100
_CHUNKS_MAX = 1_000_000
_STRIPES_MAX = 64


class Item(NamedTuple):
    """An item of a leaf."""

    object_id: int
    type: int
    offset: int
    data: bytes


class Chunks:
    """Which place each logical address has on the one device that is here."""

    def __init__(self, device: int) -> None:
        self._device = device
        self._starts: list[int] = []
        self._chunks: dict[int, tuple[int, int | None]] = {}

    def add(self, logical: int, raw: bytes) -> int:
        """Take a chunk item; returns its length in bytes."""
        length, kind = struct.unpack_from("<Q16xQ", raw)
        count: int = struct.unpack_from("<H", raw, 44)[0]
        if not 1 <= count <= _STRIPES_MAX or len(self._starts) > _CHUNKS_MAX:
            raise Unreadable("its map of chunks is damaged")
        stripes = [struct.unpack_from("<QQ", raw, 48 + 32 * i) for i in range(count)]
        place = next((offset for device, offset in stripes if device == self._device), None)
        if kind & _STRIPED and count > 1:
            place = None
        if logical not in self._chunks:
            insort(self._starts, logical)
        self._chunks[logical] = (length, place)
        return 48 + 32 * count

    def place(self, logical: int, length: int) -> int:
        """Offset of a run in the volume. Raises Unreadable if it is not here as one."""
        number = bisect_right(self._starts, logical) - 1
        if number < 0:
            raise Unreadable("it points at an address that nothing has")
        start = self._starts[number]
        chunk_bytes, place = self._chunks[start]
        if logical + length > start + chunk_bytes:
            raise Unreadable("it points at an address that nothing has")
        if place is None:
            raise Unreadable("it stands on several disks")
        return place + logical - start


class _Leaf(NamedTuple):
    keys: list[Key]
    places: list[tuple[int, int]]
    raw: bytes


class _Inner(NamedTuple):
    keys: list[Key]
    blocks: list[int]


class Trees:
    """Reads nodes, and keeps the last ones."""

    def __init__(self, volume: Range, chunks: Chunks, node_bytes: int) -> None:
        self._volume = volume
        self._chunks = chunks
        self._node_bytes = node_bytes
        self._nodes: OrderedDict[int, tuple[int, _Leaf | _Inner]] = OrderedDict()

    def items(self, root: tuple[int, int], first: Key, last: Key) -> Iterator[Item]:
        """Items of a tree with keys from `first` to `last`. `root` is its block and level."""
        block, level = root
        if level >= _LEVELS_MAX:
            raise Unreadable("a tree is damaged")
        yield from self._items(block, level, first, last)

    def _items(self, block: int, level: int, first: Key, last: Key) -> Iterator[Item]:
        node = self._node(block, level)
        if isinstance(node, _Leaf):
            for i in range(bisect_left(node.keys, first), len(node.keys)):
                key = node.keys[i]
                if key > last:
                    return
                at, length = node.places[i]
                data = node.raw[at : at + length]
                if len(data) != length:
                    raise Unreadable("a tree is damaged")
                yield Item(*key, data)
            return
        for i in range(max(0, bisect_right(node.keys, first) - 1), len(node.keys)):
            if node.keys[i] > last:
                return
            yield from self._items(node.blocks[i], level - 1, first, last)

    def _node(self, block: int, level: int) -> _Leaf | _Inner:
        kept = self._nodes.get(block)
        if kept is not None and kept[0] == level:
            self._nodes.move_to_end(block)
            return kept[1]
        raw = self._volume.read(self._chunks.place(block, self._node_bytes), self._node_bytes)
        own, count, found = struct.unpack_from("<Q40xIB", raw, 48)
        record = _ITEM if level == 0 else _POINTER
        if own != block or found != level or _HEADER_BYTES + count * record.size > len(raw):
            raise Unreadable("a tree is damaged")
        records = list(record.iter_unpack(raw[_HEADER_BYTES : _HEADER_BYTES + count * record.size]))
        keys: list[Key] = [fields[:3] for fields in records]
        if any(keys[i] >= keys[i + 1] for i in range(len(keys) - 1)):
            raise Unreadable("a tree is damaged")
        node: _Leaf | _Inner
        if level:
            node = _Inner(keys, [fields[3] for fields in records])
        else:
            node = _Leaf(keys, [(_HEADER_BYTES + fields[3], fields[4]) for fields in records], raw)
        self._nodes[block] = (level, node)
        if len(self._nodes) > _NODES_KEPT:
            self._nodes.popitem(last=False)
        return node
