"""btrfs on one device, with its subvolumes (format: btrfs.readthedocs.io, on-disk format)."""

import struct
from bisect import bisect_right
from collections.abc import Iterator
from uuid import UUID

from vdrd.disk.volumes.btrfs_compression import decompressed
from vdrd.disk.volumes.btrfs_tree import Chunks, Item, Trees
from vdrd.disk.volumes.file_system import (
    CODED,
    DIRECTORY,
    DIRECTORY_NAMES_MAX,
    FILE,
    HOLE,
    KIND_OF_MODE,
    RUNS_MAX,
    SYMLINK,
    FileSystem,
    Node,
    Run,
)
from vdrd.disk.volumes.ranges import READ_BYTES_MAX, Range, Unreadable

SUPER_AT, _SUPER_BYTES = 0x10000, 4096
_MAGIC = b"_BHRfS_M"
_KNOWN_INCOMPATIBLE = 0x10FFF
_INODE_ITEM, _XATTR_ITEM, _DIR_INDEX, _EXTENT_DATA, _ROOT_ITEM, _CHUNK_ITEM = 1, 24, 96, 108, 132, 228
_FS_TREE, _ROOT_INODE = 5, 256
_LAST = (1 << 64) - 1
_REF_INODE_BITS = 40
_INODE = struct.Struct("<16xQ16xIIIIQ")
_TIME = struct.Struct("<qI")
_NAME = struct.Struct("<QBQQHHB")
_EXTENT = struct.Struct("<QQBBHB")
_PLACE = struct.Struct("<QQQQ")
_INLINE, _REGULAR, _PREALLOCATED = 0, 1, 2
_COMPRESSED_BYTES_MAX = READ_BYTES_MAX


