"""ext2, ext3 and ext4 (format: the kernel's Documentation/filesystems/ext4)."""

import struct
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from vdrd.disk.volumes import acl
from vdrd.disk.volumes.ext_journal import ReplayedVolume, replayed
from vdrd.disk.volumes.file_system import (
    CODED,
    DIRECTORY_NAMES_MAX,
    FILE,
    HOLE,
    KIND_OF_MODE,
    SYMLINK,
    FileSystem,
    Node,
    Run,
)
from vdrd.disk.volumes.ranges import Range, Unreadable

SUPER_AT, SUPER_BYTES = 1024, 1024
_MAGIC = 0xEF53
_ROOT, _JOURNAL = 2, 8
_HAS_JOURNAL, _SPARSE_SUPER, _SPARSE_SUPER_2 = 0x4, 0x1, 0x200
_EXTENTS_FEATURE, _JOURNAL_DEVICE, _RECOVER, _META_BG, _WIDE = 0x40, 0x8, 0x4, 0x10, 0x80
_KNOWN_INCOMPATIBLE = (
    0x2 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x200 | 0x400 | 0x2000 | 0x4000 | 0x8000 | 0x30000
)
_EXTENTS, _INLINE, _ENCRYPTED = 0x80000, 0x10000000, 0x800
_EXTENT_MAGIC = 0xF30A
_EXTENT_DEPTH_MAX = 5
_ATTRIBUTE_MAGIC = 0xEA020000
_PREFIXES = {1: b"user.", 2: acl.ACCESS, 3: acl.DEFAULT, 4: b"trusted.", 6: b"security.", 7: b"system."}
_INLINE_DATA = b"system.data"
_ATTRIBUTE_BYTES_MAX = 1 << 18
_INODE = struct.Struct("<HHIIIIIHHIII60sIIIIHHHH")
_FIRST_BYTES = 128


class _Inode(NamedTuple):
    mode: int
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    links: int
    flags: int
    block: bytes
    acl_block: int
    raw: bytes


