"""The server's wall clock, injected so that tests and drills can set it. Waiting uses the loop's own steady
clock."""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Gives milliseconds since 1970-01-01 UTC."""


def wall_clock_ms() -> int:
    """Now, by the system's clock."""
    return time.time_ns() // 1_000_000
