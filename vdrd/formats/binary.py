"""Bytes to numbers, strictly: what every binary format of the store shares. Pure and total."""

from vdrd.model.errors import Damaged


def check_length(what: str, part: str, data: bytes | memoryview, wanted: int) -> None:
    """Raise Damaged naming `what` unless this part of it has exactly `wanted` bytes."""
    if len(data) != wanted:
        raise Damaged(what=what, reason=f"its {part} is {len(data)} bytes long, {wanted} are needed")


def check_that(condition: bool, what: str, reason: str) -> None:
    """Raise Damaged naming the thing and the reason unless the condition holds."""
    if not condition:
        raise Damaged(what=what, reason=reason)
