"""Progress of a long step on stderr: one line that renews itself on a terminal, a line now and then
elsewhere."""

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self, TextIO

from vdrd.cli.output import bytes_text, rate_text
from vdrd.model.progress import Progress

_TERMINAL_SECONDS = 0.2
_LOG_SECONDS = 10.0


class ProgressLine:
    """A ProgressSink (call it with a Progress) and a context manager that leaves the terminal clean.

    Call it from one thread at a time. It prints at most every 0.2 s on a terminal and every 10 s elsewhere,
    so a caller may report as often as it likes.
    """

    def __init__(self, stream: TextIO | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._terminal = self._stream.isatty()
        self._began = self._printed = clock()
        self._step = ""
        self._width = 0

    def __call__(self, progress: Progress) -> None:
        """Show `progress` if it is time to."""
        now = self._clock()
        if progress.step != self._step:
            self._step = progress.step
            self._began = now
        elif now - self._printed < (_TERMINAL_SECONDS if self._terminal else _LOG_SECONDS):
            return
        self._printed = now
        text = _text(progress, now - self._began)
        if self._terminal:
            self._stream.write("\r" + text.ljust(self._width))
            self._width = len(text)
        else:
            self._stream.write(text + "\n")
        self._stream.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._terminal and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()


def _text(progress: Progress, seconds: float) -> str:
    words = [progress.step]
    if progress.total_bytes:
        share = 100 * progress.done_bytes // progress.total_bytes
        words.append(f"{share}% of {bytes_text(progress.total_bytes)}")
    elif progress.done_bytes:
        words.append(bytes_text(progress.done_bytes))
    if progress.total_files or progress.done_files:
        words.append(f"{progress.done_files} files")
    if progress.done_bytes and seconds >= 1:
        words.append(rate_text(progress.done_bytes, seconds))
    if progress.new_bytes:
        words.append(f"new {bytes_text(progress.new_bytes)}, stored {bytes_text(progress.stored_bytes)}")
    return "  ".join(words)
