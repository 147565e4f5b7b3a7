"""What the server asks of this agent, and how it is answered. One handler for all links of the agent's
life."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from agent.browse import browse
from agent.disks import disks
from agent.runs import AgentRuns
from schemas.control import (
    Ack,
    HostBrowseAsk,
    HostDisksAnswer,
    HostDisksAsk,
    RevocationsPushed,
    RunCancel,
    RunStart,
    ToAgent,
)
from vdrd.model.errors import NotAuthorised
from vdrd.net.identity import Role
from vdrd.net.link import Link

log = logging.getLogger(__name__)
LOOKS_MAX = 4
"""Looks at disks or directories at once: a hanging mount may hold that many threads, not all."""


class AgentHandler:
    """Answers the server."""

    family = ToAgent

    def __init__(self, runs: AgentRuns, revoke: Callable[[str], None]) -> None:
        self._runs = runs
        self._revoke = revoke
        self._looks = trio.CapacityLimiter(LOOKS_MAX)

    async def request(self, link: Link, message: Any) -> msgspec.Struct:
        """Answer a request; only the server's."""
        if link.peer.role is not Role.SERVER:
            raise NotAuthorised(reason="only the server directs an agent")
        match message:
            case RunStart():
                self._runs.begin(message)
            case RunCancel():
                self._runs.cancel(message.run_id)
            case HostDisksAsk():
                found = await trio.to_thread.run_sync(disks, limiter=self._looks, abandon_on_cancel=True)
                return HostDisksAnswer(items=found)
            case HostBrowseAsk():
                return await trio.to_thread.run_sync(
                    browse, message, limiter=self._looks, abandon_on_cancel=True
                )
            case _:
                raise NotAuthorised(reason=f"agents do not take {type(message).__name__}")
        return Ack()

    async def notify(self, link: Link, message: Any) -> None:
        """Take a notification; only the server's."""
        if link.peer.role is Role.SERVER and isinstance(message, RevocationsPushed):
            await trio.to_thread.run_sync(self._revoke, message.revoked_pem)
