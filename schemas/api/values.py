"""Building blocks of calls: the struct base, paging, times, ids, and how a path that is not UTF-8 is
written."""

from datetime import datetime
from typing import Annotated

from msgspec import Meta, Struct

Id = Annotated[str, Meta(min_length=1, max_length=64)]
"""A UUID in its usual spelling, or the 32 hex digits of a point."""

Name = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
"""A name people give. No control characters."""

PathText = Annotated[str, Meta(min_length=1, max_length=16384)]
"""A path. Bytes that are not UTF-8 are written as backslash, x and two hex digits, a backslash itself
twice."""

Time = Annotated[datetime, Meta(tz=True)]
"""A moment, always with its zone."""

Count = Annotated[int, Meta(ge=0, le=1 << 62)]
"""A number that a machine reports, of bytes or of things. What is larger fits no catalog and is refused on
arrival."""

PAGE_LIMIT_DEFAULT = 100
PAGE_LIMIT_MAX = 1000

PageLimit = Annotated[int, Meta(ge=1, le=PAGE_LIMIT_MAX)]


class Message(Struct, frozen=True, kw_only=True):
    """Base of everything that travels. Unknown fields are ignored, so that a newer peer may say more."""


class PageRequest(Message, frozen=True, kw_only=True):
    """Asks for a page of a list. `cursor` is the opaque `next_cursor` of the page before, None for the
    first."""

    cursor: str | None = None
    limit: PageLimit = PAGE_LIMIT_DEFAULT


class Page(Message, frozen=True, kw_only=True):
    """Base of a page: subclasses add `items`. `next_cursor` is None on the last one."""

    next_cursor: str | None = None


class Done(Message, frozen=True, kw_only=True):
    """The call did what it should and has nothing to tell."""


class ById(Message, frozen=True, kw_only=True):
    """Base of a call about one thing."""

    id: Id
