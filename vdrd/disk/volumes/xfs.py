"""XFS, versions 4 and 5 (format: XFS Algorithms & Data Structures, 3rd edition)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from vdrd.disk.volumes.file_system import (
    CODED,
    DIRECTORY,
    DIRECTORY_NAMES_MAX,
    FILE,
    HOLE,
    KIND_OF_MODE,
    LINK_BYTES_MAX,
    SYMLINK,
    FileSystem,
    Node,
    Run,
)
from vdrd.disk.volumes.ranges import Range, Unreadable
from vdrd.disk.volumes.xfs_attributes import attributes_of
from vdrd.disk.volumes.xfs_log import is_log_clean

_FTYPE, _META_UUID = 0x1, 0x4
_KNOWN_INCOMPATIBLE = 0xFF
_V4_FTYPE = 0x200
_CORE_BYTES_3, _CORE_BYTES_2 = 176, 100
_LOCAL, _EXTENTS, _BTREE = 1, 2, 3
_REALTIME = 1
_BIGTIME, _MANY_EXTENTS = 0x8, 0x10
_BIGTIME_EPOCH_SECONDS = 1 << 31
_LEAF_AT = 32 << 30
"""Directories: offsets from here on are indices, not names."""
_BLOCK_MAGICS, _DATA_MAGICS = (b"XD2B", b"XDB3"), (b"XD2D", b"XDD3")
_LINK_HEADER_BYTES = 56
_DEPTH_MAX = 8


class Fork(NamedTuple):
    """Data or attributes of an inode: how they are kept, and the bytes of the inode that say so."""

    format: int
    raw: bytes
    extent_count: int


class _Inode(NamedTuple):
    node: Node
    size_bytes: int
    data: Fork
    attributes: Fork | None


class Xfs(FileSystem):
    """One XFS. `ref` is the inode number."""

    name: str = "xfs"

    def __init__(self, volume: Range) -> None:
        super().__init__(volume)
        raw = volume.read(0, 512)
        self.block_bytes = struct.unpack_from(">I", raw, 4)[0]
        log_start, self.root_ref = struct.unpack_from(">QQ", raw, 48)
        self._group_blocks, self._group_count = struct.unpack_from(">II", raw, 84)
        log_blocks, version, _, self._inode_bytes = struct.unpack_from(">IHHH", raw, 96)
        self.label = raw[108:120].rstrip(b"\0").decode("utf-8", "backslashreplace")
        self._inode_log, self._group_log = raw[123], raw[124]
        self._directory_bytes = self.block_bytes << raw[192]
        features_2, _, _, _, incompatible = struct.unpack_from(">IIIII", raw, 200)
        self.uuid = str(UUID(bytes=raw[32:48]))
        self.is_version_5 = version & 0xF == 5
        if version & 0xF not in (4, 5) or (self.is_version_5 and incompatible & ~_KNOWN_INCOMPATIBLE):
            raise Unreadable(f"it uses features of XFS that are not known here (0x{incompatible:x})")
        if self.block_bytes not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536) or raw[192] > 7:
            raise Unreadable("its superblock is damaged")
        if not 256 <= self._inode_bytes <= 2048 or not self._group_blocks or self._group_log > 31:
            raise Unreadable("its superblock is damaged")
        self._has_types = bool(incompatible & _FTYPE if self.is_version_5 else features_2 & _V4_FTYPE)
        if log_start:
            log_at = self._byte_of(log_start)
            self.is_unclean = not is_log_clean(volume, log_at, log_blocks * self.block_bytes)

    @staticmethod
    def is_here(volume: Range) -> bool:
        """True if the magic stands there."""
        return volume.size_bytes >= 1 << 20 and volume.read(0, 4) == b"XFSB"

    def _byte_of(self, block: int) -> int:
        group, within = block >> self._group_log, block & (1 << self._group_log) - 1
        if group >= self._group_count or within >= self._group_blocks:
            raise Unreadable("it points beyond its end")
        return int((group * self._group_blocks + within) * self.block_bytes)

    # ---- inodes --------------------------------------------------------------------------------------------

    def _inode(self, ref: int) -> _Inode:
        block, index = ref >> self._inode_log, ref & (1 << self._inode_log) - 1
        raw = self.volume.read(self._byte_of(block) + index * self._inode_bytes, self._inode_bytes)
        magic, mode, version, data_format = struct.unpack_from(">2sHBB", raw)
        kind = KIND_OF_MODE.get(mode >> 12)
        if magic != b"IN" or kind is None:
            raise Unreadable(f"inode {ref} is no file")
        old_links, uid, gid, links = struct.unpack_from(">HIII", raw, 6)
        size, _, _, count, attribute_count, fork_at, attribute_format = struct.unpack_from(
            ">QQIIHBb", raw, 56
        )
        flags = struct.unpack_from(">H", raw, 90)[0]
        more_flags = struct.unpack_from(">Q", raw, 120)[0] if version == 3 else 0
        if more_flags & _MANY_EXTENTS:
            attribute_count = count
            count = struct.unpack_from(">Q", raw, 24)[0]
        if kind == FILE and flags & _REALTIME:
            raise Unreadable("its content stands on a realtime device")
        begin = _CORE_BYTES_3 if version == 3 else _CORE_BYTES_2
        middle = begin + 8 * fork_at if fork_at else len(raw)
        data = Fork(data_format, raw[begin:middle], count)
        attributes = Fork(attribute_format, raw[middle:], attribute_count) if fork_at else None
        device = (0, 0)
        if kind in (6, 7):
            number = struct.unpack_from(">I", raw, begin)[0]
            device = (number >> 18, number & 0x3FFFF)
        is_big = bool(more_flags & _BIGTIME)
        node = Node(
            ref,
            kind,
            mode & 0o7777,
            uid,
            gid,
            size if kind in (FILE, SYMLINK) else 0,
            _time_ns(raw[40:48], is_big),
            _time_ns(raw[48:56], is_big),
            old_links if version == 1 else links,
            device,
        )
        return _Inode(node, size, data, attributes)

    def node(self, ref: int) -> Node:
        """See FileSystem."""
        return self._inode(ref).node

    # ---- content -------------------------------------------------------------------------------------------

    def content_runs(self, node: Node) -> Iterator[Run]:
        """See FileSystem."""
        fork = self._inode(node.ref).data
        if fork.format == _LOCAL:
            yield Run(0, max(1, node.size_bytes), CODED)
            return
        yield from self.fork_runs(fork)

    def fork_runs(self, fork: Fork) -> Iterator[Run]:
        """Runs of a fork; unwritten ones are holes."""
        if fork.format == _EXTENTS:
            if fork.extent_count * 16 > len(fork.raw):
                raise Unreadable("an inode is damaged")
            yield from self._records(fork.raw[: fork.extent_count * 16])
        elif fork.format == _BTREE:
            level, count = struct.unpack_from(">HH", fork.raw)
            room = (len(fork.raw) - 4) // 16
            if not 0 < level <= _DEPTH_MAX or count > room:
                raise Unreadable("an inode is damaged")
            for (child,) in struct.iter_unpack(">Q", fork.raw[4 + 8 * room : 4 + 8 * (room + count)]):
                yield from self._tree_runs(child, level - 1)
        elif fork.format != _LOCAL:
            raise Unreadable("an inode is damaged")

    def _tree_runs(self, block: int, level: int) -> Iterator[Run]:
        raw = self.volume.read(self._byte_of(block), self.block_bytes)
        magic, found, count = struct.unpack_from(">4sHH", raw)
        header = 72 if self.is_version_5 else 24
        room = (len(raw) - header) // 16
        if magic not in (b"BMAP", b"BMA3") or found != level or count > room:
            raise Unreadable("a tree of extents is damaged")
        if not level:
            yield from self._records(raw[header : header + 16 * count])
            return
        pointers = header + 8 * room
        for (child,) in struct.iter_unpack(">Q", raw[pointers : pointers + 8 * count]):
            yield from self._tree_runs(child, level - 1)

    def _records(self, raw: bytes) -> Iterator[Run]:
        for high, low in struct.iter_unpack(">QQ", raw):
            offset = (high >> 9 & (1 << 54) - 1) * self.block_bytes
            length = (low & 0x1FFFFF) * self.block_bytes
            is_unwritten = bool(high >> 63)
            place = HOLE if is_unwritten else self._byte_of((high & 0x1FF) << 43 | low >> 21)
            yield Run(offset, length, place)

    def read_coded(self, node: Node, offset: int, length: int) -> bytes:
        """See FileSystem: content within the inode."""
        return self._inode(node.ref).data.raw[offset : offset + length]

    def link_target(self, node: Node) -> bytes:
        """See FileSystem: blocks of version 5 have a header each."""
        fork = self._inode(node.ref).data
        if fork.format == _LOCAL or not self.is_version_5:
            return super().link_target(node)
        if node.size_bytes > LINK_BYTES_MAX:
            raise Unreadable("a symbolic link of impossible length")
        target = b""
        for run in self.fork_runs(fork):
            raw = self.volume.read(run.place, min(run.length, 2 * LINK_BYTES_MAX))
            magic, _, count = struct.unpack_from(">4sII", raw)
            if magic != b"XSLM":
                raise Unreadable("a symbolic link is damaged")
            target += raw[_LINK_HEADER_BYTES : _LINK_HEADER_BYTES + count]
        return target[: node.size_bytes]

    def attributes(self, ref: int) -> list[tuple[bytes, bytes]]:
        """See FileSystem."""
        fork = self._inode(ref).attributes
        if fork is None:
            return []
        return attributes_of(fork.format == _LOCAL, fork.raw, list(self.fork_runs(fork)), self)

    # ---- directories ---------------------------------------------------------------------------------------

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """See FileSystem."""
        inode = self._inode(ref)
        if inode.node.kind != DIRECTORY:
            raise Unreadable(f"inode {ref} is no directory")
        if inode.data.format == _LOCAL:
            yield from self._short_names(inode.data.raw)
            return
        count = 0
        for block in self._directory_blocks(inode):
            for name, child in self._names(block):
                count += 1
                if count > DIRECTORY_NAMES_MAX:
                    raise Unreadable("a directory with more names than can be kept in mind")
                yield name, child

    def _directory_blocks(self, inode: _Inode) -> Iterator[bytes]:
        """Blocks of names. One may be made of several runs."""
        pending = b""
        at = 0
        for run in self.fork_runs(inode.data):
            if run.offset >= _LEAF_AT:
                return
            if run.place == HOLE:
                continue
            if run.offset != at:
                pending = b""
            for within in range(0, run.length, self.block_bytes):
                pending += self.volume.read(run.place + within, self.block_bytes)
                if len(pending) == self._directory_bytes:
                    yield pending
                    pending = b""
            at = run.offset + run.length

    def _names(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        end = len(block)
        if block[:4] in _BLOCK_MAGICS:
            end -= 8 + 8 * int(struct.unpack_from(">I", block, end - 8)[0])
        elif block[:4] not in _DATA_MAGICS:
            raise Unreadable("a directory is damaged")
        at = 64 if self.is_version_5 else 16
        while at + 8 < end:
            if block[at : at + 2] == b"\xff\xff":
                length = struct.unpack_from(">H", block, at + 2)[0]
                if length < 8:
                    raise Unreadable("a directory is damaged")
                at += length
                continue
            child, name_bytes = struct.unpack_from(">QB", block, at)
            name = block[at + 9 : at + 9 + name_bytes]
            if not name_bytes or at + 9 + name_bytes > end:
                raise Unreadable("a directory is damaged")
            if name not in (b".", b".."):
                yield name, child
            at += 9 + name_bytes + self._has_types + 2 + 7 & ~7

    def _short_names(self, raw: bytes) -> Iterator[tuple[bytes, int]]:
        count, wide = raw[0], raw[1]
        width = 8 if wide else 4
        at = 2 + width
        for _ in range(count):
            name_bytes = raw[at]
            name = raw[at + 3 : at + 3 + name_bytes]
            at += 3 + name_bytes + self._has_types
            if at + width > len(raw):
                raise Unreadable("a directory is damaged")
            yield name, int.from_bytes(raw[at : at + width], "big")
            at += width


def _time_ns(raw: bytes, is_big: bool) -> int:
    if is_big:
        return int.from_bytes(raw, "big") - _BIGTIME_EPOCH_SECONDS * 1_000_000_000
    seconds, ns = struct.unpack(">iI", raw)
    return int(seconds) * 1_000_000_000 + int(ns)
