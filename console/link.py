"""The console's link to the server: carries calls with the user's session, decides nothing.

One control link, kept open and shared by all requests. It is dialled when first needed and again after it
broke, at most once a moment, so that a console without a server answers at once instead of queueing.
"""

import asyncio
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from schemas import api
from vdrd.model.errors import VdrError
from vdrd.net.address import SERVER_PORT, Address
from vdrd.net.asyncio_link import AsyncioLink
from vdrd.net.credentials import Credentials
from vdrd.net.identity import Expected, Role
from vdrd.net.tls13 import Tls13Profile
from vdrd.protocol.codec import Decoder, raw_of

_CALL_OF: dict[type[api.Message], api.CallType] = {call.request: call for call in api.CALLS.values()}
_DECODERS: dict[type[api.Message], Decoder[api.Message]] = {
    call.response: Decoder(call.response) for call in api.CALLS.values()
}

CALL_SECONDS = 90.0
"""Longest a call may take; above the longest wait of the event feed."""
WAITS_MAX = 768
"""Calls that only wait for news at once, over all users; more of them queue here. The rest of what a server
takes from one console stays free, so that open pages cannot shut out the work."""
_AGAIN_SECONDS = 1.0
"""A failed dial is remembered for so long."""


def call_of(request: api.Message) -> api.CallType:
    """The registry's line for a request."""
    return _CALL_OF[type(request)]


class ServerCalls(Protocol):
    """What pages and REST need of the server."""

    async def call(self, request: api.Message, *, session_token: str, address: str) -> api.Message:
        """Carry out one call and return what the registry promises. Raises VdrError as the server reported
        it, or Unreachable."""
        ...

    @property
    def is_connected(self) -> bool:
        """True while the link stands."""
        ...


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """Where the server is and who we are."""

    server: str
    """`host:port`."""
    identity: Path
    """Directory with key, certificate and authority."""


class ServerLink:
    """Calls to the server over one link. Use as an async context manager."""

    def __init__(self, settings: LinkSettings) -> None:
        self._settings = settings
        self._address = Address.parse(settings.server, SERVER_PORT)
        self._link: AsyncioLink | None = None
        self._dialling = asyncio.Lock()
        self._failed: tuple[float, VdrError] | None = None
        self._waits = asyncio.Semaphore(WAITS_MAX)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._link is not None:
            await self._link.aclose("the console stops")

    @property
    def is_connected(self) -> bool:
        """True while the link stands."""
        return self._link is not None and self._link.is_open

    async def call(self, request: api.Message, *, session_token: str, address: str) -> api.Message:
        """Carry out one call. Raises VdrError as the server reported it, or Unreachable."""
        kind = call_of(request)
        message = api.Call(
            name=kind.name, arguments=raw_of(request), session_token=session_token, address=address
        )
        is_wait = isinstance(request, api.EventsPoll) and request.wait_seconds > 0
        async with self._waits if is_wait else nullcontext():
            link = await self._connected()
            reply: api.CallReply = await link.request(message, api.CallReply, deadline_seconds=CALL_SECONDS)
        return _DECODERS[kind.response].decode(reply.result, "the server")

    async def _connected(self) -> AsyncioLink:
        async with self._dialling:
            if self._link is not None and self._link.is_open:
                return self._link
            if self._failed is not None and time.monotonic() - self._failed[0] < _AGAIN_SECONDS:
                raise self._failed[1]
            if self._link is not None:
                await self._link.aclose()
            try:
                # The credentials are read anew each time: they may have been renewed.
                profile = Tls13Profile(Credentials(self._settings.identity))
                self._link = await AsyncioLink.connect(
                    self._address, profile, expected=Expected(Role.SERVER), software="vdr-console"
                )
            except VdrError as error:
                self._failed = (time.monotonic(), error)
                raise
            return self._link
