"""Moments as the catalog keeps them: milliseconds since 1970-01-01 UTC."""

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def to_ms(moment: datetime) -> int:
    """Milliseconds of an aware moment, rounded down."""
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def from_ms(milliseconds: int) -> datetime:
    """The moment in UTC."""
    return _EPOCH + timedelta(milliseconds=milliseconds)


def from_ms_or_none(milliseconds: int | None) -> datetime | None:
    """The moment in UTC, None for NULL."""
    return None if milliseconds is None else from_ms(milliseconds)
