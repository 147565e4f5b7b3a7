"""Takes the whole records out of packs that are not whole, into new ones, and removes what is left then.
Knows nothing of points."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from native.chunk import RECORD_HEADER_BYTES, Encoder
from native.crc32c import crc32c
from vdrd.formats.batch import encode_chunks
from vdrd.formats.index import PackRow
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind
from vdrd.store.packs import PackPool, pack_name
from vdrd.store.walk import fetch_each, split_ids

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

_COPY_CHUNKS = 64
_HEADER_CRC_AT = 48


def mend_frames(storage: "Storage") -> int:
    """Write again what stands in packs whose header, table or trailer do not hold: it can still be read
    while the index knows where it is. Returns the bytes written; durable and indexed on return.

    The caller keeps other walks out: until the copies are durable, nothing may remove what they are made
    from. The old packs are left to collection. Raises StorageFull or StorageUnwritable; what another pool
    has put is not affected.
    """
    rows = storage.index.pack_rows()
    framed = [number for number in storage.damage.framed_packs() if number in rows]
    wanted = [number for number in framed if number not in storage.damage.mended]
    if not wanted:
        return 0
    with _own_pool(storage) as pool:
        written = sum(_copy_whole(storage, pool, number, rows[number]) for number in wanted)
        pool.flush(since=0)
    storage.index.flush()
    storage.damage.mended.update(wanted)
    return written


@contextmanager
def _own_pool(storage: "Storage") -> Iterator[PackPool]:
    """Open packs of its own: what becomes of them is nothing to a backup."""
    pool = PackPool(storage.directory, storage.index.native, storage.keyring, storage.index.pack_sealed)
    try:
        yield pool
    finally:
        pool.close()


def _copy_whole(storage: "Storage", pool: PackPool, number: int, row: PackRow) -> int:
    """Write again the chunks that are read from this pack and can be; returns the bytes written."""
    storage.index.flush()  # a place in the index's table would outlive the copy's
    native = storage.index.native
    ids, places = native.pack_entries(number)
    if not ids:
        return 0
    answers = native.find(ids)
    wanted: dict[ChunkKind, list[bytes]] = {}
    try:
        file = (storage.path / pack_name(row.pack_id)).open("rb")
    except OSError:
        return 0
    with file:
        for i, chunk_id in enumerate(split_ids(ids)):
            place = places[16 * i : 16 * i + 16]
            if answers[16 * i : 16 * i + 16] != place:
                continue  # another copy answers already
            kind = _kind_at(file.fileno(), int.from_bytes(place[4:8], "little"), chunk_id)
            if kind is not None:
                wanted.setdefault(kind, []).append(chunk_id)
    return sum(_copy(storage, pool, chunk_ids, kind, row.domain) for kind, chunk_ids in wanted.items())


def drop_mended(storage: "Storage") -> int:
    """Remove packs with damage once everything that is read from them stands whole elsewhere; returns how
    many.

    Packs that something is still read from stay, and so do all while a point is locked or another process
    reads: collection removes them later. The caller keeps other walks out.
    """
    removed = 0
    if storage.guard.names_in_force():
        return removed
    native = storage.index.native
    marked = {number for number, _, _ in native.damages()}
    with _own_pool(storage) as pool:
        for number, row in storage.index.pack_rows().items():
            if number not in marked:
                continue
            _copy_whole(storage, pool, number, row)
            pool.flush(since=0)
            storage.index.flush()
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
    try:
        header = os.pread(fd, RECORD_HEADER_BYTES, offset)
    except OSError:
        return None
    crc = header[_HEADER_CRC_AT : _HEADER_CRC_AT + 4]
    if len(header) < RECORD_HEADER_BYTES or crc != crc32c(header[:_HEADER_CRC_AT]).to_bytes(4, "little"):
        return None
    is_known = header[16 : 16 + CHUNK_ID_BYTES] == chunk_id and header[4] in list(ChunkKind)
    return ChunkKind(header[4]) if is_known else None


def _copy(storage: "Storage", pool: PackPool, ids: list[bytes], kind: ChunkKind, domain: int) -> int:
    encoder = Encoder(storage.info.compression_level)
    written = 0
    for at in range(0, len(ids), _COPY_CHUNKS):
        part = ids[at : at + _COPY_CHUNKS]
        plains = fetch_each(storage.reader_of(domain), part, lambda *_: None)
        whole = [(i, plain) for i, plain in zip(part, plains, strict=True) if plain is not None]
        if whole:
            joined = b"".join(chunk_id for chunk_id, _ in whole)
            batch = encode_chunks(encoder, joined, [plain for _, plain in whole], kind)
            written += pool.put(batch, domain, again=True)
    return written
