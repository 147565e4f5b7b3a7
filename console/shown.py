"""Numbers, sizes, durations and moments as people read them. Pure; knows words, not pages.

One format everywhere: binary units with three digits, durations in at most two units, moments relative with
the absolute one on hover.
"""

import re
from datetime import UTC, datetime, timedelta

from markupsafe import Markup

from console.words import Words

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_STEP = 1024

_MINUTE = 60
_HOUR = 3600
_DAY = 86400


def size(size_bytes: float | None) -> str:
    """`1.23 GiB`: three digits, binary units."""
    if size_bytes is None:
        return "–"
    value = float(size_bytes)
    unit = 0
    while abs(value) >= 999.5 and unit < len(_UNITS) - 1:
        value /= _STEP
        unit += 1
    if unit == 0:
        return f"{value:.0f} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def count(number: int | None) -> str:
    """`12,345`."""
    return "–" if number is None else f"{number:,}"


def speed(bytes_per_second: float) -> str:
    """`123 MiB/s`."""
    return f"{size(bytes_per_second)}/s"


def duration(seconds: float | None, t: Words) -> str:
    """`4 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`."""
    if seconds is None:
        return "–"
    if seconds < 10 and seconds != round(seconds):
        return t("time.seconds", n=f"{seconds:.1f}")
    whole = round(seconds)
    if whole < _MINUTE:
        return t("time.seconds", n=whole)
    if whole < _HOUR:
        return _two(t, "minutes", whole // _MINUTE, "seconds", whole % _MINUTE)
    if whole < _DAY:
        return _two(t, "hours", whole // _HOUR, "minutes", whole % _HOUR // _MINUTE)
    return _two(t, "days", whole // _DAY, "hours", whole % _DAY // _HOUR)


def _two(t: Words, big: str, n: int, small: str, m: int) -> str:
    first = t(f"time.{big}", n=n)
    return f"{first} {t(f'time.{small}', n=m)}" if m else first


def relative(moment: datetime, now: datetime, t: Words) -> str:
    """`just now`, `5 min ago`, `in 3 h`."""
    seconds = (now - moment).total_seconds()
    away = abs(seconds)
    if away < 45:
        return t("time.now") if seconds >= 0 else t("time.soon")
    for limit, step, unit in ((_HOUR, _MINUTE, "minutes"), (_DAY, _HOUR, "hours"), (60 * _DAY, _DAY, "days")):
        if away < limit:
            text = t(f"time.{unit}", n=max(1, round(away / step)))
            break
    else:
        return moment.date().isoformat()
    return t("time.ago", span=text) if seconds >= 0 else t("time.ahead", span=text)


def absolute(moment: datetime) -> str:
    """`2026-11-23 06:30:12 UTC`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def when(moment: datetime | None, now: datetime, t: Words, *, never: str = "–") -> Markup:
    """A `<time>`: relative text, absolute on hover; the script keeps both current and in the reader's
    zone."""
    if moment is None:
        return Markup('<span class="quiet">{}</span>').format(never)
    return Markup('<time datetime="{}" title="{}" data-relative>{}</time>').format(
        moment.astimezone(UTC).isoformat(timespec="seconds"), absolute(moment), relative(moment, now, t)
    )


def clock(moment: datetime) -> Markup:
    """A `<time>` with the time of day; the script puts it into the reader's zone."""
    return Markup('<time datetime="{}" title="{}" data-clock>{}</time>').format(
        moment.astimezone(UTC).isoformat(timespec="seconds"),
        absolute(moment),
        moment.astimezone(UTC).strftime("%H:%M:%S"),
    )


def mode_text(mode: int, kind: str) -> str:
    """`drwxr-xr-x`."""
    first = {"directory": "d", "symlink": "l", "fifo": "p", "socket": "s", "char": "c", "block": "b"}.get(
        kind, "-"
    )
    bits = "".join(
        letter if mode >> shift & 1 else "-"
        for shift, letter in zip(range(8, -1, -1), "rwx" * 3, strict=True)
    )
    return first + bits


_BEGINNING = re.compile(r"(?:^|(?<=[.!?] ))[a-z](?=[a-z ])")


def sentences(text: str) -> str:
    """An error's message and hint, which are lower case, as sentences."""
    whole = _BEGINNING.sub(lambda letter: letter[0].upper(), text.strip())
    return whole if not whole or whole.endswith((".", "!", "?")) else f"{whole}."


def hours_ago(now: datetime, hours: float) -> datetime:
    """The moment so many hours before `now`."""
    return now - timedelta(hours=hours)
