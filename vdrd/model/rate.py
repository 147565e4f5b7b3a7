"""A limit in bytes per second:

a token bucket that may be changed while it runs. Knows nothing of what it limits.
"""

import threading
import time
from collections.abc import Callable

from vdrd.model.errors import BadInput


class RateUnusable(BadInput):
    """A rate is not a positive number."""

    code = "rate-unusable"
    template = "a rate of {rate} bytes per second is not possible"
    hint = "give a positive number, or none for no limit"


class RateLimit:
    """Bytes per second, None = unlimited. Thread-safe; many senders share one limit.

    A sender takes before it sends and waits as long as `take` says. The bucket holds one second's bytes at
    most, and may be overdrawn by one batch: the debt is paid by waiting.
    """

    def __init__(
        self,
        bytes_per_second: float | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._rate: float | None = None
        self._available_bytes = 0.0
        self._filled_at = clock()
        self.change(bytes_per_second)

    @property
    def bytes_per_second(self) -> float | None:
        """The limit now."""
        return self._rate

    def change(self, bytes_per_second: float | None) -> None:
        """Another limit from now on, also for those who wait. Raises RateUnusable."""
        if bytes_per_second is not None and not bytes_per_second > 0:
            raise RateUnusable(rate=bytes_per_second)
        with self._lock:
            self._fill()
            self._rate = bytes_per_second
            self._available_bytes = min(self._available_bytes, bytes_per_second or 0.0)

    def take(self, count_bytes: int) -> float:
        """Take so many bytes; returns how many seconds to wait before sending them."""
        with self._lock:
            if self._rate is None:
                return 0.0
            self._fill()
            self._available_bytes -= count_bytes
            return max(0.0, -self._available_bytes / self._rate)

    def wait(self, count_bytes: int, is_wanted: Callable[[], bool] = lambda: True) -> None:
        """Take, and sleep as long as needed, in steps so that a change or an end of the work shows soon."""
        left_seconds = self.take(count_bytes)
        while left_seconds > 0 and is_wanted():
            step_seconds = min(left_seconds, 0.25)
            self._sleep(step_seconds)
            left_seconds = min(left_seconds - step_seconds, self._debt_seconds())

    def _debt_seconds(self) -> float:
        with self._lock:
            self._fill()
            return 0.0 if self._rate is None else max(0.0, -self._available_bytes / self._rate)

    def _fill(self) -> None:
        now = self._clock()
        if self._rate is not None:
            self._available_bytes = min(
                self._rate, self._available_bytes + (now - self._filled_at) * self._rate
            )
        self._filled_at = now
