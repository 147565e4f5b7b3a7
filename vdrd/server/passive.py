"""Dials the hosts whose agents wait to be dialled, and keeps their links up. Knows no messages."""

from collections.abc import Awaitable, Callable

import trio

from vdrd.catalog import hosts
from vdrd.catalog.database import Catalog
from vdrd.net.address import AGENT_PORT, Address
from vdrd.net.dial import keep_dialed
from vdrd.net.identity import Expected, Role
from vdrd.net.link import Handler, Link
from vdrd.net.tls import TlsProfile


class PassiveDialler:
    """One dialling task per passive host; `refresh` starts and stops them as the catalog says."""

    def __init__(
        self,
        catalog: Catalog,
        profile: TlsProfile,
        handler_of: Callable[[str], Handler],
        session: Callable[[Link], Awaitable[None]],
        software: str,
    ) -> None:
        self._catalog = catalog
        self._profile = profile
        self._handler_of = handler_of
        self._session = session
        self._software = software
        self._tasks: dict[str, tuple[str, trio.CancelScope]] = {}
        self._changed = trio.Event()

    def refresh(self) -> None:
        """The hosts changed: look at them."""
        self._changed.set()
        self._changed = trio.Event()

    async def run(self) -> None:
        """Keep every passive host dialled, for ever."""
        async with trio.open_nursery() as nursery:
            while True:
                changed = self._changed
                wanted = {host.host_id: host.address for host in await self._catalog.read(hosts.passive)}
                for host_id, (address, scope) in list(self._tasks.items()):
                    if wanted.get(host_id) != address:
                        scope.cancel()
                        del self._tasks[host_id]
                for host_id, address in wanted.items():
                    if host_id not in self._tasks:
                        scope = trio.CancelScope()
                        self._tasks[host_id] = (address, scope)
                        nursery.start_soon(self._dial, host_id, address, scope)
                await changed.wait()

    async def _dial(self, host_id: str, address: str, scope: trio.CancelScope) -> None:
        with scope:
            await keep_dialed(
                [Address.parse(address, AGENT_PORT)],
                self._profile,
                self._session,
                expected=Expected(Role.AGENT, host_id),
                handler=self._handler_of(host_id),
                software=self._software,
            )
