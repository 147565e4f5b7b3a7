"""Retention as arithmetic: each rule by example, then what holds for every policy and every set of points."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vdrd.model.errors import BadInput
from vdrd.model.retention import AHEAD, RetentionMark, RetentionPolicy, combined, reasons_to_keep

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # a Monday
RULES = ("keep_last", "keep_days", "keep_weekly", "keep_monthly", "keep_yearly")


def mark(days_ago: float, name: str = "", *, is_whole: bool = True) -> RetentionMark:
    return RetentionMark(name or f"{days_ago:g}", NOW - timedelta(days=days_ago), is_whole)


def kept(policy: RetentionPolicy, marks: list[RetentionMark], now: datetime = NOW) -> set[str]:
    return {name for name, reasons in reasons_to_keep(policy, marks, now).items() if reasons}


policies = st.builds(RetentionPolicy, **{rule: st.none() | st.integers(1, 12) for rule in RULES})
point_sets = st.lists(
    st.tuples(st.integers(-3 * 24, 3 * 366 * 24), st.booleans()), max_size=60, unique_by=lambda row: row[0]
).map(lambda rows: [mark(hours / 24, f"{hours:06}", is_whole=whole) for hours, whole in rows])


def test_count_keeps_the_newest() -> None:
    assert kept(RetentionPolicy(keep_last=2), [mark(1), mark(2), mark(3)]) == {"1", "2"}


def test_days_keep_what_is_younger() -> None:
    assert kept(RetentionPolicy(keep_days=2), [mark(0.5), mark(1.99), mark(2), mark(9)]) == {"0.5", "1.99"}


def test_weeks_are_iso_weeks_in_utc_and_their_newest_point_stands_for_them() -> None:
    # 2026-11-23 is a Monday: what was made on Sunday evening belongs to the week before.
    marks = [mark(0.2), mark(0.4), mark(0.6), mark(1), mark(8), mark(30)]
    reasons = reasons_to_keep(RetentionPolicy(keep_weekly=2), marks, NOW)
    assert {name: why for name, why in reasons.items() if why} == {
        "0.2": ("newest", "weekly 2026-W48"),
        "0.6": ("weekly 2026-W47",),
    }


def test_week_of_the_turn_of_the_year_is_one_week() -> None:
    turn = datetime(2027, 1, 2, tzinfo=UTC)
    marks = [
        RetentionMark("friday", datetime(2027, 1, 1, 12, tzinfo=UTC)),
        RetentionMark("thursday", datetime(2026, 12, 31, 12, tzinfo=UTC)),
    ]
    assert kept(RetentionPolicy(keep_weekly=2), marks, turn) == {"friday"}
    assert kept(RetentionPolicy(keep_yearly=2), marks, turn) == {"friday", "thursday"}


def test_pause_in_backups_lets_nothing_of_the_long_term_go() -> None:
    marks = [mark(400), mark(440), mark(480)]
    assert kept(RetentionPolicy(keep_monthly=3), marks) == {"400", "440", "480"}


def test_no_policy_removes_nothing() -> None:
    assert kept(RetentionPolicy(), [mark(1), mark(1000)]) == {"1", "1000"}


def test_newest_whole_point_stays_though_a_broken_one_is_newer() -> None:
    marks = [mark(1, is_whole=False), mark(2), mark(3)]
    assert kept(RetentionPolicy(keep_last=1), marks) == {"1", "2"}


def test_point_dated_ahead_of_now_stays_and_takes_no_place() -> None:
    marks = [mark(-400), mark(1), mark(2)]
    assert kept(RetentionPolicy(keep_last=2), marks) == {"-400", "1", "2"}


@pytest.mark.parametrize("rule", RULES)
def test_number_below_one_is_refused(rule: str) -> None:
    with pytest.raises(BadInput, match="at least 1"):
        RetentionPolicy(**{rule: 0})


def _applied_daily(policy: RetentionPolicy, days: int) -> list[datetime]:
    marks: list[RetentionMark] = []
    for day in range(days):
        now = NOW + timedelta(days=day)
        marks.append(RetentionMark(f"{day:04}", now))
        stay = kept(policy, marks, now)
        marks = [point for point in marks if point.point_id in stay]
    return [point.time for point in marks]


def test_policy_applied_every_day_ends_with_the_points_it_names() -> None:
    # What a week, a month or a year needs later must not have gone while it was still running.
    times = _applied_daily(
        RetentionPolicy(keep_last=7, keep_weekly=4, keep_monthly=12, keep_yearly=3), 3 * 365
    )
    last = NOW + timedelta(days=3 * 365 - 1)
    assert [last - timedelta(days=n) for n in range(7)] == sorted(times, reverse=True)[:7]
    months = [moment for moment in times if (moment + timedelta(days=1)).month != moment.month]
    assert len(months) >= 11
    assert len({moment.isocalendar()[:2] for moment in times if moment > last - timedelta(days=28)}) >= 4
    ends_of_years = [moment for moment in times if (moment + timedelta(days=1)).year != moment.year]
    assert [moment.year for moment in ends_of_years] == [2027, 2028]
    assert {moment.year for moment in times} == {2027, 2028, 2029}


@given(policies, point_sets)
def test_point_stays_exactly_when_one_rule_alone_wants_it(
    policy: RetentionPolicy, marks: list[RetentionMark]
) -> None:
    alone = [RetentionPolicy(**{rule: n}) for rule in RULES if (n := getattr(policy, rule)) is not None]
    expected = set().union(*(kept(rule, marks) for rule in alone)) if alone else kept(policy, marks)
    assert kept(policy, marks) == expected


@given(policies, point_sets, st.sampled_from(RULES), st.integers(1, 5))
def test_larger_number_never_removes_more(
    policy: RetentionPolicy, marks: list[RetentionMark], rule: str, more: int
) -> None:
    if policy.is_empty:
        return
    values = {name: getattr(policy, name) for name in RULES}
    values[rule] = (values[rule] or 0) + more
    assert kept(policy, marks) <= kept(RetentionPolicy(**values), marks)


@given(policies, point_sets)
def test_applying_it_twice_is_applying_it_once(policy: RetentionPolicy, marks: list[RetentionMark]) -> None:
    once = reasons_to_keep(policy, marks, NOW)
    rest = [point for point in marks if once[point.point_id]]
    assert reasons_to_keep(policy, rest, NOW) == {name: why for name, why in once.items() if why}


@given(policies, point_sets, st.integers(0, 400))
def test_point_that_went_is_not_wanted_later(
    policy: RetentionPolicy, marks: list[RetentionMark], days: int
) -> None:
    marks = [point for point in marks if point.time <= NOW + AHEAD]
    assert kept(policy, marks, NOW + timedelta(days=days)) <= kept(policy, marks, NOW)


@given(policies, point_sets)
def test_newest_whole_point_always_stays(policy: RetentionPolicy, marks: list[RetentionMark]) -> None:
    whole = [point for point in marks if point.is_whole]
    if whole:
        assert max(whole, key=lambda point: point.time).point_id in kept(policy, marks)


@given(st.lists(policies, max_size=3), point_sets)
def test_combined_policy_keeps_what_each_keeps(
    several: list[RetentionPolicy], marks: list[RetentionMark]
) -> None:
    for policy in several:
        assert kept(policy, marks) <= kept(combined(several), marks)
