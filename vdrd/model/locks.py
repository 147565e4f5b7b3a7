"""Locks of points as values: until when, and the rule that they only ever grow."""

from dataclasses import dataclass
from datetime import UTC, datetime

from vdrd.model.errors import BadInput, LockShortened


@dataclass(frozen=True, slots=True)
class PointLock:
    """What keeps a point from being removed."""

    until: datetime | None = None
    is_held: bool = False
    """Legal hold: no end until somebody releases it."""
    damage: str = ""
    """Why the record of the lock cannot be trusted; such a lock never ends by itself."""

    def is_in_force(self, now: datetime) -> bool:
        """True while the point must stay."""
        return self.is_held or bool(self.damage) or (self.until is not None and now < self.until)

    def joined(self, other: "PointLock") -> "PointLock":
        """What both together forbid."""
        ends = [lock.until for lock in (self, other) if lock.until is not None]
        return PointLock(max(ends, default=None), self.is_held or other.is_held, self.damage or other.damage)

    def extended(self, until: datetime, now: datetime) -> "PointLock":
        """The lock with a later end. Raises BadInput for a moment that has passed, LockShortened for one
        before its end."""
        if until <= now:
            raise BadInput(what=f"{text_of(until)} has passed: it is {text_of(now)} for this storage")
        if self.until is not None and until < self.until:
            raise LockShortened(until=text_of(self.until))
        return PointLock(until, self.is_held)

    @property
    def text(self) -> str:
        """What forbids to remove the point, for people."""
        if self.damage:
            return f"counts as locked: {self.damage}"
        if self.is_held:
            return "is under legal hold"
        return f"is locked until {text_of(self.until)}" if self.until else "is not locked"


def text_of(moment: datetime) -> str:
    """RFC 3339, UTC, to the second."""
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
