"""Geometry of the pictures: the ring of the overview, the ribbon of a day's runs, the timeline of points.
Pure numbers; the templates draw them as SVG and give the same numbers as text.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from schemas import api

RING_RADIUS = 50.0

TONE_OF_STATE = {
    api.RunState.QUEUED: "idle",
    api.RunState.PREPARING: "busy",
    api.RunState.RUNNING: "busy",
    api.RunState.DONE: "good",
    api.RunState.WARNING: "warn",
    api.RunState.FAILED: "bad",
    api.RunState.CANCELLED: "idle",
}


@dataclass(frozen=True, slots=True)
class Arc:
    """A part of the ring, as dash and offset of a circle's stroke."""

    tone: str
    dash: str
    offset: str


def ring(parts: Sequence[tuple[str, int]]) -> list[Arc]:
    """Arcs of a ring, in order, with a small gap between them."""
    around = 2 * math.pi * RING_RADIUS
    total = sum(number for _, number in parts)
    arcs = []
    begin = 0.0
    several = sum(number > 0 for _, number in parts) > 1
    for tone, number in parts:
        if number:
            length = around * number / total
            shown = max(length - (4.0 if several else 0.0), 1.0)
            arcs.append(Arc(tone, f"{shown:.1f} {around - shown:.1f}", f"{-begin:.1f}"))
            begin += length
    return arcs


@dataclass(frozen=True, slots=True)
class Bar:
    """One run in the ribbon."""

    run: api.RunInfo
    tone: str
    x: float
    width: float
    lane: int


@dataclass(frozen=True, slots=True)
class Ribbon:
    """The runs of the last hours side by side; runs at the same time in lanes."""

    bars: list[Bar]
    lanes: int
    ticks: list[tuple[float, datetime]]


def ribbon(
    runs: Iterable[api.RunInfo], now: datetime, *, hours: int, width: float, lanes_max: int = 6
) -> Ribbon:
    """Bars for all runs that were going on within the last `hours`."""
    begin = now - timedelta(hours=hours)
    scale = width / (hours * 3600)
    bars: list[Bar] = []
    free_from: list[float] = []
    for run in sorted(runs, key=lambda run: run.started_at or run.created_at):
        started = run.started_at or run.created_at
        ended = run.ended_at or now
        if ended < begin:
            continue
        x = max(0.0, (started - begin).total_seconds() * scale)
        end = min(width, max((ended - begin).total_seconds() * scale, x + 5.0))
        x = min(x, width - 5.0)
        lane = next((lane for lane, free in enumerate(free_from) if free <= x), len(free_from))
        if lane >= lanes_max:
            lane = lanes_max - 1
        if lane == len(free_from):
            free_from.append(0.0)
        free_from[lane] = end + 1.0
        bars.append(Bar(run, TONE_OF_STATE[run.state], round(x, 1), round(end - x, 1), lane))
    step = hours // 6
    first = begin.replace(minute=0, second=0, microsecond=0) + timedelta(hours=1)
    ticks = [
        (round((moment - begin).total_seconds() * scale, 1), moment)
        for moment in (first + timedelta(hours=n) for n in range(hours))
        if moment.hour % step == 0 and moment < now
    ]
    return Ribbon(bars, max(len(free_from), 1), ticks)


@dataclass(frozen=True, slots=True)
class Mark:
    """A point in the timeline."""

    point: api.PointInfo
    x: float


@dataclass(frozen=True, slots=True)
class Lane:
    """The points of one object."""

    object_name: str
    host_name: str
    kind: api.ObjectKind
    marks: list[Mark]
    newest: api.PointInfo


@dataclass(frozen=True, slots=True)
class Timeline:
    """Points of several objects over time."""

    lanes: list[Lane]
    ticks: list[tuple[float, datetime]]
    begin: datetime
    end: datetime
    has_hours: bool
    """True if the ticks are hours, not days."""


_TICK_STEPS_SECONDS = (
    300,
    900,
    1800,
    3600,
    3 * 3600,
    6 * 3600,
    12 * 3600,
    86400,
    2 * 86400,
    7 * 86400,
    14 * 86400,
    30 * 86400,
)
_TICKS_WANTED = 8


def timeline(points: Sequence[api.PointInfo], now: datetime, *, width: float) -> Timeline:
    """Lanes by object, newest object first; the span is what the points cover, at least an hour."""
    oldest = min((point.time for point in points), default=now)
    span = max((now - oldest).total_seconds() * 1.04, 3600.0)
    begin = now - timedelta(seconds=span)
    scale = width / span
    by_object: dict[tuple[str, str], list[api.PointInfo]] = {}
    for point in points:
        by_object.setdefault((point.host_name, point.object_name), []).append(point)
    lanes = []
    for (host_name, object_name), found in by_object.items():
        found.sort(key=lambda point: point.time)
        marks = [Mark(point, round((point.time - begin).total_seconds() * scale, 1)) for point in found]
        lanes.append(Lane(object_name, host_name, found[-1].kind, marks, found[-1]))
    lanes.sort(key=lambda lane: lane.newest.time, reverse=True)
    step = next(
        (step for step in _TICK_STEPS_SECONDS if span / step <= _TICKS_WANTED), _TICK_STEPS_SECONDS[-1]
    )
    first = math.ceil(begin.timestamp() / step) * step
    ticks = []
    moment = float(first)
    while moment <= now.timestamp():
        at = datetime.fromtimestamp(moment, tz=now.tzinfo)
        ticks.append((round((at - begin).total_seconds() * scale, 1), at))
        moment += step
    return Timeline(lanes, ticks, begin, now, step < 86400)
