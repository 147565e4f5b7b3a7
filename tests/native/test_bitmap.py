"""Bitmaps against Python sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.bitmap import Bitmap

BITS = 1000
RANGES = st.lists(
    st.tuples(st.booleans(), st.integers(0, BITS), st.integers(0, BITS)).map(
        lambda change: (change[0], min(change[1:]), max(change[1:]))
    ),
    max_size=20,
)


def apply(changes: list[tuple[bool, int, int]]) -> tuple[Bitmap, set[int]]:
    bitmap, model = Bitmap(BITS), set[int]()
    for add, begin, end in changes:
        if add:
            bitmap.set(begin, end)
            model |= set(range(begin, end))
        else:
            bitmap.clear(begin, end)
            model -= set(range(begin, end))
    return bitmap, model


def members(bitmap: Bitmap) -> set[int]:
    return {bit for begin, end in bitmap.runs() for bit in range(begin, end)}


@settings(max_examples=150, deadline=None)
@given(changes=RANGES, begin=st.integers(0, BITS), end=st.integers(0, BITS))
def test_bitmap_any_changes_answers_like_a_set(
    changes: list[tuple[bool, int, int]], begin: int, end: int
) -> None:
    bitmap, model = apply(changes)
    begin, end = min(begin, end), max(begin, end)
    inside = sorted(bit for bit in model if begin <= bit < end)
    assert members(bitmap) == model
    assert bitmap.count(begin, end) == len(inside)
    assert bitmap.next_set(begin, end) == (inside[0] if inside else end)
    assert bitmap.next_clear(begin, end) == next((b for b in range(begin, end) if b not in model), end)
    assert [bit for run in bitmap.runs(begin, end) for bit in range(*run)] == inside
    assert all((bit in bitmap) == (bit in model) for bit in (begin, end, 0, BITS - 1, BITS))


@settings(max_examples=60, deadline=None)
@given(left=RANGES, right=RANGES)
def test_combining_any_bitmaps_equals_combining_sets(
    left: list[tuple[bool, int, int]], right: list[tuple[bool, int, int]]
) -> None:
    other, other_model = apply(right)
    for operator in ("__ior__", "__iand__", "__isub__"):
        bitmap, model = apply(left)
        combined = getattr(bitmap, operator)(other)
        assert combined is bitmap
        assert members(bitmap) == getattr(model, operator)(other_model)


def test_runs_of_more_than_one_call_are_all_found() -> None:
    bitmap = Bitmap(20_000)
    for bit in range(0, 20_000, 2):
        bitmap.set(bit, bit + 1)
    assert list(bitmap.runs()) == [(bit, bit + 1) for bit in range(0, 20_000, 2)]


def test_memory_of_the_caller_is_used_and_bits_are_where_the_format_says() -> None:
    memory = np.zeros(16, np.uint8)
    Bitmap(70, memory).set(69, 70)
    assert memory[69 // 8] == 1 << 69 % 8
    assert memory.sum() == 1 << 69 % 8


def test_memory_of_a_wrong_length_is_refused() -> None:
    with pytest.raises(ValueError, match="needs 16 bytes"):
        Bitmap(70, bytearray(8))
    with pytest.raises(ValueError, match="needs 16 bytes"):
        Bitmap(70, bytearray(17))


@pytest.mark.parametrize(("begin", "end"), [(-1, 3), (3, 2), (0, 71), (71, 71)])
def test_range_outside_the_map_is_refused(begin: int, end: int) -> None:
    bitmap = Bitmap(70)
    for operation in (bitmap.set, bitmap.clear, bitmap.count, bitmap.next_set):
        with pytest.raises(ValueError, match="not a range"):
            operation(begin, end)
    assert bitmap.count() == 0
