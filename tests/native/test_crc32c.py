"""CRC-32C: the instruction, the table and a bit-by-bit definition agree."""

from hypothesis import given, settings
from hypothesis import strategies as st

from native.crc32c import crc32c, crc32c_table


def by_definition(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=300), place=st.integers(0, 300))
def test_crc_any_data_in_any_two_parts_equals_the_definition(data: bytes, place: int) -> None:
    expected = by_definition(data)
    assert crc32c(data) == expected
    assert crc32c_table(data) == expected
    assert crc32c(data[place:], crc32c(data[:place])) == expected


def test_crc_of_the_check_string_is_the_published_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283
