"""The feed of changes that consoles poll. In memory, bounded; a console that fell behind is told so."""

from collections import deque

import trio

from schemas.api.runs import Event, EventsReply, RunInfo
from vdrd.catalog.times import from_ms
from vdrd.server.clock import Clock


class Feed:
    """Numbered events. Numbers start at the milliseconds of the server's start, so those of an earlier life
    are lower."""

    def __init__(self, kept: int, clock: Clock) -> None:
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=kept)
        self._first = self._next = clock()
        self._news = trio.Event()

    def publish(self, topic: str, ident: str, run: RunInfo | None = None) -> None:
        """Add an event and wake who waits."""
        event = Event(sequence=self._next, time=from_ms(self._clock()), topic=topic, id=ident, run=run)
        self._next += 1
        if len(self._events) == self._events.maxlen:
            self._first = self._events[0].sequence + 1
        self._events.append(event)
        self._news.set()
        self._news = trio.Event()

    @property
    def newest(self) -> int:
        """Number of the newest event: what comes after it is news."""
        return self._next - 1

    def _since(self, after: int, run_id: str | None, limit: int) -> list[Event]:
        found: list[Event] = []
        for event in reversed(self._events):
            if event.sequence <= after:
                break
            if run_id is None or event.id == run_id:
                found.append(event)
        found.reverse()
        return found[:limit]

    async def poll(self, after: int, run_id: str | None, limit: int, wait_seconds: float) -> EventsReply:
        """Events after number `after` (0: from now on), waiting for the first up to `wait_seconds`."""
        if after == 0:
            after = self._next - 1
        elif after < self._first - 1 or after >= self._next:
            await trio.lowlevel.checkpoint()
            return EventsReply(items=[], next_sequence=self._next - 1, has_missed=True)
        with trio.move_on_after(wait_seconds):
            while not (found := self._since(after, run_id, limit)):
                await self._news.wait()
        found = self._since(after, run_id, limit)
        last = found[-1].sequence if len(found) == limit else self._next - 1
        return EventsReply(items=found, next_sequence=max(last, after))

    def statistics(self) -> dict[str, int]:
        """Counters."""
        return {"kept": len(self._events), "next_sequence": self._next}
