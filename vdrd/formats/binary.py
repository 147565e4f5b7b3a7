"""Bytes to numbers, strictly: what every binary format of the store shares. Pure and total."""

from vdrd.model.errors import Damaged

_LIMIT_TEXT = "is {found} bytes long, {wanted} are needed"


def check_length(what: str, data: bytes | memoryview, wanted: int) -> None:
    """Raise Damaged unless `data` has exactly `wanted` bytes."""
    if len(data) != wanted:
        raise Damaged(what=what, reason=_LIMIT_TEXT.format(found=len(data), wanted=wanted))


def check_that(condition: bool, what: str, reason: str) -> None:
    """Raise Damaged naming the thing and the reason unless the condition holds."""
    if not condition:
        raise Damaged(what=what, reason=reason)
