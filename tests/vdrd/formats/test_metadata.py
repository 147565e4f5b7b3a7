"""The sealed file of a metadata backup."""

import io
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdrd.formats.metadata import (
    FRAME,
    HEADER,
    PLAIN_BYTES,
    MetadataDamaged,
    MetadataNewer,
    Opener,
    PassphraseWrong,
    Sealer,
)
from vdrd.model.errors import VdrError

CHEAP = (4, 8, 1)


def sealed(data: bytes, passphrase: str = "correct horse") -> bytes:
    out = io.BytesIO()
    sealer = Sealer(out, passphrase, CHEAP)
    sealer.write(data)
    sealer.finish()
    return out.getvalue()


def opened(raw: bytes, passphrase: str = "correct horse") -> bytes:
    return Opener(io.BytesIO(raw), passphrase, Path("file")).read()


@pytest.mark.parametrize("size", [0, 1, PLAIN_BYTES - 1, PLAIN_BYTES, PLAIN_BYTES + 1, 3 * PLAIN_BYTES + 7])
def test_what_was_sealed_comes_back(size: int) -> None:
    data = bytes(i % 251 for i in range(size))
    assert opened(sealed(data)) == data


def test_what_was_written_in_pieces_is_read_in_pieces() -> None:
    out = io.BytesIO()
    sealer = Sealer(out, "p", CHEAP)
    for number in range(1000):
        sealer.write(b"%d," % number)
    sealer.finish()
    opener = Opener(io.BytesIO(out.getvalue()), "p", Path("file"))
    pieces = []
    while piece := opener.read(17):
        pieces.append(piece)
    assert b"".join(pieces) == b"".join(b"%d," % number for number in range(1000))
    assert {len(piece) for piece in pieces[:-1]} == {17}


def test_wrong_passphrase_is_told() -> None:
    with pytest.raises(PassphraseWrong):
        opened(sealed(b"secret"), "wrong horse")


def test_newer_format_is_told() -> None:
    raw = bytearray(sealed(b"secret"))
    raw[8] = 9
    with pytest.raises(MetadataNewer):
        opened(bytes(raw))


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_flipped_bit_anywhere_is_found(position: int) -> None:
    raw = bytearray(sealed(b"x" * 200))
    raw[position % len(raw)] ^= 1 << position % 8
    with pytest.raises(VdrError):
        opened(bytes(raw))


def test_file_cut_anywhere_is_found() -> None:
    raw = sealed(b"x" * 100)
    for length in range(len(raw)):
        with pytest.raises(MetadataDamaged):
            opened(raw[:length])


def test_frames_left_out_swapped_or_added_are_found() -> None:
    raw = sealed(bytes(2 * PLAIN_BYTES + 5))
    head, frames = raw[: HEADER.size], []
    rest = raw[HEADER.size :]
    while rest:
        length, _ = FRAME.unpack(rest[: FRAME.size])
        frames.append(rest[: FRAME.size + length])
        rest = rest[FRAME.size + length :]
    first, second, last = frames
    for wrong in ([first, last], [second, first, last], [first, second], [first, second, last, last]):
        with pytest.raises(VdrError):
            opened(head + b"".join(wrong))


def test_cost_that_would_eat_the_memory_is_refused() -> None:
    raw = bytearray(sealed(b"x"))
    raw[10] = 40
    with pytest.raises(MetadataDamaged, match="header"):
        opened(bytes(raw))
