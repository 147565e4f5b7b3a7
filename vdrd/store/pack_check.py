"""Checks one pack: what frames its records, and with `read_data` every byte of them."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from native.aead import Aead, Algorithm
from native.chunk import RECORD_HEADER_BYTES
from native.index import PLACE_BYTES, Index
from native.pack_check import PackChecker, layout_end
from vdrd.formats import pack as pack_format
from vdrd.formats.keys import DomainKeys
from vdrd.model.chunks import CHUNK_ID_BYTES
from vdrd.model.errors import Damaged
from vdrd.store.index import ChunkIndex
from vdrd.store.keyring import Keyring
from vdrd.store.pack_file import PackFile, closing_aead
from vdrd.store.packs import pack_name
from vdrd.store.walk import split_ids


@dataclass(slots=True)
class PackFindings:
    """What was found in one pack."""

    pack_id: bytes
    number: int | None
    """Of the pack in the index, None when it does not know it."""
    chunks: int = 0
    read_bytes: int = 0
    frame: Damaged | None = None
    """Why header, table or trailer do not hold."""
    bad: list[tuple[int, bytes]] = field(default_factory=list)
    """Offset and chunk id of records that do not hold."""
    good_offsets: set[int] = field(default_factory=set)
    """Of the records asked about that hold (see `check_pack`)."""


def check_pack(
    index: ChunkIndex,
    keyring: Keyring,
    root: Path,
    pack_id: bytes,
    *,
    checker: PackChecker | None,
    asked: frozenset[int] = frozenset(),
) -> PackFindings:
    """Check a pack's frame, and with a `checker` its records. `asked`: offsets whose goodness is wanted too.

    Never raises Damaged: where the table does not hold, the index tells what should be there.
    """
    found = PackFindings(pack_id, index.native.pack_find(pack_id))
    path = root / pack_name(pack_id)
    rows = b""
    try:
        pack = PackFile(root, pack_id, keyring)
        rows = _framed_rows(pack)
    except Damaged as error:
        found.frame = error
    found.chunks = len(rows) // pack_format.ROW_BYTES
    if checker is None:
        return found
    try:
        with path.open("rb") as file:
            if found.frame is not None:
                rows = _rows_of_index(index.native, found.number, file.fileno())
            keys = _keys_of(index, keyring, found.number, path)
            if keys is not None:
                _check_records(found, file.fileno(), rows, (checker, keyring.algorithm, keys), asked)
    except OSError as error:
        reason = (error.strerror or "error").lower()
        found.frame = Damaged(what=f"pack {pack_id.hex()}", reason=reason)
    return found


def _framed_rows(pack: PackFile) -> bytes:
    rows = pack.rows()
    if layout_end(rows, pack_format.HEADER_BYTES) != pack.table_offset:
        raise Damaged(what=pack.what, reason="its table does not fit its records")
    return rows


def _check_records(
    found: PackFindings,
    fd: int,
    rows: bytes,
    means: tuple[PackChecker, Algorithm, DomainKeys],
    asked: frozenset[int],
) -> None:
    checker, algorithm, keys = means
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    key = None if algorithm is Algorithm.NONE else keys.pack_key(found.pack_id, algorithm)
    with closing_aead(None if key is None else Aead(algorithm, key)) as aead:
        status, found.read_bytes = checker.records(fd, aead, keys.id_key_table, rows)
    found.chunks = len(status)
    if not any(status) and not asked:
        return
    for row, code in zip(pack_format.ROW.iter_unpack(rows), status, strict=True):
        if code:
            found.bad.append((row[1], row[0]))
        elif row[1] in asked:
            found.good_offsets.add(row[1])


def _keys_of(index: ChunkIndex, keyring: Keyring, number: int | None, path: Path) -> DomainKeys | None:
    """Keys of a pack, which the index knows even when its header is lost."""
    row = index.pack_rows().get(number) if number is not None else None
    if row is not None:
        return keyring.domain(row.domain, row.epoch)
    with path.open("rb") as file:
        data = file.read(pack_format.HEADER_BYTES)
    try:
        header = pack_format.decode_header(data, str(path))
        return keyring.domain(header.domain, header.epoch)
    except Damaged:
        return None


def _rows_of_index(index: Index, number: int | None, fd: int) -> bytes:
    """Rows of what the index places in a pack, in order; kind and codec as the records say."""
    if number is None:
        return b""
    ids, places = index.pack_entries(number)
    rows: list[bytes] = []
    for i, chunk_id in enumerate(split_ids(ids)):
        place = places[PLACE_BYTES * i + 4 : PLACE_BYTES * (i + 1)]
        header = os.pread(fd, RECORD_HEADER_BYTES, int.from_bytes(place[:4], "little"))
        rows.append(chunk_id + place + (header[4:6] if len(header) >= 6 else b"\1\0") + b"\0\0")
    rows.sort(key=_offset_of)
    return b"".join(rows)


def _offset_of(row: bytes) -> int:
    return int.from_bytes(row[CHUNK_ID_BYTES : CHUNK_ID_BYTES + 4], "little")
