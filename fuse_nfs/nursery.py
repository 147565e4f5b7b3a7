"""Tasks that serve in the background of a context, whose errors are the body's alone."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio


@asynccontextmanager
async def background_nursery() -> AsyncIterator[trio.Nursery]:
    """A nursery for tasks that never fail, cancelled when the body ends; raises what the body raised."""
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The tasks do not fail: what is in the group is what the body raised.
        _, raised = group.split(trio.Cancelled)
        while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
            raised = raised.exceptions[0]
        if raised is None or isinstance(raised, BaseExceptionGroup):
            raise
        raise raised from raised.__cause__
