"""Zero detection against Python's own comparison, at every level this CPU has."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native import zero

SPARSE = st.builds(
    lambda length, places: bytes(1 if i in places else 0 for i in range(length)),
    st.integers(0, 1200),
    st.sets(st.integers(0, 1200), max_size=2),
)


@settings(max_examples=150, deadline=None)
@given(data=SPARSE)
def test_is_zero_any_data_equals_comparison_at_every_level(data: bytes) -> None:
    expected = data == bytes(len(data))
    assert zero.is_zero(data) is expected
    for level in range(zero.best_level() + 1):
        assert zero.is_zero_at(level, data) is expected


@settings(max_examples=100, deadline=None)
@given(data=SPARSE, block_bytes=st.integers(1, 1300))
def test_zero_blocks_any_size_equals_each_block_alone(data: bytes, block_bytes: int) -> None:
    expected = [zero.is_zero(data[at : at + block_bytes]) for at in range(0, len(data), block_bytes)]
    assert list(zero.zero_blocks(data, block_bytes)) == expected


def test_zero_blocks_of_no_size_are_refused() -> None:
    with pytest.raises(ValueError, match="positive"):
        zero.zero_blocks(b"", 0)
