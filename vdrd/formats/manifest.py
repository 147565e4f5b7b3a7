"""Chunks of a file tree's manifest as bytes and back: header, nodes, content lists, head
(`docs/formats/manifest.md`).

Pure and bounded. Owns the layout above the segments; the entries inside a segment are the C core's
(`native/csrc/entry.h`). Must not know where chunks are kept.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgpack

from vdrd.model.chunks import CHUNK_BYTES_MAX, CHUNK_ID_BYTES
from vdrd.model.errors import Damaged, StorageNewer

VERSION = 1
HEADER = struct.Struct("<4sBBHIIIIII")
SEGMENT_MAGIC = b"VMSG"
NODE_MAGIC = b"VMND"
LIST_MAGIC = b"VMCL"
HEAD_MAGIC = b"VMHD"
LEVELS_MAX = 15
HEAD_BODY_BYTES_MAX = 1 << 20
_CHILD = struct.Struct("<QHH")
_EXTENT = struct.Struct("<IIQ")
_LENGTH = struct.Struct("<Q")
HOLE = 0x7FFFFFFF


class Header(NamedTuple):
    """What every chunk of a manifest begins with."""

    magic: bytes
    version: int
    level: int
    reserved: int
    item_count: int
    data_ids: int
    segment_ids: int
    node_ids: int
    body_bytes: int
    reserved2: int

    @property
    def id_count(self) -> int:
        """Ids named in the chunk's table."""
        return self.data_ids + self.segment_ids + self.node_ids


@dataclass(frozen=True, slots=True)
class References:
    """Chunks that a manifest chunk names, by kind; 32 bytes an id."""

    data: bytes
    segments: bytes
    nodes: bytes


@dataclass(frozen=True, slots=True)
class Child:
    """A child of a node: all entries up to and including `last_path`."""

    chunk_id: bytes
    entry_count: int
    last_path: bytes


@dataclass(frozen=True, slots=True)
class Extent:
    """A run of a file's content. `chunk_id` is None for a hole."""

    chunk_id: bytes | None
    offset_bytes: int
    length_bytes: int


@dataclass(frozen=True, slots=True)
class Head:
    """Root record of a manifest. `tree_id` is a segment's id when `levels` is 0, else a node's."""

    tree_id: bytes
    levels: int
    entry_count: int
    logical_bytes: int
    users: dict[int, str] = field(default_factory=dict)
    """Names of the owners, as they were called on the host. The numbers are what a restore sets."""
    groups: dict[int, str] = field(default_factory=dict)


def damaged(reason: str) -> Damaged:
    """The error of every parser here."""
    return Damaged(what="file manifest", reason=reason)


def parse_header(plain: bytes) -> Header:
    """Check framing: magic, version, and that ids and body fill the chunk."""
    if not HEADER.size <= len(plain) <= CHUNK_BYTES_MAX:
        raise damaged("chunk of a wrong length")
    header = Header._make(HEADER.unpack_from(plain))
    if header.magic not in (SEGMENT_MAGIC, NODE_MAGIC, LIST_MAGIC, HEAD_MAGIC):
        raise damaged("unknown magic")
    if header.version > VERSION:
        raise StorageNewer(path="(file manifest)", found=header.version, supported=VERSION)
    if header.version != VERSION or header.reserved or header.reserved2 or header.level > LEVELS_MAX:
        raise damaged("header out of range")
    if HEADER.size + CHUNK_ID_BYTES * header.id_count + header.body_bytes != len(plain):
        raise damaged("lengths do not add up")
    return header


def references(plain: bytes) -> References:
    """Ids that any manifest chunk names. Enough to mark or copy a tree without reading its entries."""
    header = parse_header(plain)
    first = HEADER.size
    second = first + CHUNK_ID_BYTES * header.data_ids
    third = second + CHUNK_ID_BYTES * header.segment_ids
    return References(
        plain[first:second], plain[second:third], plain[third : third + CHUNK_ID_BYTES * header.node_ids]
    )


def _expect(plain: bytes, magic: bytes) -> tuple[Header, list[bytes], bytes]:
    header = parse_header(plain)
    if header.magic != magic:
        raise damaged(f"{header.magic.decode()} where {magic.decode()} belongs")
    body_at = HEADER.size + CHUNK_ID_BYTES * header.id_count
    ids = [plain[at : at + CHUNK_ID_BYTES] for at in range(HEADER.size, body_at, CHUNK_ID_BYTES)]
    return header, ids, plain[body_at:]


