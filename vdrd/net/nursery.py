"""A nursery whose body's error leaves as it is: no ExceptionGroup crosses the package's boundary."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def flat_nursery() -> AsyncIterator[trio.Nursery]:
    """Like trio.open_nursery(), but when exactly one task failed its error is raised itself.

    Several errors at once stay a group: that only happens by a defect, as the tasks of this package report
    their failures instead of raising them.
    """
    try:
        async with trio.open_nursery() as nursery:
            yield nursery
    except BaseExceptionGroup as group:
        _, others = group.split(trio.Cancelled)
        left: BaseException | None = others
        while isinstance(left, BaseExceptionGroup) and len(left.exceptions) == 1:
            left = left.exceptions[0]
        if left is None or isinstance(left, BaseExceptionGroup):
            raise
        raise left from left.__cause__
