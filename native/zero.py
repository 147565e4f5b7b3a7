"""Finding zeros (contract: `csrc/zero.h`)."""

from native import buffer
from native._core import lib
from native.buffer import Buffer
from native.err import check


def is_zero(data: Buffer) -> bool:
    """Whether every byte is zero; true of no bytes at all."""
    array = buffer.readable(data)
    return bool(lib.vdr_zero_is(array, len(array)))


def zero_blocks(data: Buffer, block_bytes: int) -> bytearray:
    """One byte per block of `block_bytes` (the last may be short): 1 where it is all zero, else 0."""
    if block_bytes <= 0:
        raise ValueError("block_bytes must be positive")
    array = buffer.readable(data)
    flags = bytearray(-(-len(array) // block_bytes))
    check(lib.vdr_zero_blocks(array, len(array), block_bytes, buffer.writable(flags)), "zero")
    return flags


def best_level() -> int:
    """Highest `vdr_zero_level` of this CPU."""
    return int(lib.vdr_zero_best())


def is_zero_at(level: int, data: Buffer) -> bool:
    """`is_zero` at an explicit level: for tests and measurements."""
    array = buffer.readable(data)
    return bool(check(lib.vdr_zero_is_at(level, array, len(array)), "zero"))
