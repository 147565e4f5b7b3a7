"""Who has a link now: registered agents and nodes, and what runs they say they hold.

Owns no link and writes nothing to the catalog. Everything that changes here changes in plain functions, and
every change
wakes those who wait for one.
"""

from dataclasses import dataclass, field
from typing import TypeVar

import msgspec
import trio

from schemas.control import HeldRun
from vdrd.model.errors import NotOnline
from vdrd.net.identity import Role
from vdrd.net.link import Link

R = TypeVar("R")


@dataclass(slots=True)
class Peer:
    """A registered agent or node."""

    ident: str
    role: Role
    name: str
    link: Link
    held: set[tuple[str, int]] = field(default_factory=set)
    """Run and attempt of what it works on, as it said when it registered and as the server started since."""
    open_storages: frozenset[str] = frozenset()
    """Of a node: what it has open, as it said last. None until it said so on this link."""


class Peers:
    """All registered peers by id. A peer that links again replaces its older link."""

    def __init__(self) -> None:
        self._peers: dict[str, Peer] = {}
        self._changed = trio.Event()

    def add(self, ident: str, role: Role, name: str, link: Link, held: list[HeldRun]) -> Peer:
        """A peer registered. An older link of it is closed: it is dead and does not know it yet, or a
        copy."""
        older = self._peers.get(ident)
        if older is not None and older.link is not link:
            older.link.close("the same machine has linked again")
        peer = Peer(ident, role, name, link, {(run.run_id, run.attempt) for run in held})
        self._peers[ident] = peer
        self.wake()
        return peer

    def remove(self, ident: str, link: Link) -> bool:
        """A link ended. False if its peer has a newer one (or never registered)."""
        peer = self._peers.get(ident)
        if peer is None or peer.link is not link:
            return False
        del self._peers[ident]
        self.wake()
        return True

    def find(self, ident: str) -> Peer | None:
        """The peer, None while it has no link."""
        return self._peers.get(ident)

    def ids(self, role: Role) -> frozenset[str]:
        """Who is online."""
        return frozenset(ident for ident, peer in self._peers.items() if peer.role is role)

    def holds(self, ident: str, run_id: str, attempt: int) -> bool | None:
        """Whether the peer works on that attempt; None while it has no link."""
        peer = self._peers.get(ident)
        return None if peer is None else (run_id, attempt) in peer.held

    def note_storages(self, ident: str, open_ids: frozenset[str]) -> None:
        """A node said which storages it has open."""
        peer = self._peers.get(ident)
        if peer is not None and peer.open_storages != open_ids:
            peer.open_storages = open_ids
            self.wake()

    def note_storage_opened(self, ident: str, storage_id: str) -> None:
        """A node has opened one more storage."""
        peer = self._peers.get(ident)
        if peer is not None:
            self.note_storages(ident, peer.open_storages | {storage_id})

    def note_held(self, ident: str, run_id: str, attempt: int) -> None:
        """The peer was given that attempt."""
        peer = self._peers.get(ident)
        if peer is not None:
            peer.held.add((run_id, attempt))

    def note_released(self, run_id: str, attempt: int) -> None:
        """The attempt is over for everybody."""
        for peer in self._peers.values():
            peer.held.discard((run_id, attempt))

    def wake(self) -> None:
        """Let everybody who waits look again."""
        self._changed.set()
        self._changed = trio.Event()

    async def wait_changed(self) -> None:
        """Until something changes."""
        await self._changed.wait()

    async def ask(
        self, ident: str, what: str, message: msgspec.Struct, reply: type[R], seconds: float = 30.0
    ) -> R:
        """Ask an online peer. `what` names it in errors. Raises NotOnline, Unreachable and what the peer
        reported."""
        peer = self._peers.get(ident)
        if peer is None:
            raise NotOnline(what=what)
        answer: R = await peer.link.request(message, reply, deadline_seconds=seconds)
        return answer
