"""Content-defined cuts against the definition in `cdc.h`, written in Python."""

from itertools import accumulate, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import blake3
from native.cdc import AVERAGE_BYTES, MAX_BYTES, MIN_BYTES, Cutter

KEY = bytes(range(32))
SMALL = (64, 256, 1024)


def by_definition(key: bytes, data: bytes, min_bytes: int, average_bytes: int, max_bytes: int) -> list[int]:
    table = blake3.derive("vdr 2026 content-defined cuts, gear table", key, 2048)
    gear = np.frombuffer(table, "<u8").tolist()
    early, late = (2**64 - 1) // (average_bytes * 4), (2**64 - 1) // (average_bytes // 4)
    lengths, start = [], 0
    while start < len(data):
        length = min(len(data) - start, max_bytes)
        for end in range(min_bytes, length + 1):
            window = data[start + end - 64 : start + end]
            value = sum(gear[byte] << (63 - i) for i, byte in enumerate(window)) % 2**64
            if value < (early if end <= average_bytes else late):
                length = end
                break
        lengths.append(length)
        start += length
    return lengths


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 3000), alphabet=st.sampled_from([1, 2, 256]))
def test_cuts_any_data_equals_the_definition(seed: int, length: int, alphabet: int) -> None:
    data = np.random.default_rng(seed).integers(0, alphabet, length, np.uint8).tobytes()
    assert list(Cutter(KEY, *SMALL).cut(data, final=True)) == by_definition(KEY, data, *SMALL)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32), windows=st.lists(st.integers(1, 5000), min_size=1))
def test_cuts_any_buffering_is_the_same(seed: int, windows: list[int]) -> None:
    data = np.random.default_rng(seed).bytes(30_000)
    cutter = Cutter(KEY, *SMALL)
    found: list[int] = []
    pending, at = b"", 0
    for window in [*windows, len(data)]:
        pending += data[at : at + window]
        at = min(at + window, len(data))
        lengths = list(cutter.cut(pending, final=at == len(data)))
        found += lengths
        pending = pending[sum(lengths) :]
    assert found == list(cutter.cut(data, final=True))


def test_cuts_at_the_product_sizes_average_near_the_target() -> None:
    data = np.random.default_rng(1).bytes(32 << 20)
    lengths = np.asarray(Cutter(KEY).cut(data, final=True))[:-1]
    assert lengths.min() >= MIN_BYTES
    assert lengths.max() <= MAX_BYTES
    assert 0.8 < lengths.mean() / AVERAGE_BYTES < 1.3


def test_repeated_content_at_an_odd_offset_gives_the_same_chunks() -> None:
    rng = np.random.default_rng(2)
    original = rng.bytes(8 << 20)
    shifted = rng.bytes(12_345) + original

    def chunks(data: bytes) -> set[bytes]:
        ends = list(accumulate(Cutter(KEY).cut(data, final=True), initial=0))
        return {data[a:b] for a, b in pairwise(ends)}

    first = chunks(original)
    assert len(first & chunks(shifted)) > 0.9 * len(first)


def test_another_key_cuts_elsewhere() -> None:
    data = np.random.default_rng(3).bytes(4 << 20)
    ours = set(accumulate(Cutter(KEY).cut(data, final=True)))
    theirs = set(accumulate(Cutter(bytes(32)).cut(data, final=True)))
    assert len(ours & theirs) <= 2


@pytest.mark.parametrize("sizes", [(63, 256, 1024), (300, 256, 1024), (64, 256, 255), (64, 256, 2**31)])
def test_sizes_that_make_no_sense_are_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="cannot cut"):
        Cutter(KEY, *sizes)
