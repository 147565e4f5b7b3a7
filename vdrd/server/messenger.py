"""Sends what waits in the queue of messages, a few at a time, and tries again what did not go through.

The queue is in the catalog: a restart loses nothing, and at worst sends one message twice.
"""

import logging
import sqlite3
from functools import partial

import msgspec
import trio

from schemas.api.alerts import AlertInfo, ChannelSettings
from vdrd.catalog import alerts, channels
from vdrd.catalog.database import Catalog
from vdrd.catalog.settings import TENANT_DEFAULT
from vdrd.model.errors import NotFound, VdrError
from vdrd.server import carriers, messages
from vdrd.server.clock import Clock
from vdrd.server.vault import Vault

log = logging.getLogger(__name__)

AT_ONCE = 4
AGAIN_SECONDS = (30, 120, 600, 1800, 3600, 7200, 14400)
"""Waits between tries; with the last one a message is given up about eight hours after it was written."""
_LOOK_SECONDS = 30.0


def purpose_of(channel_id: str) -> str:
    """What the settings of a channel are sealed for."""
    return f"channel {channel_id}"


class Messenger:
    """The task that sends."""

    def __init__(self, catalog: Catalog, vault: Vault, clock: Clock) -> None:
        self._catalog = catalog
        self._vault = vault
        self._clock = clock
        self._news = trio.Event()
        self._limiter = trio.CapacityLimiter(AT_ONCE)

    def wake(self) -> None:
        """Something was put into the queue."""
        self._news.set()
        self._news = trio.Event()

    def seal(self, channel_id: str, settings: ChannelSettings) -> bytes:
        """Settings as the catalog keeps them."""
        return self._vault.seal(purpose_of(channel_id), msgspec.json.encode(settings))

    def unseal(self, channel_id: str, sealed: bytes) -> ChannelSettings:
        """The settings again. Raises SecretLost."""
        plain = self._vault.open(purpose_of(channel_id), sealed)
        settings: ChannelSettings = msgspec.json.decode(plain, type=ChannelSettings)
        return settings

    async def run(self) -> None:
        """Send for ever."""
        while True:
            news = self._news
            try:
                waiting = await self._catalog.read(channels.due, self._clock(), AT_ONCE)
                if waiting and all(await self._send_all(waiting)):
                    continue
            except VdrError as error:
                log.warning("messages not sent reason=%s", error.message)
            with trio.move_on_after(_LOOK_SECONDS):
                await news.wait()

    async def _send_all(self, waiting: list[channels.Waiting]) -> list[bool]:
        """Send side by side; True for each whose outcome could be written down."""
        noted: list[bool] = []

        async def send(message: channels.Waiting) -> None:
            try:
                await self._send(message)
                noted.append(True)
            except VdrError as error:
                # The catalog does not work: what was sent would be sent again and again, so take a rest.
                log.warning("outcome of a message not noted reason=%s", error.message)
                noted.append(False)

        async with trio.open_nursery() as nursery:
            for message in waiting:
                nursery.start_soon(send, message)
        return noted

    async def _send(self, waiting: channels.Waiting) -> None:
        """Send one message and write down how it went. Raises VdrError only for a catalog that does not
        work."""

        def read(connection: sqlite3.Connection) -> tuple[channels.Channel, AlertInfo | None]:
            channel = channels.get(connection, TENANT_DEFAULT, waiting.channel_id, self._clock())
            return channel, alerts.get(connection, waiting.alert_id)

        try:
            channel, alert = await self._catalog.read(read)
        except NotFound:
            # Deleted meanwhile, and this message with it.
            return
        if alert is None:
            return
        try:
            settings = self.unseal(channel.channel_id, channel.sealed)
            await self._deliver(settings, alert, waiting.event)
        except VdrError as error:
            tries = waiting.attempts
            again = self._clock() + AGAIN_SECONDS[tries] * 1000 if tries < len(AGAIN_SECONDS) else None
            await self._catalog.write(
                channels.note_failed, waiting.delivery_id, str(error), self._clock(), again
            )
            log.warning("message not delivered channel=%s reason=%s", channel.name, error)
            return
        await self._catalog.write(channels.note_sent, waiting.delivery_id, self._clock())
        log.info("message sent channel=%s alert=%s event=%s", channel.name, alert.id, waiting.event)

    async def _deliver(self, settings: ChannelSettings, alert: AlertInfo, event: str) -> None:
        await self.deliver(
            settings,
            messages.subject_of(alert, event),
            messages.text_of(alert, event),
            messages.json_of(alert, event),
        )

    async def deliver(
        self, settings: ChannelSettings, subject: str, text: str, document: dict[str, object]
    ) -> None:
        """Send now. Raises NotDelivered."""
        await trio.to_thread.run_sync(
            partial(carriers.deliver, settings, subject, text, document),
            limiter=self._limiter,
            abandon_on_cancel=True,
        )