class Ext(FileSystem):
    """One file system of the family. `ref` is the inode number."""

    root_ref = _ROOT

    def __init__(self, volume: Range) -> None:
        super().__init__(volume)
        raw = volume.read(SUPER_AT, SUPER_BYTES)
        self._inode_count = struct.unpack_from("<I", raw)[0]
        self._first_block, block_log = struct.unpack_from("<II", raw, 20)
        self._group_blocks, _, self._group_inodes = struct.unpack_from("<III", raw, 32)
        revision = struct.unpack_from("<I", raw, 76)[0]
        self._inode_bytes = struct.unpack_from("<H", raw, 88)[0] if revision else _FIRST_BYTES
        compatible, self._incompatible, self._read_only = struct.unpack_from("<III", raw, 92)
        self._is_sparse_2 = bool(compatible & _SPARSE_SUPER_2)
        self._first_meta_group = struct.unpack_from("<I", raw, 260)[0]
        self._backup_groups = struct.unpack_from("<II", raw, 588)
        is_wide = bool(self._incompatible & _WIDE)
        self._descriptor_bytes = (struct.unpack_from("<H", raw, 254)[0] or 32) if is_wide else 32
        unknown = self._incompatible & ~_KNOWN_INCOMPATIBLE
        if self._incompatible & _JOURNAL_DEVICE:
            raise Unreadable("it is the journal of another file system")
        if unknown:
            raise Unreadable(f"it uses features of ext4 that are not known here (0x{unknown:x})")
        if block_log > 6 or not self._group_blocks or not self._group_inodes:
            raise Unreadable("its superblock is damaged")
        if not _FIRST_BYTES <= self._inode_bytes <= 4096 or not 32 <= self._descriptor_bytes <= 1024:
            raise Unreadable("its superblock is damaged")
        self._block_bytes: int = 1024 << block_log
        self.name = "ext4" if self._incompatible & (_EXTENTS_FEATURE | _WIDE) else "ext3"
        if not compatible & _HAS_JOURNAL and self.name == "ext3":
            self.name = "ext2"
        self.label = raw[120:136].rstrip(b"\0").decode("utf-8", "backslashreplace")
        self.uuid = str(UUID(bytes=raw[104:120]))
        self._replay(compatible)

    @staticmethod
    def is_here(volume: Range) -> bool:
        """True if the magic stands there."""
        return volume.size_bytes >= 4096 and volume.read(SUPER_AT + 56, 2) == _MAGIC.to_bytes(2, "little")

    def _replay(self, compatible: int) -> None:
        """Show the file system as its journal would make it: a disk of a running machine was never
        unmounted."""
        if not (self._incompatible & _RECOVER and compatible & _HAS_JOURNAL):
            return
        try:
            journal = self.node(_JOURNAL)
            blocks = replayed(
                lambda at, length: self.read(journal, at, length), journal.size_bytes, self._block_bytes
            )
        except (Unreadable, struct.error, ValueError, IndexError):
            self.is_unclean = True
            return
        self._kept = None
        self.volume = ReplayedVolume(self.volume, blocks, self._block_bytes)

    # ---- inodes --------------------------------------------------------------------------------------------

    def _table_at(self, group: int) -> int:
        per_block = self._block_bytes // self._descriptor_bytes
        part, index = divmod(group, per_block)
        if self._incompatible & _META_BG and part >= self._first_meta_group:
            first_group = part * per_block
            block = self._first_block + first_group * self._group_blocks + self._has_super(first_group)
        else:
            block = self._first_block + 1 + part
        raw = self.volume.read(
            block * self._block_bytes + index * self._descriptor_bytes, self._descriptor_bytes
        )
        low: int = struct.unpack_from("<I", raw, 8)[0]
        high: int = struct.unpack_from("<I", raw, 40)[0] if self._descriptor_bytes >= 64 else 0
        table = low | high << 32
        return table * self._block_bytes

    def _has_super(self, group: int) -> bool:
        if group == 0:
            return True
        if self._is_sparse_2:
            return group in self._backup_groups
        if group == 1 or not self._read_only & _SPARSE_SUPER:
            return True
        for base in (3, 5, 7):
            power = base
            while power < group:
                power *= base
            if power == group:
                return True
        return False

    def _inode(self, ref: int) -> _Inode:
        if not 1 <= ref <= self._inode_count:
            raise Unreadable(f"there is no inode {ref}")
        group, index = divmod(ref - 1, self._group_inodes)
        raw = self.volume.read(self._table_at(group) + index * self._inode_bytes, self._inode_bytes)
        (
            mode, uid, size, _atime, ctime, mtime, _dtime, gid, links, _blocks, flags, _version, block,
            _generation, acl_low, size_high, _fragment, _blocks_high, acl_high, uid_high, gid_high,
        ) = _INODE.unpack_from(raw)  # fmt: skip
        extra = struct.unpack_from("<H", raw, 128)[0] if len(raw) > 130 else 0
        ctime_extra = struct.unpack_from("<I", raw, 132)[0] if extra >= 8 else 0
        mtime_extra = struct.unpack_from("<I", raw, 136)[0] if extra >= 12 else 0
        return _Inode(
            mode=mode,
            uid=uid | uid_high << 16,
            gid=gid | gid_high << 16,
            size_bytes=size | size_high << 32,
            mtime_ns=_time_ns(mtime, mtime_extra),
            ctime_ns=_time_ns(ctime, ctime_extra),
            links=links,
            flags=flags,
            block=block,
            acl_block=acl_low | acl_high << 32,
            raw=raw,
        )

    def node(self, ref: int) -> Node:
        """See FileSystem."""
        return self._node(ref, self._inode(ref))

    def _node(self, ref: int, inode: _Inode) -> Node:
        kind = KIND_OF_MODE.get(inode.mode >> 12)
        if kind is None:
            raise Unreadable(f"inode {ref} is no file")
        size = inode.size_bytes if kind in (FILE, SYMLINK) else 0
        device = (0, 0)
        if kind in (6, 7):
            old, new = struct.unpack_from("<II", inode.block)
            device = (
                (old >> 8 & 0xFF, old & 0xFF) if old else (new >> 8 & 0xFFF, new & 0xFF | new >> 12 & 0xFFF00)
            )
        return Node(
            ref, kind, inode.mode & 0o7777, inode.uid, inode.gid, size, inode.mtime_ns, inode.ctime_ns,
            inode.links, device,
        )  # fmt: skip

    # ---- content -------------------------------------------------------------------------------------------

    def content_runs(self, node: Node) -> Iterator[Run]:
        """See FileSystem."""
        return self._runs_of(self._inode(node.ref), node.size_bytes)

    def _runs_of(self, inode: _Inode, size_bytes: int) -> Iterator[Run]:
        if inode.flags & _ENCRYPTED and inode.mode >> 12 == 8:
            raise Unreadable("the file is encrypted")
        if inode.flags & _INLINE:
            yield Run(0, size_bytes, CODED) if size_bytes else Run(0, 1, HOLE)
        elif inode.flags & _EXTENTS:
            yield from self._extent_runs(inode.block, _EXTENT_DEPTH_MAX)
        elif inode.mode >> 12 == 10 and size_bytes < 60:
            yield Run(0, size_bytes, CODED) if size_bytes else Run(0, 1, HOLE)
        else:
            yield from self._indirect_runs(inode.block, size_bytes)

    def _extent_runs(self, raw: bytes, depth_max: int) -> Iterator[Run]:
        magic, entries, _, depth = struct.unpack_from("<HHHH", raw)
        if magic != _EXTENT_MAGIC or depth > depth_max or 12 + 12 * entries > len(raw):
            raise Unreadable("an extent tree is damaged")
        for i in range(entries):
            if depth:
                _, low, high = struct.unpack_from("<IIH", raw, 12 + 12 * i)
                block = self.volume.read((low | high << 32) * self._block_bytes, self._block_bytes)
                yield from self._extent_runs(block, depth - 1)
            else:
                first, length, high, low = struct.unpack_from("<IHHI", raw, 12 + 12 * i)
                is_unwritten = length > 32768
                length -= 32768 * is_unwritten
                place = HOLE if is_unwritten else (low | high << 32) * self._block_bytes
                yield Run(first * self._block_bytes, length * self._block_bytes, place)

    def _indirect_runs(self, raw: bytes, size_bytes: int) -> Iterator[Run]:
        count = -(-size_bytes // self._block_bytes)
        numbers = struct.unpack("<15I", raw)
        for i in range(12):
            if numbers[i]:
                yield Run(i * self._block_bytes, self._block_bytes, numbers[i] * self._block_bytes)
        at = 12
        for level, number in enumerate(numbers[12:], 1):
            if at >= count:
                return
            yield from self._indirect(number, level, at, count)
            at += (self._block_bytes // 4) ** level

    def _indirect(self, number: int, level: int, at: int, count: int) -> Iterator[Run]:
        if not number:
            return
        step = (self._block_bytes // 4) ** (level - 1)
        raw = self.volume.read(number * self._block_bytes, self._block_bytes)
        for (child,) in struct.iter_unpack("<I", raw):
            if at >= count:
                return
            if child and level > 1:
                yield from self._indirect(child, level - 1, at, count)
            elif child:
                yield Run(at * self._block_bytes, self._block_bytes, child * self._block_bytes)
            at += step

    def read_coded(self, node: Node, offset: int, length: int) -> bytes:
        """See FileSystem: content within the inode."""
        return self._inline(self._inode(node.ref))[offset : offset + length]

    def _inline(self, inode: _Inode) -> bytes:
        if not inode.flags & _INLINE:
            return inode.block
        more = dict(self._own_attributes(inode)).get(_INLINE_DATA, b"")
        return inode.block + more

    # ---- directories ---------------------------------------------------------------------------------------

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """See FileSystem."""
        inode = self._inode(ref)
        if inode.mode >> 12 != 4:
            raise Unreadable(f"inode {ref} is no directory")
        count = 0
        for block in self._directory_blocks(inode):
            for name, child in self._names(block):
                count += 1
                if count > DIRECTORY_NAMES_MAX:
                    raise Unreadable("a directory with more names than can be kept in mind")
                yield name, child

    def _directory_blocks(self, inode: _Inode) -> Iterator[bytes]:
        if inode.flags & _INLINE:
            yield inode.block[4:]
            yield self._inline(inode)[60:]
            return
        for run in self._runs_of(inode, inode.size_bytes):
            if run.place == HOLE:
                continue
            for at in range(0, min(run.length, inode.size_bytes - run.offset), self._block_bytes):
                yield self.volume.read(run.place + at, self._block_bytes)

    def _names(self, block: bytes) -> Iterator[tuple[bytes, int]]:
        at = 0
        while at + 8 <= len(block):
            child, length, name_bytes = struct.unpack_from("<IHB", block, at)
            if length in (0, 0xFFFF) and len(block) == 1 << 16:
                length = len(block)
            if length < 8 or length % 4 or 8 + name_bytes > length or at + length > len(block):
                raise Unreadable("a directory is damaged")
            name = block[at + 8 : at + 8 + name_bytes]
            if child and name_bytes and name not in (b".", b".."):
                yield name, child
            at += length

    # ---- attributes ----------------------------------------------------------------------------------------

    def attributes(self, ref: int) -> list[tuple[bytes, bytes]]:
        """See FileSystem."""
        inode = self._inode(ref)
        found = [pair for pair in self._own_attributes(inode) if pair[0] != _INLINE_DATA]
        if inode.acl_block:
            raw = self.volume.read(inode.acl_block * self._block_bytes, self._block_bytes)
            if struct.unpack_from("<I", raw)[0] != _ATTRIBUTE_MAGIC:
                raise Unreadable("a block of attributes is damaged")
            found += self._attributes_in(raw, 32, 0)
        return found

    def _own_attributes(self, inode: _Inode) -> list[tuple[bytes, bytes]]:
        raw = inode.raw
        if len(raw) < _FIRST_BYTES + 4:
            return []
        at = _FIRST_BYTES + int(struct.unpack_from("<H", raw, _FIRST_BYTES)[0])
        if at + 8 > len(raw) or struct.unpack_from("<I", raw, at)[0] != _ATTRIBUTE_MAGIC:
            return []
        return list(self._attributes_in(raw, at + 4, at + 4))

    def _attributes_in(self, raw: bytes, at: int, values_at: int) -> Iterator[tuple[bytes, bytes]]:
        while at + 16 <= len(raw) and raw[at : at + 4] != bytes(4):
            name_bytes, prefix, offset, value_inode, value_bytes = struct.unpack_from("<BBHII", raw, at)
            name = _PREFIXES.get(prefix, b"") + raw[at + 16 : at + 16 + name_bytes]
            at += 16 + (name_bytes + 3 & ~3)
            if value_bytes > _ATTRIBUTE_BYTES_MAX:
                raise Unreadable("an attribute of impossible length")
            if value_inode:
                holder = self._inode(value_inode)
                value = self.read(self._node(value_inode, holder), 0, value_bytes)
            else:
                value = raw[values_at + offset : values_at + offset + value_bytes]
            if len(value) != value_bytes:
                raise Unreadable("an attribute is damaged")
            yield name, acl.from_ext(value) if prefix in (2, 3) else value


def _time_ns(seconds: int, extra: int) -> int:
    signed = seconds - (1 << 32) if seconds & 0x80000000 else seconds
    return (signed + ((extra & 3) << 32)) * 1_000_000_000 + (extra >> 2)
