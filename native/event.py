"""What happened to single paths during a backup or restore (contract: `csrc/event.h`)."""

from enum import IntEnum
from typing import Any, NamedTuple

from native._core import ffi, lib

_LIST_BYTES = 512 << 10


class EventKind(IntEnum):
    """`vdr_event_kind`."""

    UNREADABLE = lib.VDR_EVENT_UNREADABLE
    VANISHED = lib.VDR_EVENT_VANISHED
    UNSTABLE = lib.VDR_EVENT_UNSTABLE
    UNCROSSED = lib.VDR_EVENT_UNCROSSED
    SKIPPED = lib.VDR_EVENT_SKIPPED
    TOO_LONG = lib.VDR_EVENT_TOO_LONG
    UNWRITABLE = lib.VDR_EVENT_UNWRITABLE
    UNSET = lib.VDR_EVENT_UNSET
    NOT_KEPT = lib.VDR_EVENT_NOT_KEPT


class EventDetail(IntEnum):
    """`vdr_event_detail`: the attribute concerned."""

    NONE = lib.VDR_DETAIL_NONE
    OWNER = lib.VDR_DETAIL_OWNER
    MODE = lib.VDR_DETAIL_MODE
    TIMES = lib.VDR_DETAIL_TIMES
    ATTRIBUTES = lib.VDR_DETAIL_ATTRIBUTES
    FLAGS = lib.VDR_DETAIL_FLAGS


class Event(NamedTuple):
    """One event; `error` is an errno or 0."""

    kind: EventKind
    error: int
    detail: EventDetail
    path: bytes


class EventList:
    """A buffer for the C core to list events in. For one thread."""

    def __init__(self, list_bytes: int = _LIST_BYTES) -> None:
        self._records = ffi.new("uint64_t[]", list_bytes // 8)
        self.handle: Any = ffi.new("vdr_event_list *")
        self.handle.records = ffi.cast("uint8_t *", self._records)
        self.handle.capacity = list_bytes

    def drain(self) -> list[Event]:
        """Take the events listed since the last call."""
        events = []
        at = 0
        while at < self.handle.bytes:
            head = ffi.cast("vdr_event *", self.handle.records + at)
            path = bytes(ffi.buffer(self.handle.records + at + ffi.sizeof("vdr_event"), head.path_bytes))
            events.append(Event(EventKind(head.kind), head.error, EventDetail(head.detail), path))
            at += head.record_bytes
        self.handle.bytes = 0
        return events
