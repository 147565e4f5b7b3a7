"""The chunk pipeline's wrappers: batches of any shape come back, and wrong lengths never reach C."""

import os
import tempfile
from array import array
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from native import blake3, chunk
from native.aead import Aead, Algorithm
from native.chunk import Decoder, Encoder
from native.err import NativeError
from native.pack_check import PackChecker, layout_end

KEY_TABLE = bytes(range(160))
KINDS = st.integers(1, 4)
PIECES = st.lists(
    st.one_of(
        st.binary(min_size=1, max_size=5000),
        st.builds(
            lambda piece, times: piece * times, st.binary(min_size=1, max_size=9), st.integers(1, 3000)
        ),
    ),
    min_size=1,
    max_size=12,
)


def id_of(piece: bytes, kind: int) -> bytes:
    return blake3.keyed(KEY_TABLE[32 * kind : 32 * kind + 32], piece)


@given(pieces=PIECES, kind=KINDS, level=st.sampled_from([None, 1, 3, 12]), data=st.data())
def test_batch_is_checked_sealed_walked_and_opened_whole(
    pieces: list[bytes], kind: int, level: int | None, data: st.DataObject
) -> None:
    flat = b"".join(pieces)
    lengths = array("I", map(len, pieces))
    offsets = array("Q", (sum(lengths[:i]) for i in range(len(pieces))))
    select = bytes(data.draw(st.lists(st.integers(0, 1), min_size=len(pieces), max_size=len(pieces))))
    chosen = [piece for piece, wanted in zip(pieces, select, strict=True) if wanted]
    out = bytearray(len(flat))
    table, written = Encoder(level).encode(flat, offsets, lengths, kind=kind, out=out, select=select)
    payload = bytes(out[:written])
    ids = b"".join(id_of(piece, kind) for piece in chosen)
    assert len(table) == chunk.ENTRY_BYTES * len(chosen)
    decoder = Decoder()
    assert decoder.check(ids, table, payload, KEY_TABLE) is None
    if not chosen:
        return
    algorithm = data.draw(st.sampled_from(list(Algorithm)))
    aead = None if algorithm is Algorithm.NONE else Aead(algorithm, bytes(algorithm.key_bytes))
    skip = bytes(len(chosen))
    pack = bytearray(64 + chunk.sealed_bytes(table, skip, algorithm))
    sealed, places = chunk.seal(
        aead, ids, table, payload, skip=skip, pack=3, pack_offset=64, out=memoryview(pack)[64:]
    )
    assert sealed == len(pack) - 64
    assert len(places) == 16 * len(chosen)
    rows, end = chunk.walk(pack, 64, algorithm, rows_max=100)
    assert (len(rows), end) == (48 * len(chosen), len(pack))
    assert b"".join(rows[i : i + 32] for i in range(0, len(rows), 48)) == ids
    with tempfile.TemporaryFile() as file:
        file.write(pack)
        file.flush()
        status, read_bytes = PackChecker().records(file.fileno(), aead, KEY_TABLE, rows)
    assert status == bytes(len(chosen))
    assert read_bytes == len(pack) - 64
    assert layout_end(rows, 64) == len(pack)
    assert layout_end(rows, 65) is None


@given(junk=st.binary(max_size=400), at=st.integers(0, 500))
def test_walk_over_foreign_bytes_stops_and_stays_inside(junk: bytes, at: int) -> None:
    rows, end = chunk.walk(junk, at, Algorithm.NONE, rows_max=10)
    assert rows == b""
    assert end == at


def test_blocks_of_a_file_are_named_and_its_end_is_told(tmp_path: Path) -> None:
    path = tmp_path / "disk"
    content = bytes(4096) + b"x" * 4096 + bytes(4096) + b"tail"
    path.write_bytes(content)
    data, zero, ids = bytearray(5 * 4096), bytearray(5), bytearray(5 * 32)
    fd = os.open(path, os.O_RDONLY)
    try:
        got = chunk.read_blocks(fd, 0, data=data, block_bytes=4096, id_key=KEY_TABLE[:32], zero=zero, ids=ids)
    finally:
        os.close(fd)
    assert got == len(content)
    assert list(zero[:4]) == [1, 0, 1, 0]
    assert ids[32:64] == blake3.keyed(KEY_TABLE[:32], b"x" * 4096)
    assert ids[96:128] == blake3.keyed(KEY_TABLE[:32], b"tail")


def test_lengths_that_do_not_fit_are_refused_before_the_call() -> None:
    with pytest.raises(ValueError, match="blocks"):
        chunk.name_blocks(bytes(8192), 4096, bytes(32), bytearray(1), bytearray(64))
    with pytest.raises(ValueError, match="outside"):
        Encoder(1).encode(bytes(10), array("Q", [5]), array("I", [6]), kind=1, out=bytearray(10))
    with pytest.raises(ValueError, match="one id"):
        Decoder().check(bytes(31), bytes(12), b"", KEY_TABLE)
    with pytest.raises(NativeError, match="level 99"):
        Encoder(99)
    with pytest.raises(NativeError, match="space"):
        Encoder(None).encode(bytes(10), array("Q", [0]), array("I", [10]), kind=1, out=bytearray(9))
