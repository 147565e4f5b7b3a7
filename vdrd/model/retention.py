"""Which points of an object a retention policy keeps, and why: pure. Knows neither storage nor catalog.

A point stays as long as any rule wants it. Periods (ISO weeks, months, years) are those of UTC, and the
newest point of a period stands for it: what it held at its end. Only periods that have points count, so a
pause in backups lets nothing expire.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta

from vdrd.model.errors import BadInput

NUMBER_MAX = 100_000

AHEAD = timedelta(days=1)
"""A point dated further ahead of now than this was made under a wrong clock: it stays, and takes nobody's
place."""


@dataclass(frozen=True, slots=True)
class RetentionPolicy:
    """How many points of an object to keep. None leaves a rule out; without any rule everything stays."""

    keep_last: int | None = None
    keep_days: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None

    def __post_init__(self) -> None:
        """Raise BadInput for a number out of bounds: to keep nothing is to forget, not to retain."""
        for field in fields(self):
            number = getattr(self, field.name)
            if number is not None and not 1 <= number <= NUMBER_MAX:
                name = field.name.replace("_", "-")
                raise BadInput(what=f"{name} must be at least 1 and at most {NUMBER_MAX}, not {number}")

    @property
    def is_empty(self) -> bool:
        """True when no rule is set."""
        return all(getattr(self, field.name) is None for field in fields(self))


def combined(policies: Iterable[RetentionPolicy]) -> RetentionPolicy:
    """One policy that keeps whatever any of these keeps. Of none, or with one that keeps all: all."""
    every = list(policies)
    if any(policy.is_empty for policy in every):
        return RetentionPolicy()
    most: dict[str, int | None] = {}
    for field in fields(RetentionPolicy):
        numbers = [n for policy in every if (n := getattr(policy, field.name)) is not None]
        most[field.name] = max(numbers, default=None)
    return RetentionPolicy(**most)


@dataclass(frozen=True, slots=True)
class RetentionMark:
    """A point, so far as retention looks at it."""

    point_id: str
    time: datetime
    """Of its commit."""
    is_whole: bool = True
    """False when it is known that it cannot be restored whole."""


def _week(day: datetime) -> str:
    year, week, _ = day.isocalendar()
    return f"{year:04}-W{week:02}"


_PERIODS: tuple[tuple[str, str, Callable[[datetime], str]], ...] = (
    ("keep_weekly", "weekly", _week),
    ("keep_monthly", "monthly", lambda day: f"{day.year:04}-{day.month:02}"),
    ("keep_yearly", "yearly", lambda day: f"{day.year:04}"),
)


def reasons_to_keep(
    policy: RetentionPolicy, marks: Iterable[RetentionMark], now: datetime
) -> dict[str, tuple[str, ...]]:
    """Why each point of one object stays, by id, newest first; no reasons for one that goes.

    The newest whole point always stays. `now` is the storage's time.
    """
    ordered = sorted(marks, key=lambda mark: (mark.time, mark.point_id), reverse=True)
    reasons: dict[str, list[str]] = {mark.point_id: [] for mark in ordered}
    if policy.is_empty:
        return dict.fromkeys(reasons, ("no policy",))
    newest = next((mark for mark in ordered if mark.is_whole), None)
    if newest is not None:
        reasons[newest.point_id].append("newest")
    on_time = [mark for mark in ordered if mark.time <= now + AHEAD]
    for mark in ordered[: len(ordered) - len(on_time)]:
        reasons[mark.point_id].append("dated ahead of now")
    for rank, mark in enumerate(on_time, 1):
        if policy.keep_last is not None and rank <= policy.keep_last:
            reasons[mark.point_id].append(f"last {rank}")
        if policy.keep_days is not None and now - mark.time < timedelta(days=policy.keep_days):
            reasons[mark.point_id].append("days")
    for rule, word, period_of in _PERIODS:
        seen: set[str] = set()
        for mark in on_time:
            period = period_of(mark.time.astimezone(UTC))
            if period not in seen and len(seen) < (getattr(policy, rule) or 0):
                seen.add(period)
                reasons[mark.point_id].append(f"{word} {period}")
    return {point_id: tuple(found) for point_id, found in reasons.items()}
