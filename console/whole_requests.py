"""Answers wait for the end of their requests' bodies.

The web server takes a whole HTTP/2 connection down, with everything else on it, when data of a request comes
after its answer has ended: of a form posted to an address that is not there, say, or by somebody without a
session. Knows no page.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

Message = Any
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Any, Any, Any], Awaitable[None]]
"""Quart has types of its own for what passes; only `type` and `more_body` matter here."""

_PATIENCE_SECONDS = 5.0
"""For a body that does not end; its connection may then break. Honest clients send what they announced."""


class WholeRequests:
    """ASGI middleware. The application must read on after it has answered, as Quart does."""

    def __init__(self, application: Application) -> None:
        self._application = application

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._application(scope, receive, send)
            return
        is_whole = asyncio.Event()

        async def noting() -> Message:
            message = await receive()
            if message["type"] != "http.request" or not message.get("more_body", False):
                is_whole.set()
            return message

        async def waiting(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                with suppress(TimeoutError):
                    await asyncio.wait_for(is_whole.wait(), _PATIENCE_SECONDS)
            await send(message)

        await self._application(scope, noting, waiting)
