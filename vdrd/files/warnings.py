"""What degraded a run: events of single paths as sentences, the first of them kept, all of them counted and
logged.
"""

import logging
import os
import threading

from native.event import Event, EventDetail, EventKind

WARNINGS_MAX = 1000
_NOTES = {EventKind.VANISHED, EventKind.SKIPPED}
_TEXTS = {
    EventKind.UNREADABLE: "cannot read {path}: {reason}",
    EventKind.VANISHED: "{path} vanished before it was read",
    EventKind.UNSTABLE: "{path} changed each time it was read; what was read last is kept",
    EventKind.UNCROSSED: "{path} is another file system and was not entered",
    EventKind.SKIPPED: "{path} was left out",
    EventKind.TOO_LONG: "{path} has a name or attributes too long to keep",
    EventKind.UNWRITABLE: "cannot write {path}: {reason}",
    EventKind.NOT_KEPT: "{path} could not be read when it was backed up and is not restored",
    EventKind.UNSET: "cannot set {detail} of {path}: {reason}",
}
_DETAILS = {
    EventDetail.OWNER: "the owner",
    EventDetail.MODE: "the mode",
    EventDetail.TIMES: "the times",
    EventDetail.ATTRIBUTES: "extended attributes",
    EventDetail.FLAGS: "inode flags",
}


def path_text(path: bytes) -> str:
    """A path for people: what is not UTF-8, and control characters, as escapes."""
    text = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text) or "."


def event_text(event: Event) -> str:
    """The event as one sentence, lower case, without a full stop."""
    text = _TEXTS[event.kind].format(
        path=path_text(event.path),
        reason=os.strerror(event.error) if event.error else "it is not what it was",
        detail=_DETAILS.get(event.detail, "something"),
    )
    if event.kind is EventKind.UNREADABLE and event.detail is EventDetail.ATTRIBUTES:
        return text.replace("cannot read", "cannot read all extended attributes of", 1)
    return text


class Warnings:
    """Warnings of one run. Thread-safe."""

    def __init__(self, log: logging.Logger) -> None:
        self._log = log
        self._lock = threading.Lock()
        self.first: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        """Count a warning."""
        with self._lock:
            self.count += 1
            if len(self.first) < WARNINGS_MAX:
                self.first.append(text)
        # Whoever runs this shows the warnings as its own; the log has what is beyond the first ones.
        self._log.info("file warning text=%r", text)

    def add_event(self, event: Event) -> None:
        """Count an event, or only log it when it does not degrade the run."""
        if event.kind in _NOTES:
            self._log.info("file note text=%r", event_text(event))
        else:
            self.add(event_text(event))
