"""Entries of a file tree as values: one path with everything a manifest keeps of it. No I/O."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum, IntFlag

from native.segment import ENTRY_FIXED_BYTES, HOLE, PIECE_BYTES
from vdrd.formats.manifest import Extent

FIXED = struct.Struct("<IHHBBHIIIQqqIIQIIIIIIII16s")
PIECE = struct.Struct("<32sQII")
_ATTRIBUTE = struct.Struct("<HI")
_NS = 1_000_000_000
_NO_ID = bytes(32)
_PATH, _EXTENTS = 2, 22
HASH_AT, HASH_BYTES = 96, 16
_FLAGS_AT = 9
_EXTENTS_AT = 92
_READ_STATES = (1, 2)
_LINK_STATE = 3
_LINK_AT, _LINK_BYTES = 56, 16


class EntryType(IntEnum):
    """What stands at a path."""

    REGULAR = 1
    DIRECTORY = 2
    SYMLINK = 3
    FIFO = 4
    SOCKET = 5
    CHARACTER = 6
    BLOCK = 7


class EntryFlag(IntFlag):
    """What a reader must know about an entry's content."""

    LIST = 1
    UNREADABLE = 2
    UNSTABLE = 4
    UNCROSSED = 8


@dataclass(frozen=True, slots=True)
class Entry:
    """One path of a tree. Times are nanoseconds since the epoch; owners are numbers (names are in the
    manifest's head).
    """

    path: bytes
    """Relative to the root of the tree, which is b''."""
    type: EntryType
    flags: EntryFlag
    mode: int
    """Permission bits, 0o7777."""
    uid: int
    gid: int
    inode_flags: int
    """As FS_IOC_GETFLAGS gives them; only those that can be set again."""
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    inode: int
    device: tuple[int, int]
    """Major and minor of the file system it stood on."""
    node_device: tuple[int, int]
    """Major and minor of a device node."""
    link_count: int
    target: bytes
    """Of a symbolic link."""
    attributes: tuple[tuple[bytes, bytes], ...]
    """Extended attributes, ACLs among them, by name."""
    extents: tuple[Extent, ...]
    """Content in order. With EntryFlag.LIST: the root of its content list, `offset_bytes` its level."""
    content_hash: bytes

    @property
    def name(self) -> bytes:
        """Last component of the path."""
        return self.path.rpartition(b"/")[2]

    @property
    def link_group(self) -> tuple[int, int, int] | None:
        """Same for all names of one file with several; None for what has one."""
        if self.link_count > 1 and self.type is not EntryType.DIRECTORY:
            return (*self.device, self.inode)
        return None


def parse_loose(block: bytes) -> Iterator[Entry]:
    """Entries of a block of loose records that the C core wrote."""
    at = 0
    while at < len(block):
        entry, record_bytes = _parse(block, at)
        yield entry
        at += record_bytes


def split_loose(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Path and bytes of each record of a block."""
    at = 0
    while at < len(block):
        record = record_at(block, at)
        fields = FIXED.unpack_from(record)
        path_at = ENTRY_FIXED_BYTES + fields[_EXTENTS] * PIECE_BYTES
        yield record[path_at : path_at + fields[_PATH]], record
        at += len(record)


def record_at(block: bytes | bytearray, at: int) -> bytes:
    """The record at an offset."""
    return bytes(block[at : at + int.from_bytes(block[at : at + 4], "little")])


def link_key(block: bytes, at: int) -> bytes:
    """Same for the records of all names of one file: inode and device."""
    return block[at + _LINK_AT : at + _LINK_AT + _LINK_BYTES]


def listed_offsets(block: bytes | bytearray) -> Iterator[int]:
    """Offsets of the records whose content stands in a content list, links that are marked as such
    excepted."""
    at = 0
    while at < len(block):
        if block[at + _FLAGS_AT] & EntryFlag.LIST and block[at + 4] != _LINK_STATE:
            yield at
        at += int.from_bytes(block[at : at + 4], "little")


def piece_offsets(batch: bytes) -> Iterator[int]:
    """Where the old piece of each record stands that is to be read and compared."""
    at = 0
    while at < len(batch):
        if batch[at + 4] in _READ_STATES and batch[at + _EXTENTS_AT]:
            yield at + ENTRY_FIXED_BYTES
        at += int.from_bytes(batch[at : at + 4], "little")


def _parse(block: bytes, at: int) -> tuple[Entry, int]:
    (
        record_bytes,
        _state,
        path_bytes,
        type_,
        flags,
        mode,
        uid,
        gid,
        inode_flags,
        size_bytes,
        mtime_s,
        ctime_s,
        mtime_ns,
        ctime_ns,
        inode,
        dev_major,
        dev_minor,
        rdev_major,
        rdev_minor,
        nlink,
        target_bytes,
        attribute_bytes,
        extent_count,
        content_hash,
    ) = FIXED.unpack_from(block, at)
    path_at = at + ENTRY_FIXED_BYTES + extent_count * PIECE_BYTES
    target_at = path_at + path_bytes
    attributes_at = target_at + target_bytes
    extents = tuple(
        Extent(None, 0, length) if offset == HOLE and chunk_id == _NO_ID else Extent(chunk_id, offset, length)
        for chunk_id, length, offset, _ in PIECE.iter_unpack(block[at + ENTRY_FIXED_BYTES : path_at])
    )
    entry = Entry(
        path=block[path_at:target_at],
        type=EntryType(type_),
        flags=EntryFlag(flags),
        mode=mode,
        uid=uid,
        gid=gid,
        inode_flags=inode_flags,
        size_bytes=size_bytes,
        mtime_ns=mtime_s * _NS + mtime_ns,
        ctime_ns=ctime_s * _NS + ctime_ns,
        inode=inode,
        device=(dev_major, dev_minor),
        node_device=(rdev_major, rdev_minor),
        link_count=nlink,
        target=block[target_at:attributes_at],
        attributes=parse_attributes(block[attributes_at : attributes_at + attribute_bytes]),
        extents=extents,
        content_hash=content_hash,
    )
    return entry, record_bytes


def parse_attributes(block: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """Names and values of an attribute block that was checked."""
    if not block:
        return ()
    attributes = []
    at = 0
    while at < len(block):
        name_bytes, value_bytes = _ATTRIBUTE.unpack_from(block, at)
        name_at = at + _ATTRIBUTE.size
        value_at = name_at + name_bytes
        at = value_at + value_bytes
        attributes.append((block[name_at:value_at], block[value_at:at]))
    return tuple(attributes)


def pack_pieces(extents: list[Extent]) -> bytes:
    """Extents as the C core's pieces."""
    return b"".join(
        PIECE.pack(_NO_ID, extent.length_bytes, HOLE, 0)
        if extent.chunk_id is None
        else PIECE.pack(extent.chunk_id, extent.length_bytes, extent.offset_bytes, 0)
        for extent in extents
    )
