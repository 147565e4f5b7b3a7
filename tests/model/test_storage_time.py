"""The time of a storage, by what clocks say."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from vdrd.model.storage_time import RESTART_MAX, ClockReading, StorageTime, mark_at, storage_time

T = datetime(2026, 11, 23, tzinfo=UTC)
BOOT, OTHER = b"boot-one", b"boot-two"
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)


def reading(wall: datetime, steady: timedelta, boot: bytes = BOOT) -> ClockReading:
    return ClockReading(wall, boot, steady // timedelta(milliseconds=1))


MARK = mark_at(T, reading(T, DAY))


def test_first_time_is_that_of_the_wall_clock() -> None:
    assert storage_time(None, reading(T, HOUR)) == StorageTime(T, timedelta(0))


def test_clock_that_was_left_alone_is_followed() -> None:
    assert storage_time(MARK, reading(T + HOUR, DAY + HOUR)) == StorageTime(T + HOUR, timedelta(0))


def test_clock_set_back_does_not_stop_time() -> None:
    time = storage_time(MARK, reading(T - YEAR, DAY + 10 * HOUR))
    assert timedelta(0) <= T + 10 * HOUR - time.now <= timedelta(minutes=1)
    assert not time.is_doubtful


def test_clock_set_forward_is_not_believed_while_the_machine_is_up() -> None:
    time = storage_time(MARK, reading(T + YEAR, DAY + 10 * HOUR))
    assert timedelta(0) <= time.now - (T + 10 * HOUR) <= timedelta(minutes=1)
    assert time.is_doubtful


def test_clock_is_believed_over_a_restart_of_usual_length() -> None:
    assert storage_time(MARK, reading(T + 20 * DAY, HOUR, OTHER)).now == T + 20 * DAY


def test_clock_set_back_over_a_restart_does_not_take_time_back() -> None:
    assert storage_time(MARK, reading(T - YEAR, HOUR, OTHER)) == StorageTime(T, timedelta(0))


def test_clock_far_ahead_after_a_restart_is_not_believed() -> None:
    time = storage_time(MARK, reading(T + RESTART_MAX + HOUR, HOUR, OTHER))
    assert time.now == T
    assert time.is_doubtful


readings = st.builds(
    lambda days, hours, boot: reading(T + timedelta(days=days), timedelta(hours=hours), boot),
    st.integers(-4000, 4000),
    st.integers(0, 10000),
    st.sampled_from([BOOT, OTHER]),
)


@given(st.lists(readings, min_size=1, max_size=8))
def test_time_never_runs_back_whatever_the_clocks_say(several: list[ClockReading]) -> None:
    mark, before = MARK, T
    for one in several:
        now = storage_time(mark, one).now
        assert now >= before
        mark, before = mark_at(now, one), now


@given(st.lists(st.tuples(st.integers(-4000, 4000), st.integers(0, 100)), min_size=1, max_size=8))
def test_time_gains_nothing_from_setting_the_clock_again_and_again(steps: list[tuple[int, int]]) -> None:
    mark, steady = MARK, DAY
    for days, hours in steps:
        steady += timedelta(hours=hours)
        one = reading(T + timedelta(days=days), steady)
        mark = mark_at(storage_time(mark, one).now, one)
    gone = steady - DAY
    assert abs(mark.time - T - gone) <= gone / 500