class Btrfs(FileSystem):
    """One btrfs. `ref` is a subvolume's number above an inode number."""

    name = "btrfs"
    root_ref = _FS_TREE << _REF_INODE_BITS | _ROOT_INODE

    def __init__(self, volume: Range) -> None:
        super().__init__(volume)
        raw = volume.read(SUPER_AT, _SUPER_BYTES)
        root, chunk_root, log_root = struct.unpack_from("<QQQ", raw, 80)
        sector_bytes, node_bytes = struct.unpack_from("<II", raw, 144)
        array_bytes = struct.unpack_from("<I", raw, 160)[0]
        incompatible = struct.unpack_from("<Q", raw, 188)[0]
        device = struct.unpack_from("<Q", raw, 201)[0]
        root_level, chunk_level = raw[198], raw[199]
        if incompatible & ~_KNOWN_INCOMPATIBLE:
            raise Unreadable(f"it uses features of btrfs that are not known here (0x{incompatible:x})")
        if not 4096 <= node_bytes <= 65536 or not 4096 <= sector_bytes <= 65536 or array_bytes > 2048:
            raise Unreadable("its superblock is damaged")
        self.uuid = str(UUID(bytes=raw[32:48]))
        self.label = raw[299:555].partition(b"\0")[0].decode("utf-8", "backslashreplace")
        self.is_unclean = log_root != 0
        self._sector_bytes = sector_bytes
        self._chunks = Chunks(device)
        at = 811
        while at < 811 + array_bytes:
            logical = struct.unpack_from("<Q", raw, at + 9)[0]
            at += 17 + self._chunks.add(logical, raw[at + 17 :])
        self._trees = Trees(volume, self._chunks, node_bytes)
        for item in self._trees.items((chunk_root, chunk_level), (0, 0, 0), (_LAST, 255, _LAST)):
            if item.type == _CHUNK_ITEM:
                self._chunks.add(item.offset, item.data)
        self._root = (root, root_level)
        self._subvolumes: dict[int, tuple[int, int]] = {}
        self._extents: tuple[int, list[Item]] = (-1, [])
        self._decompressed: tuple[tuple[int, int], bytes] | None = None

    @staticmethod
    def is_here(volume: Range) -> bool:
        """True if the magic stands there."""
        return volume.size_bytes >= SUPER_AT + _SUPER_BYTES and volume.read(SUPER_AT + 64, 8) == _MAGIC

    # ---- inodes --------------------------------------------------------------------------------------------

    def _tree(self, number: int) -> tuple[int, int]:
        """Root block and level of a subvolume's tree."""
        found = self._subvolumes.get(number)
        if found is None:
            items = self._trees.items(self._root, (number, _ROOT_ITEM, 0), (number, _ROOT_ITEM, _LAST))
            item = next(items, None)
            if item is None or len(item.data) < 239:
                raise Unreadable(f"there is no subvolume {number}")
            found = self._subvolumes[number] = (struct.unpack_from("<Q", item.data, 176)[0], item.data[238])
        return found

    def _items(self, ref: int, kind: int) -> Iterator[Item]:
        tree, inode = ref >> _REF_INODE_BITS, ref & (1 << _REF_INODE_BITS) - 1
        return self._trees.items(self._tree(tree), (inode, kind, 0), (inode, kind, _LAST))

    def node(self, ref: int) -> Node:
        """See FileSystem."""
        item = next(self._items(ref, _INODE_ITEM), None)
        if item is None:
            raise Unreadable(f"there is no inode {ref & (1 << _REF_INODE_BITS) - 1}")
        size, links, uid, gid, mode, device = _INODE.unpack_from(item.data)
        kind = KIND_OF_MODE.get(mode >> 12)
        if kind is None:
            raise Unreadable("an inode is damaged")
        (ctime, ctime_ns), (mtime, mtime_ns) = (
            _TIME.unpack_from(item.data, 124),
            _TIME.unpack_from(item.data, 136),
        )
        return Node(
            ref,
            kind,
            mode & 0o7777,
            uid,
            gid,
            size if kind in (FILE, SYMLINK) else 0,
            mtime * 1_000_000_000 + mtime_ns,
            ctime * 1_000_000_000 + ctime_ns,
            links,
            (device >> 20, device & 0xFFFFF) if kind in (6, 7) else (0, 0),
        )

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """See FileSystem. Subvolumes are entered like directories."""
        if self.node(ref).kind != DIRECTORY:
            raise Unreadable("that is no directory")
        for count, item in enumerate(self._items(ref, _DIR_INDEX)):
            target, kind, _, _, _, name_bytes, _ = _NAME.unpack_from(item.data)
            name = item.data[_NAME.size : _NAME.size + name_bytes]
            if count > DIRECTORY_NAMES_MAX:
                raise Unreadable("a directory with more names than can be kept in mind")
            if kind == _ROOT_ITEM:
                yield name, self._ref(target, _ROOT_INODE)
            elif kind == _INODE_ITEM:
                yield name, self._ref(ref >> _REF_INODE_BITS, target)

    def _ref(self, tree: int, inode: int) -> int:
        if tree >> 24 or inode >> _REF_INODE_BITS:
            raise Unreadable("numbers of inodes beyond what is read here")
        return tree << _REF_INODE_BITS | inode

    def attributes(self, ref: int) -> list[tuple[bytes, bytes]]:
        """See FileSystem."""
        found = []
        for item in self._items(ref, _XATTR_ITEM):
            at = 0
            while at + _NAME.size <= len(item.data):
                _, _, _, _, value_bytes, name_bytes, _ = _NAME.unpack_from(item.data, at)
                name_at = at + _NAME.size
                value_at = name_at + name_bytes
                at = value_at + value_bytes
                found.append((item.data[name_at:value_at], item.data[value_at:at]))
        return found

    # ---- content -------------------------------------------------------------------------------------------

    def _file_extents(self, ref: int) -> list[Item]:
        if self._extents[0] != ref:
            items = []
            for item in self._items(ref, _EXTENT_DATA):
                items.append(item)
                if len(items) > RUNS_MAX:
                    raise Unreadable("a file in more pieces than can be kept in mind")
            self._extents = (ref, items)
        return self._extents[1]

    def content_runs(self, node: Node) -> Iterator[Run]:
        """See FileSystem."""
        for item in self._file_extents(node.ref):
            _, plain_bytes, compression, _, _, kind = _EXTENT.unpack_from(item.data)
            if kind == _INLINE:
                yield Run(item.offset, plain_bytes, CODED)
                continue
            place, _, skipped, length = _PLACE.unpack_from(item.data, _EXTENT.size)
            if not place or kind == _PREALLOCATED:
                yield Run(item.offset, length, HOLE)
            elif compression:
                yield Run(item.offset, length, CODED)
            else:
                yield Run(item.offset, length, self._chunks.place(place + skipped, length))

    def read_coded(self, node: Node, offset: int, length: int) -> bytes:
        """See FileSystem: compressed extents, and content kept with the inode."""
        items = self._file_extents(node.ref)
        begins = [item.offset for item in items]
        parts = []
        while length > 0:
            number = bisect_right(begins, offset) - 1
            if number < 0:
                raise Unreadable("a file is damaged")
            data = self._extent(node.ref, items[number])
            part = data[offset - items[number].offset :][:length]
            if not part:
                raise Unreadable("a file is damaged")
            parts.append(part)
            offset += len(part)
            length -= len(part)
        return b"".join(parts)

    def _extent(self, ref: int, item: Item) -> bytes:
        if self._decompressed is not None and self._decompressed[0] == (ref, item.offset):
            return self._decompressed[1]
        _, plain_bytes, compression, encryption, encoding, kind = _EXTENT.unpack_from(item.data)
        if encryption or encoding:
            raise Unreadable("a file is encrypted")
        if plain_bytes > _COMPRESSED_BYTES_MAX:
            raise Unreadable("a compressed run of impossible length")
        if kind == _INLINE:
            data = decompressed(compression, item.data[_EXTENT.size :], plain_bytes, self._sector_bytes)
        else:
            place, disk_bytes, skipped, length = _PLACE.unpack_from(item.data, _EXTENT.size)
            raw = self.volume.read(self._chunks.place(place, disk_bytes), disk_bytes)
            plain = decompressed(compression, raw, plain_bytes, self._sector_bytes)
            data = plain[skipped : skipped + length].ljust(min(length, plain_bytes), b"\0")
        self._decompressed = ((ref, item.offset), data)
        return data
