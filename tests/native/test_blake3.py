"""BLAKE3 against the reference implementation's wheel, at every level this CPU has."""

import array

import blake3 as oracle
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import blake3
from native.err import NativeError

KEYS = st.binary(min_size=32, max_size=32)
# Lengths around blocks, chunks, lane counts and the 64-chunk unit, where trees change shape.
LENGTHS = st.one_of(
    st.integers(0, 200),
    st.builds(lambda chunks, extra: max(chunks * 1024 + extra, 0), st.integers(0, 200), st.integers(-65, 65)),
)


def data_of(length: int, seed: int) -> bytes:
    return np.random.default_rng(seed).bytes(length)


@settings(max_examples=150, deadline=None)
@given(key=KEYS, length=LENGTHS, seed=st.integers(0, 2**32))
def test_keyed_hash_any_length_equals_the_oracle_at_every_level(key: bytes, length: int, seed: int) -> None:
    data = data_of(length, seed)
    expected = oracle.blake3(data, key=key).digest()
    assert blake3.keyed(key, data) == expected
    for level in range(blake3.best_level() + 1):
        assert blake3.keyed_at(level, key, data) == expected


@settings(max_examples=50, deadline=None)
@given(length=LENGTHS, seed=st.integers(0, 2**32))
def test_plain_hash_any_length_equals_the_oracle(length: int, seed: int) -> None:
    data = data_of(length, seed)
    assert blake3.digest(data) == oracle.blake3(data).digest()


@settings(max_examples=50, deadline=None)
@given(
    context=st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), material=st.binary()
)
@pytest.mark.parametrize("out_bytes", [1, 32, 64, 65, 2048])
def test_derived_key_any_context_equals_the_oracle(context: str, material: bytes, out_bytes: int) -> None:
    expected = oracle.blake3(material, derive_key_context=context).digest(length=out_bytes)
    assert blake3.derive(context, material, out_bytes) == expected


@settings(max_examples=40, deadline=None)
@given(key=KEYS, pieces=st.lists(st.tuples(st.integers(0, 9000), st.integers(0, 9000)), max_size=20))
def test_batch_any_pieces_equals_each_alone(key: bytes, pieces: list[tuple[int, int]]) -> None:
    data = data_of(18000, 7)
    offsets = array.array("Q", [offset for offset, _ in pieces])
    lengths = array.array("I", [length for _, length in pieces])
    expected = b"".join(blake3.keyed(key, data[o : o + n]) for o, n in pieces)
    assert blake3.keyed_batch(key, data, memoryview(offsets), memoryview(lengths)) == expected


def test_batch_with_a_piece_outside_the_data_is_refused() -> None:
    with pytest.raises(ValueError, match="pieces of the data"):
        blake3.keyed_batch(bytes(32), b"abc", np.array([2], np.uint64), np.array([2], np.uint32))
    with pytest.raises(ValueError, match="pieces of the data"):
        blake3.keyed_batch(bytes(32), b"abc", np.array([2**64 - 1], np.uint64), np.array([2], np.uint32))


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, np.uint8)])
def test_any_contiguous_buffer_is_accepted(kind: type) -> None:
    assert blake3.digest(kind(b"buffer")) == oracle.blake3(b"buffer").digest()


def test_key_of_a_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        blake3.keyed(bytes(31), b"")


def test_context_with_nul_is_refused_because_c_would_end_there() -> None:
    with pytest.raises(ValueError, match="NUL"):
        blake3.derive("a\0b", b"")


def test_level_beyond_the_cpu_is_refused() -> None:
    with pytest.raises(NativeError, match="argument"):
        blake3.keyed_at(blake3.best_level() + 1, bytes(32), b"")
