"""CRC-32C (contract: `csrc/crc32c.h`)."""

from native import buffer
from native._core import lib
from native.buffer import Buffer


def crc32c(data: Buffer, previous: int = 0) -> int:
    """CRC of `data`, continuing from the CRC of the bytes before it."""
    array = buffer.readable(data)
    return int(lib.vdr_crc32c(previous, array, len(array)))


def crc32c_table(data: Buffer, previous: int = 0) -> int:
    """The same without the CPU's instruction: for tests."""
    array = buffer.readable(data)
    return int(lib.vdr_crc32c_table(previous, array, len(array)))
