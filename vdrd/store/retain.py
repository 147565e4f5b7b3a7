"""What retention does to the points of an object in a storage: which stay and why, which go, which a lock
keeps. Decides; the storage removes.
"""

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from vdrd.model.points import Point
from vdrd.model.retention import RetentionMark, RetentionPolicy, reasons_to_keep
from vdrd.store.guard import LockBook


@dataclass(slots=True)
class RetainReport:
    """Outcome, by point id, newest first."""

    now: datetime
    """The time it was decided by."""
    kept: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Ids of points that stay by the policy, with every reason."""
    removed: list[str] = field(default_factory=list)
    blocked: dict[str, str] = field(default_factory=dict)
    """Points the policy would let go, with what keeps them."""
    is_clock_doubtful: bool = False
    """True when the machine's clock is ahead of the storage's time and nobody confirmed it."""

    def add(self, other: "RetainReport") -> None:
        """Take in what was decided of other points."""
        self.kept |= other.kept
        self.removed += other.removed
        self.blocked |= other.blocked


def decide(
    points: Collection[Point],
    locks: LockBook,
    policy: RetentionPolicy,
    now: datetime,
    *,
    kept: Collection[str],
    broken: Collection[str],
) -> RetainReport:
    """What to do with these points of one object."""
    marks = [
        RetentionMark(point.point_id, point.time, is_whole=point.point_id not in broken) for point in points
    ]
    report = RetainReport(now)
    for point_id, reasons in reasons_to_keep(policy, marks, now).items():
        lock = locks.of(point_id)
        if reasons:
            report.kept[point_id] = reasons
        elif lock.is_in_force(now):
            report.blocked[point_id] = lock.text
        elif point_id in kept:
            report.blocked[point_id] = "is in use"
        else:
            report.removed.append(point_id)
    return report
