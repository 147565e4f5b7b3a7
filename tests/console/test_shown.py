"""Numbers and moments as people read them, sentences of jobs, geometry of the pictures."""

from datetime import UTC, datetime, timedelta

import pytest

from console import shown
from console.pictures import ribbon, ring, timeline
from console.sentences import retention_sentence, schedule_sentence, schedules_sentence
from console.words import Words
from schemas import api
from tests.console.fake_server import FakeServer, populate

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
EN, ZH = Words("en"), Words("zh")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [
        (None, "–"),
        (0, "0 B"),
        (999, "999 B"),
        (1000, "0.98 KiB"),
        (1024, "1.00 KiB"),
        (10_240, "10.0 KiB"),
        (102_400, "100 KiB"),
        (1 << 20, "1.00 MiB"),
        (1023 << 20, "1.00 GiB"),
        (64 << 30, "64.0 GiB"),
        (1 << 70, "1024 EiB"),
    ],
)
def test_size_has_three_digits_and_binary_units(size_bytes: int | None, text: str) -> None:
    assert shown.size(size_bytes) == text


@pytest.mark.parametrize(
    ("seconds", "english", "chinese"),
    [
        (None, "–", "–"),
        (0.25, "0.2 s", "0.2 秒"),
        (4, "4 s", "4 秒"),
        (59.6, "1 min", "1 分钟"),
        (200, "3 min 20 s", "3 分钟 20 秒"),
        (7500, "2 h 5 min", "2 小时 5 分钟"),
        (3600, "1 h", "1 小时"),
        (273_600, "3 d 4 h", "3 天 4 小时"),
    ],
)
def test_duration_has_at_most_two_units(seconds: float | None, english: str, chinese: str) -> None:
    assert (shown.duration(seconds, EN), shown.duration(seconds, ZH)) == (english, chinese)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "just now"),
        (-20, "in a moment"),
        (120, "2 min ago"),
        (-7200, "in 2 h"),
        (3 * 86400, "3 d ago"),
        (90 * 86400, "2026-08-25"),
    ],
)
def test_moment_is_relative_with_the_absolute_one_on_hover(seconds: float, text: str) -> None:
    moment = NOW - timedelta(seconds=seconds)
    assert shown.relative(moment, NOW, EN) == text
    assert f'title="{shown.absolute(moment)}"' in shown.when(moment, NOW, EN)
    assert "never" in shown.when(None, NOW, EN, never="never")


def test_errors_become_sentences() -> None:
    assert shown.sentences("job not found: x. try again") == "Job not found: x. Try again."
    assert (
        shown.sentences("cannot read /dev/vda1: no such device") == "Cannot read /dev/vda1: no such device."
    )


def test_schedules_and_retention_are_sentences() -> None:
    daily = api.DailySchedule(at="01:00", zone="Asia/Shanghai")
    assert schedule_sentence(daily, EN) == "Incremental every day at 01:00 (Asia/Shanghai)"
    assert schedule_sentence(daily, ZH) == "每天 01:00 增量（Asia/Shanghai）"
    weekly = api.DailySchedule(at="03:30", weekdays=[7], backup_type=api.BackupType.FULL)
    assert schedules_sentence([daily, weekly], EN).endswith("; Full on Sun at 03:30 (UTC)")
    assert schedules_sentence([], EN) == "Runs only when started by hand"
    assert schedules_sentence([api.IntervalSchedule(every_seconds=5400)], EN, is_enabled=False) == (
        "Paused (Incremental every 1 h 30 min)"
    )
    assert retention_sentence(api.JobOptions(), EN) == "All points are kept."
    assert retention_sentence(api.JobOptions(keep_last=1), EN) == "The newest point of each object is kept."
    assert retention_sentence(api.JobOptions(keep_days=30), ZH) == "备份点保留 30 天。"
    both = api.JobOptions(keep_days=7, keep_weekly=1, keep_yearly=3)
    assert retention_sentence(both, EN) == (
        "Points are kept for 7 days. The last point of the week is kept."
        " The last point of each of the last 3 years is kept."
    )


def test_ring_goes_once_around() -> None:
    arcs = ring((("good", 3), ("warn", 1), ("bad", 0)))
    assert [arc.tone for arc in arcs] == ["good", "warn"]
    begin = [-float(arc.offset) for arc in arcs]
    assert begin[0] == 0
    assert begin[1] == pytest.approx(314.16 * 0.75, abs=0.1)
    assert ring((("good", 0),)) == []
    assert ring((("good", 5),))[0].dash == "314.2 0.0"


def test_ribbon_keeps_bars_inside_and_lanes_apart() -> None:
    server = FakeServer(lambda: NOW)
    populate(server)
    made = ribbon(server.runs.values(), NOW, hours=24, width=1000.0)
    assert len(made.bars) == len(server.runs)
    for bar in made.bars:
        assert 0 <= bar.x < bar.x + bar.width <= 1000.5
        assert bar.lane < made.lanes <= 6
    for one in made.bars:
        for other in made.bars:
            if one is not other and one.lane == other.lane:
                assert one.x + one.width <= other.x or other.x + other.width <= one.x
    assert all(0 <= x <= 1000 for x, _ in made.ticks)
    assert ribbon([], NOW, hours=24, width=1000.0).bars == []


def test_timeline_has_a_lane_per_object_and_marks_in_order() -> None:
    server = FakeServer(lambda: NOW)
    populate(server)
    made = timeline(list(server.points.values()), NOW, width=1000.0)
    assert sum(len(lane.marks) for lane in made.lanes) == len(server.points)
    assert len(made.lanes) == 4
    for lane in made.lanes:
        places = [mark.x for mark in lane.marks]
        assert places == sorted(places)
        assert 0 <= places[0] <= places[-1] <= 1000
    assert 2 <= len(made.ticks) <= 9
    assert timeline([], NOW, width=1000.0).lanes == []


@pytest.mark.parametrize(
    ("mode", "kind", "text"),
    [(0o755, "directory", "drwxr-xr-x"), (0o640, "file", "-rw-r-----"), (0o777, "symlink", "lrwxrwxrwx")],
)
def test_mode_is_shown_as_ls_does(mode: int, kind: str, text: str) -> None:
    assert shown.mode_text(mode, kind) == text
