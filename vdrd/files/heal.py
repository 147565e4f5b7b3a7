"""Makes damaged chunks of an earlier point again out of the files they were made of.

A chunk holds runs of files; where those files still have the same content, reading them gives the chunk back,
and with it every point that shares it. Its id proves it, so nothing here has to be believed. Must not know
where chunks are kept.
"""

import os
from array import array
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

from native import blake3
from native.segment import loose_entries
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.content import extents_of
from vdrd.files.entry import Entry, EntryFlag, EntryType, parse_loose
from vdrd.files.tree import TreeReader
from vdrd.formats import manifest
from vdrd.model.chunks import CHUNK_BYTES_MAX, CHUNK_ID_BYTES, ChunkKind, ChunkSink, ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.points import FilesRoot


class Piece(NamedTuple):
    """A run of a chunk that is a run of a file."""

    chunk_offset: int
    length_bytes: int
    path: bytes
    file_offset: int


ReadPiece = Callable[[bytes, int, int], bytes | None]
"""Bytes of a file by path, offset and length; None, or fewer, where it has them no more."""


def pieces_of(
    root: FilesRoot, source: ChunkSource, wanted: frozenset[bytes]
) -> tuple[dict[bytes, list[Piece]], bool]:
    """Where the bytes of these data chunks stand in the files of a point, and whether all of it could be
    read."""
    pieces: dict[bytes, list[Piece]] = {}
    is_whole = True
    try:
        for segment in TreeReader(root, source).segments_from(b""):
            if not _may_name(segment, wanted):
                continue
            for entry in _regular_entries(segment):
                is_whole &= _add_pieces(entry, source, wanted, pieces)
    except Damaged:
        is_whole = False
    return pieces, is_whole


def _may_name(segment: bytes, wanted: frozenset[bytes]) -> bool:
    named = manifest.references(segment)
    if named.segments or named.nodes:  # content lists: what they name shows only in them
        return True
    ids = named.data
    return any(ids[at : at + CHUNK_ID_BYTES] in wanted for at in range(0, len(ids), CHUNK_ID_BYTES))


def _regular_entries(segment: bytes) -> Iterator[Entry]:
    for block in loose_entries(segment):
        for entry in parse_loose(block):
            if entry.type is EntryType.REGULAR and EntryFlag.UNREADABLE not in entry.flags:
                yield entry


def _add_pieces(
    entry: Entry, source: ChunkSource, wanted: frozenset[bytes], pieces: dict[bytes, list[Piece]]
) -> bool:
    at = 0
    try:
        for extent in extents_of(entry, source):
            if extent.chunk_id in wanted:
                piece = Piece(extent.offset_bytes, extent.length_bytes, entry.path, at)
                pieces.setdefault(extent.chunk_id, []).append(piece)
            at += extent.length_bytes
    except Damaged:
        return False
    return True


def chunk_of(pieces: list[Piece], read: ReadPiece) -> bytes:
    """The chunk so far as its pieces follow each other from its beginning and can be read."""
    plain = bytearray()
    for piece in sorted(pieces):
        skipped = len(plain) - piece.chunk_offset
        if skipped < 0 or len(plain) > CHUNK_BYTES_MAX:
            break
        if skipped >= piece.length_bytes:
            continue  # another file with the same content had it
        data = read(piece.path, piece.file_offset + skipped, piece.length_bytes - skipped)
        if data is None:
            continue
        plain += data
    return bytes(plain)


def heal(
    root: FilesRoot, source: ChunkSource, sink: ChunkSink, wanted: frozenset[bytes], read: ReadPiece
) -> frozenset[bytes]:
    """Put those of the `wanted` chunks of a point that its files still give; returns the others."""
    if not wanted:
        return wanted
    pieces, _ = pieces_of(root, source, wanted)
    writer = ChunkWriter(sink, WrittenCounts())
    key = sink.keys.id_keys[ChunkKind.DATA]
    left = set(wanted)
    for chunk_id, parts in pieces.items():
        plain = chunk_of(parts, read)
        if plain and blake3.keyed(key, plain) == chunk_id:
            writer.write(ChunkKind.DATA, plain, array("Q", [0]), array("I", [len(plain)]))
            left.discard(chunk_id)
    return frozenset(left)


def reader_below(root_fd: int) -> ReadPiece:
    """Reads regular files below a directory; symbolic links are not followed out of it."""

    def read(path: bytes, offset: int, length_bytes: int) -> bytes | None:
        with suppress(OSError):
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root_fd)
            try:
                return os.pread(fd, length_bytes, offset)
            finally:
                os.close(fd)
        return None

    return read
