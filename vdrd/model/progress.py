"""Progress of a long step, and the way to stop it. Both are plain values so that every layer can carry
them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

from vdrd.model.errors import Cancelled


@dataclass(frozen=True, slots=True)
class Progress:
    """A snapshot of a step. `total_*` is None while unknown (a tree still being scanned)."""

    step: str
    done_bytes: int = 0
    total_bytes: int | None = None
    done_files: int = 0
    total_files: int | None = None
    new_bytes: int = 0
    """Bytes of chunks the storage lacked, before compression."""
    stored_bytes: int = 0
    """The same after compression."""


ProgressSink = Callable[[Progress], None]


class Cancel:
    """A stop request, thread-safe and one-way. Workers call `check()` once per batch."""

    def __init__(self) -> None:
        self._event = threading.Event()

    def request(self) -> None:
        """Ask the work to stop at its next batch."""
        self._event.set()

    @property
    def is_requested(self) -> bool:
        """True once somebody asked."""
        return self._event.is_set()

    def check(self) -> None:
        """Raise Cancelled if somebody asked."""
        if self._event.is_set():
            raise Cancelled
