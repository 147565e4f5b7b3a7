"""Byte ranges of a disk. Half-open, in bytes."""

from dataclasses import dataclass
from enum import Enum


class ExtentKind(Enum):
    """What a range holds: bytes to read, bytes known to be zero, or a hole that was never written (reads as
    zero)."""

    DATA = "data"
    ZERO = "zero"
    HOLE = "hole"


@dataclass(frozen=True, slots=True)
class Extent:
    """`length_bytes` > 0 bytes from `offset_bytes`."""

    offset_bytes: int
    length_bytes: int
    kind: ExtentKind = ExtentKind.DATA

    @property
    def end_bytes(self) -> int:
        """First byte after the range."""
        return self.offset_bytes + self.length_bytes
