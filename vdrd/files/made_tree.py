"""A file point made in memory, of files that stand elsewhere: what restores from is the same as for a stored
one.

Owns the manifest's chunks, and ids that name content by where it stands instead of by what it is. Must not
know where
that is: a function reads it. Nothing is written to any storage.
"""

import hashlib
import secrets
import struct
from collections.abc import Callable, Iterable

import zstandard

from native.segment import ENTRY_FIXED_BYTES, PIECE_BYTES
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.content import ListWriter
from vdrd.files.entry import FIXED, Entry, EntryFlag, pack_pieces
from vdrd.files.tree import TreeWriter, cut_seed
from vdrd.formats.manifest import Extent
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKeys, ChunkKind, EncodedBatch
from vdrd.model.errors import Damaged
from vdrd.model.points import FilesRoot

PIECE_BYTES_MAX = 256 << 10
"""Content per id: as long as the longest chunk of a large file in a storage."""
_APPEND_BYTES = 1 << 20
_NS = 1_000_000_000
_PLACE = struct.Struct("<BxHIQQ")
_MARK_BYTES = CHUNK_ID_BYTES - _PLACE.size
_RECORD = struct.Struct("<IIBBH")
_ATTRIBUTE = struct.Struct("<HI")

Place = tuple[int, int, int, int, int]
"""Kind (1 to 255), number, length, and two offsets: what the function that reads content is given."""


class MadeTree:
    """Takes entries in path order, then is a `ChunkSource` of a file point. Entries by one thread, then
    any."""

    def __init__(self, read: Callable[[Place], bytes]) -> None:
        self._read = read
        self._key = secrets.token_bytes(32)
        self._keys = ChunkKeys(
            id_keys={kind: hashlib.blake2s(bytes([kind]), key=self._key).digest() for kind in ChunkKind},
            cut_key=hashlib.blake2s(b"cut", key=self._key).digest(),
        )
        self._chunks: dict[bytes, bytes] = {}
        self._writer = ChunkWriter(self, WrittenCounts())
        self._tree = TreeWriter(self._writer, cut_seed(self._keys.cut_key))
        self._pending = bytearray()
        self._logical_bytes = 0

    # ---- entries -------------------------------------------------------------------------------------------

    def add(self, entry: Entry, runs: Iterable[tuple[int, Place | None]] = ()) -> None:
        """The next entry; its content as (length, place) with None for holes. Paths ascend
        (docs/formats/manifest.md)."""
        content = ListWriter(self._writer)
        for length, place in runs:
            if place is None:
                content.add(Extent(None, 0, length))
                continue
            kind, number, _, offset, more = place
            for at in range(0, length, PIECE_BYTES_MAX):
                count = min(PIECE_BYTES_MAX, length - at)
                content.add(Extent(self._id((kind, number, count, offset + at, more)), 0, count))
        written = content.finish(entry.size_bytes)
        flags = entry.flags | EntryFlag.LIST if written.is_list else entry.flags
        self._pending += _loose(entry, flags, written.extents)
        self._logical_bytes += entry.size_bytes
        if len(self._pending) >= _APPEND_BYTES:
            self._flush()

    def finish(self) -> FilesRoot:
        """The root of the point. There must have been an entry."""
        self._flush()
        return self._tree.finish(logical_bytes=self._logical_bytes, users={}, groups={})

    def _flush(self) -> None:
        self._tree.append(bytes(self._pending))
        self._pending.clear()

    def _id(self, place: Place) -> bytes:
        packed = _PLACE.pack(*place)
        return packed + self._mark(packed)

    def _mark(self, packed: bytes) -> bytes:
        return hashlib.blake2s(packed, key=self._key, digest_size=_MARK_BYTES).digest()

    # ---- as a ChunkSink, for the manifest --------------------------------------------------------------

    @property
    def keys(self) -> ChunkKeys:
        """See ChunkSink: keys of this tree alone."""
        return self._keys

    @property
    def compression_level(self) -> int | None:
        """See ChunkSink."""
        return 1

    def claim(self, ids: bytes) -> bytes:
        """See ChunkSink."""
        return bytes(
            ids[at : at + CHUNK_ID_BYTES] not in self._chunks for at in range(0, len(ids), CHUNK_ID_BYTES)
        )

    def put(self, batch: EncodedBatch) -> None:
        """See ChunkSink."""
        at = 0
        payload = memoryview(batch.payload)
        for i, (plain_bytes, encoded_bytes, codec, _, _) in enumerate(_RECORD.iter_unpack(batch.table)):
            chunk_id = batch.ids[i * CHUNK_ID_BYTES : (i + 1) * CHUNK_ID_BYTES]
            self._chunks[chunk_id] = (
                _RECORD.pack(plain_bytes, 0, codec, 0, 0) + payload[at : at + encoded_bytes]
            )
            at += encoded_bytes

    # ---- as a ChunkSource ------------------------------------------------------------------------------

    def fetch(self, ids: bytes) -> list[bytes]:
        """See ChunkSource. Ids that this tree did not make are Damaged; reading content raises what it
        raises."""
        return [self._fetch(ids[at : at + CHUNK_ID_BYTES]) for at in range(0, len(ids), CHUNK_ID_BYTES)]

    def _fetch(self, chunk_id: bytes) -> bytes:
        kept = self._chunks.get(chunk_id)
        if kept is not None:
            plain_bytes, _, codec, _, _ = _RECORD.unpack_from(kept)
            encoded = kept[_RECORD.size :]
            return zstandard.decompress(encoded, max_output_size=plain_bytes) if codec else encoded
        packed = chunk_id[: _PLACE.size]
        if not secrets.compare_digest(chunk_id[_PLACE.size :], self._mark(packed)):
            raise Damaged(what=f"chunk {chunk_id.hex()}", reason="it is missing")
        place: Place = _PLACE.unpack(packed)
        return self._read(place)


def _loose(entry: Entry, flags: EntryFlag, extents: list[Extent]) -> bytes:
    pieces = pack_pieces(extents)
    attributes = b"".join(
        _ATTRIBUTE.pack(len(name), len(value)) + name + value for name, value in sorted(entry.attributes)
    )
    body = pieces + entry.path + entry.target + attributes
    record_bytes = ENTRY_FIXED_BYTES + len(body) + 7 & ~7
    fixed = FIXED.pack(
        record_bytes,
        0,
        len(entry.path),
        entry.type,
        flags,
        entry.mode,
        entry.uid,
        entry.gid,
        entry.inode_flags,
        entry.size_bytes,
        entry.mtime_ns // _NS,
        entry.ctime_ns // _NS,
        entry.mtime_ns % _NS,
        entry.ctime_ns % _NS,
        entry.inode,
        *entry.device,
        *entry.node_device,
        entry.link_count,
        len(entry.target),
        len(attributes),
        len(pieces) // PIECE_BYTES,
        entry.content_hash,
    )
    return (fixed + body).ljust(record_bytes, b"\0")
