"""The time of a storage: by which locks end and points expire. Pure arithmetic over what clocks say.

It never runs back, and a clock that was set does not carry it along: while the machine is up it follows the
steady clock, and only over a restart, when nothing else has counted, the clock on the wall. A jump that is
too large for that is left to a person.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

SLEW = 1000
"""It follows the wall clock by one part in so many: a minute's correction takes a day, and nothing leaps."""

RESTART_MAX = timedelta(days=31)
"""A machine that was off for longer does not tell by itself what time it is."""

DOUBT_MIN = timedelta(hours=1)
"""The wall clock may be ahead by so much without a word: it is being followed."""


@dataclass(frozen=True, slots=True)
class ClockReading:
    """What the clocks of a machine say."""

    wall: datetime
    boot: bytes
    """8 bytes that differ from start to start of the machine."""
    steady_ms: int
    """Since that start; nobody can set it."""


@dataclass(frozen=True, slots=True)
class TimeMark:
    """What a storage's time was when these clocks were read."""

    time: datetime
    boot: bytes
    steady_ms: int


@dataclass(frozen=True, slots=True)
class StorageTime:
    """The time now."""

    now: datetime
    ahead: timedelta
    """How far the wall clock is ahead without being believed; 0 when it is followed."""

    @property
    def is_doubtful(self) -> bool:
        """True when the wall clock was set forward, or stood ahead after a restart, and nobody confirmed
        it."""
        return self.ahead > DOUBT_MIN


def storage_time(mark: TimeMark | None, reading: ClockReading) -> StorageTime:
    """The time of a storage whose last mark is `mark`, None for one that has none yet."""
    if mark is None:
        return StorageTime(reading.wall, timedelta(0))
    if reading.boot == mark.boot and reading.steady_ms >= mark.steady_ms:
        gone = timedelta(milliseconds=reading.steady_ms - mark.steady_ms)
        now = min(max(reading.wall, mark.time + gone - gone / SLEW), mark.time + gone + gone / SLEW)
    elif reading.wall - mark.time > RESTART_MAX:
        now = mark.time
    else:
        now = max(reading.wall, mark.time)
    return StorageTime(now, max(reading.wall - now, timedelta(0)))


def mark_at(time: datetime, reading: ClockReading) -> TimeMark:
    """The mark that says: at this reading it was `time`."""
    return TimeMark(time, reading.boot, reading.steady_ms)
