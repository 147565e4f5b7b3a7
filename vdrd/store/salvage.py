"""Takes the whole records out of packs that are not whole, into new ones, and removes what is left then.
Knows nothing of points."""

import os
from typing import TYPE_CHECKING

from native.chunk import RECORD_HEADER_BYTES, Encoder
from native.crc32c import crc32c
from vdrd.formats.batch import encode_chunks
from vdrd.formats.index import PackRow
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind
from vdrd.store.packs import pack_name
from vdrd.store.walk import fetch_each, split_ids

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

_COPY_CHUNKS = 64
_HEADER_CRC_AT = 48


def mend_frames(storage: "Storage") -> int:
    """Write again what stands in packs whose header, table or trailer do not hold: it can still be read
    while the index knows where it is. Returns the bytes written; durable after the next flush.

    The old packs are left to collection: nothing needs them once the copies are indexed.
    """
    written = 0
    for number in storage.damage.framed_packs():
        row = storage.index.pack_rows().get(number)
        if row is not None and number not in storage.damage.mended:
            written += copy_whole(storage, number, row)
            storage.damage.mended.add(number)
    return written


def copy_whole(storage: "Storage", number: int, row: PackRow) -> int:
    """Write again the chunks that are read from this pack and can be; returns the bytes written."""
    storage.index.flush()  # a place in the index's table would outlive the copy's
    native = storage.index.native
    ids, places = native.pack_entries(number)
    if not ids:
        return 0
    answers = native.find(ids)
    wanted: dict[ChunkKind, list[bytes]] = {}
    path = storage.path / pack_name(row.pack_id)
    with path.open("rb") as file:
        for i, chunk_id in enumerate(split_ids(ids)):
            place = places[16 * i : 16 * i + 16]
            if answers[16 * i : 16 * i + 16] != place:
                continue  # another copy answers already
            kind = _kind_at(file.fileno(), int.from_bytes(place[4:8], "little"), chunk_id)
            if kind is not None:
                wanted.setdefault(kind, []).append(chunk_id)
    return sum(_copy(storage, chunk_ids, kind, row.domain) for kind, chunk_ids in wanted.items())


def drop_mended(storage: "Storage") -> int:
    """Remove packs with damage once everything that is read from them stands whole elsewhere; returns how
    many.

    Packs that something is still read from stay, and so do all while a point is locked or another process
    reads: collection removes them later.
    """
    removed = 0
    if storage.guard.names_in_force():
        return removed
    native = storage.index.native
    marked = {number for number, _, _ in native.damages()}
    for number, row in storage.index.pack_rows().items():
        if number not in marked:
            continue
        copy_whole(storage, number, row)
        storage.settle()
        ids, places = native.pack_entries(number)
        answers = native.find(ids)
        if any(answers[at : at + 16] == places[at : at + 16] for at in range(0, len(places), 16)):
            continue
        with storage.no_readers() as alone:
            if alone and storage.index.retire(number, ids):
                storage.directory.remove(pack_name(row.pack_id))
                removed += 1
    return removed


def _kind_at(fd: int, offset: int, chunk_id: bytes) -> ChunkKind | None:
    """What the header of a record says; None when it is none of this chunk's."""
    header = os.pread(fd, RECORD_HEADER_BYTES, offset)
    crc = header[_HEADER_CRC_AT : _HEADER_CRC_AT + 4]
    if len(header) < RECORD_HEADER_BYTES or crc != crc32c(header[:_HEADER_CRC_AT]).to_bytes(4, "little"):
        return None
    is_known = header[16 : 16 + CHUNK_ID_BYTES] == chunk_id and header[4] in list(ChunkKind)
    return ChunkKind(header[4]) if is_known else None


def _copy(storage: "Storage", ids: list[bytes], kind: ChunkKind, domain: int) -> int:
    encoder = Encoder(storage.info.compression_level)
    written = 0
    for at in range(0, len(ids), _COPY_CHUNKS):
        part = ids[at : at + _COPY_CHUNKS]
        plains = fetch_each(storage.reader_of(domain), part, lambda *_: None)
        whole = [(i, plain) for i, plain in zip(part, plains, strict=True) if plain is not None]
        if whole:
            joined = b"".join(chunk_id for chunk_id, _ in whole)
            batch = encode_chunks(encoder, joined, [plain for _, plain in whole], kind)
            written += storage.pool.put(batch, domain, again=True)
    return written