def _write(magic: bytes, level: int, count: int, ids: tuple[bytes, bytes, bytes], body: bytes) -> bytes:
    sizes = [len(group) // CHUNK_ID_BYTES for group in ids]
    return HEADER.pack(magic, VERSION, level, 0, count, *sizes, len(body), 0) + b"".join(ids) + body


def path_key(path: bytes) -> bytes:
    """Sort key of a path: component order, '/' before every other byte."""
    return path.replace(b"/", b"\0")


def write_node(level: int, children: Sequence[Child]) -> bytes:
    """A node of the tree; children of level 1 are segments, above they are nodes."""
    ids = b"".join(child.chunk_id for child in children)
    body = b"".join(_CHILD.pack(c.entry_count, len(c.last_path), 0) + c.last_path for c in children)
    groups = (b"", ids, b"") if level == 1 else (b"", b"", ids)
    return _write(NODE_MAGIC, level, len(children), groups, body)


def parse_node(plain: bytes, level: int) -> list[Child]:
    """Children of the node expected at `level`."""
    header, ids, body = _expect(plain, NODE_MAGIC)
    wanted = header.segment_ids if level == 1 else header.node_ids
    if header.level != level or level == 0 or not wanted == header.item_count == header.id_count or not ids:
        raise damaged("node of a wrong level or count")
    children = []
    at = 0
    last = None
    for chunk_id in ids:
        if len(body) - at < _CHILD.size:
            raise damaged("node cut short")
        entry_count, path_bytes, reserved = _CHILD.unpack_from(body, at)
        at += _CHILD.size
        path = body[at : at + path_bytes]
        at += path_bytes
        key = path_key(path)
        if reserved or len(path) != path_bytes or not entry_count or (last is not None and key <= last):
            raise damaged("node with a wrong child")
        last = key
        children.append(Child(chunk_id, entry_count, path))
    if at != len(body):
        raise damaged("node with bytes left over")
    return children


def write_list_leaf(extents: Sequence[Extent]) -> bytes:
    """A leaf of a large file's content list."""
    numbers: dict[bytes, int] = {}
    body = bytearray()
    for extent in extents:
        if extent.chunk_id is None:
            body += _EXTENT.pack(HOLE, HOLE, extent.length_bytes)
        else:
            number = numbers.setdefault(extent.chunk_id, len(numbers))
            body += _EXTENT.pack(number, extent.offset_bytes, extent.length_bytes)
    return _write(LIST_MAGIC, 0, len(extents), (b"".join(numbers), b"", b""), bytes(body))


def parse_list_leaf(plain: bytes) -> list[Extent]:
    """Extents of a content list's leaf, in file order."""
    header, ids, body = _expect(plain, LIST_MAGIC)
    if (
        header.level != 0
        or header.data_ids != header.id_count
        or len(body) != _EXTENT.size * header.item_count
    ):
        raise damaged("content list leaf with a wrong count")
    extents = []
    for number, offset_bytes, length_bytes in _EXTENT.iter_unpack(body):
        if length_bytes == 0 or length_bytes >= 1 << 63:
            raise damaged("content list with a wrong length")
        if number == HOLE:
            if offset_bytes != HOLE:
                raise damaged("content list with a wrong hole")
            extents.append(Extent(None, 0, length_bytes))
            continue
        if number >= len(ids) or offset_bytes + length_bytes > CHUNK_BYTES_MAX:
            raise damaged("content list beyond its chunks")
        extents.append(Extent(ids[number], offset_bytes, length_bytes))
    return extents


def write_list_node(level: int, children: Sequence[tuple[bytes, int]]) -> bytes:
    """A node of a content list: (id, bytes of content beneath) for each child."""
    ids = b"".join(chunk_id for chunk_id, _ in children)
    groups = (b"", ids, b"") if level == 1 else (b"", b"", ids)
    body = b"".join(_LENGTH.pack(length_bytes) for _, length_bytes in children)
    return _write(LIST_MAGIC, level, len(children), groups, body)


def parse_list_node(plain: bytes, level: int) -> list[tuple[bytes, int]]:
    """Children of a content list's node expected at `level`."""
    header, ids, body = _expect(plain, LIST_MAGIC)
    wanted = header.segment_ids if level == 1 else header.node_ids
    if header.level != level or level == 0 or not wanted == header.item_count == header.id_count or not ids:
        raise damaged("content list node of a wrong level or count")
    if len(body) != _LENGTH.size * len(ids):
        raise damaged("content list node with a wrong length")
    lengths = [length for (length,) in _LENGTH.iter_unpack(body)]
    if any(not 0 < length < 1 << 63 for length in lengths):
        raise damaged("content list node with a wrong length")
    return list(zip(ids, lengths, strict=True))


def write_head(head: Head) -> bytes:
    """The root record. The same tree writes the same bytes: it holds no times."""
    fields = {
        "entries": head.entry_count,
        "bytes": head.logical_bytes,
        "users": dict(sorted(head.users.items())),
        "groups": dict(sorted(head.groups.items())),
    }
    groups = (b"", head.tree_id, b"") if head.levels == 0 else (b"", b"", head.tree_id)
    return _write(HEAD_MAGIC, head.levels, 1, groups, msgpack.packb(fields))


def parse_head(plain: bytes) -> Head:
    """The root record, checked. Unknown fields are passed over."""
    header, ids, body = _expect(plain, HEAD_MAGIC)
    wanted = header.segment_ids if header.level == 0 else header.node_ids
    if not wanted == header.item_count == header.id_count == 1 or len(body) > HEAD_BODY_BYTES_MAX:
        raise damaged("head of a wrong shape")
    try:
        fields = msgpack.unpackb(body, strict_map_key=False, max_ext_len=0)
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        raise damaged("head is not a map") from error
    if not isinstance(fields, dict):
        raise damaged("head is not a map")
    counts = [fields.get("entries"), fields.get("bytes")]
    if not all(isinstance(count, int) and 0 <= count < 1 << 63 for count in counts):
        raise damaged("head without its counts")
    return Head(
        tree_id=ids[0],
        levels=header.level,
        entry_count=int(counts[0] or 0),
        logical_bytes=int(counts[1] or 0),
        users=_names(fields.get("users")),
        groups=_names(fields.get("groups")),
    )


def _names(value: object) -> dict[int, str]:
    if not isinstance(value, dict):
        raise damaged("head without its owners")
    if not all(isinstance(k, int) and isinstance(v, str) and len(v) <= 256 for k, v in value.items()):
        raise damaged("head with a wrong owner")
    return dict(value)
