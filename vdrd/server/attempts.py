"""One attempt at a run, as the server follows it: who works on it, how far it is, how it ended.

Values and their changes only; `vdrd/server/director.py` drives them.
"""

from collections import deque
from dataclasses import dataclass, field

import trio

from schemas.api.runs import RunInfo, RunProgress
from schemas.api.words import RunState
from schemas.control import RunEnded, RunProgressed, RunSpec

_SPEED_WINDOW_SECONDS = 10.0
_ERROR_MAX = 4000
_WORD_MAX = 255
"""What a worker says is cut here: it is shown in every list of runs, which must fit into one message."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended."""

    state: RunState
    error_code: str = ""
    error: str = ""
    is_retryable: bool = False
    warning_count: int = 0
    done_bytes: int = 0
    done_files: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    point_ids: tuple[str, ...] = ()
    """Of a backup: the points it made. Of a verification: those that cannot be restored whole."""
    is_reported: bool = False
    """True if an agent or node said so itself; otherwise they have to be told."""

    @classmethod
    def of(cls, ended: RunEnded) -> "Outcome":
        """What an agent or node reported."""
        state = ended.state if ended.state.is_final else RunState.FAILED
        return cls(
            state=state,
            error_code=ended.error_code[:_WORD_MAX],
            error=ended.error[:_ERROR_MAX],
            is_retryable=ended.is_retryable and state is RunState.FAILED,
            warning_count=ended.warning_count,
            done_bytes=ended.done_bytes,
            done_files=ended.done_files,
            new_bytes=ended.new_bytes,
            stored_bytes=ended.stored_bytes,
            point_ids=tuple(ended.point_ids),
            is_reported=True,
        )


@dataclass(slots=True)
class Attempt:
    """An attempt under way."""

    spec: RunSpec
    node_id: str
    progress: RunProgress = field(default_factory=RunProgress)
    info: RunInfo | None = None
    """The run as it was last published."""
    outcome: Outcome | None = None
    ended: trio.Event = field(default_factory=trio.Event)
    cancel_asked: trio.Event = field(default_factory=trio.Event)
    _marks: deque[tuple[float, int]] = field(default_factory=lambda: deque(maxlen=64))

    @property
    def owners(self) -> list[str]:
        """Ids of those who must hold it: the agent, if there is one, and the node."""
        return [self.node_id] if self.spec.host_id is None else [self.spec.host_id, self.node_id]

    @property
    def worker_id(self) -> str:
        """Id of the one who reports its progress and end."""
        return self.spec.host_id or self.node_id

    def end(self, outcome: Outcome) -> bool:
        """Note the end; the first one counts. True if this was it."""
        if self.outcome is not None:
            return False
        self.outcome = outcome
        self.ended.set()
        return True

    def note_progress(self, message: RunProgressed, now_seconds: float) -> RunProgress:
        """Take a report of the worker and work out speed and time left."""
        marks = self._marks
        if marks and message.done_bytes < marks[-1][1]:
            marks.clear()
        marks.append((now_seconds, message.done_bytes))
        while len(marks) > 2 and now_seconds - marks[0][0] > _SPEED_WINDOW_SECONDS:
            marks.popleft()
        elapsed = marks[-1][0] - marks[0][0]
        speed = (marks[-1][1] - marks[0][1]) / elapsed if elapsed > 0 else 0.0
        remaining = None
        if message.total_bytes is not None and speed > 0:
            remaining = max(0, message.total_bytes - message.done_bytes) / speed
        self.progress = RunProgress(
            step=message.step[:_WORD_MAX],
            done_bytes=message.done_bytes,
            total_bytes=message.total_bytes,
            done_files=message.done_files,
            total_files=message.total_files,
            new_bytes=message.new_bytes,
            stored_bytes=message.stored_bytes,
            bytes_per_second=speed,
            remaining_seconds=remaining,
        )
        return self.progress
