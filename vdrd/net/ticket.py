"""One-time tickets for data channels: the node gives them out for a run, an agent opens one channel with
each.

Bound to the run and to the certificate identity of the agent. Kept in memory only, by their hash: a restarted
node knows no old ticket.
"""

import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from typing import Generic, TypeVar

from vdrd.model.errors import TicketRefused
from vdrd.net.identity import PeerIdentity, Role

TICKET_BYTES = 32
TICKET_SECONDS = 60.0

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Grant(Generic[S]):
    """What a ticket opens."""

    run_id: str
    agent_ident: str
    service: S
    expires_at: float


class TicketOffice(Generic[S]):
    """Tickets not used yet. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._grants: dict[bytes, Grant[S]] = {}

    def issue(
        self, run_id: str, agent_ident: str, service: S, *, count: int = 1, seconds: float = TICKET_SECONDS
    ) -> list[bytes]:
        """Tickets for `count` channels of a run."""
        tickets = [secrets.token_bytes(TICKET_BYTES) for _ in range(count)]
        now = self._clock()
        with self._lock:
            # Expired ones are kept for a while so that a late use is told the exact reason, then dropped.
            self._grants = {
                key: grant for key, grant in self._grants.items() if grant.expires_at + seconds > now
            }
            for ticket in tickets:
                self._grants[sha256(ticket).digest()] = Grant(run_id, agent_ident, service, now + seconds)
        return tickets

    def redeem(self, ticket: bytes, peer: PeerIdentity) -> Grant[S]:
        """What the ticket opens; it is spent by that. Raises TicketRefused, which spends it too."""
        with self._lock:
            grant = self._grants.pop(sha256(ticket).digest(), None)
        if grant is None:
            raise TicketRefused(reason="it is unknown or was used")
        if peer.role is not Role.AGENT or peer.ident != grant.agent_ident:
            raise TicketRefused(reason=f"it was not given to {peer}")
        if self._clock() >= grant.expires_at:
            raise TicketRefused(reason="it expired")
        return grant

    def void(self, run_id: str) -> None:
        """Make the unused tickets of a run useless."""
        with self._lock:
            self._grants = {key: grant for key, grant in self._grants.items() if grant.run_id != run_id}
