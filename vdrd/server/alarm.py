"""Turns conditions into alerts, and alerts into messages. The catalog holds both; nothing here must survive
a restart.

- A condition opens one alert, however often it shows, and a lasting one (something is offline) only after it
  held for a moment.
- The alert closes by itself when the condition has ended; a lasting one only after it stayed away for some
  minutes, so that a link that comes and goes is one alert and not fifty.
- An alert closed by hand stays silent until its condition ends or shows anew (another failed run).
"""

import logging
import sqlite3
from dataclasses import dataclass

import trio

from schemas.api.words import AlertKind, AlertLevel
from vdrd.catalog import alerts, channels
from vdrd.catalog.conditions import Condition, Present, all_conditions
from vdrd.catalog.database import Catalog
from vdrd.model.errors import VdrError
from vdrd.net.identity import Role
from vdrd.server.clock import Clock
from vdrd.server.events import Feed
from vdrd.server.messenger import Messenger
from vdrd.server.peers import Peers

log = logging.getLogger(__name__)

LOOK_SECONDS = 15.0
"""The longest between two looks: what no event tells of, such as silence, is noticed within it."""
LOOK_APART_SECONDS = 2.0
"""The shortest, so that a burst of events costs one look."""
NODE_GRACE_MS = 30_000

_LASTING = frozenset(
    {AlertKind.STORAGE_OFFLINE, AlertKind.STORAGE_SPACE, AlertKind.NODE_OFFLINE, AlertKind.HOST_OFFLINE}
)
_OPEN_AFTER_MS = {AlertKind.STORAGE_OFFLINE: 30_000}
_CLOSE_AFTER_MS = 300_000
_TOPICS = frozenset({"run", "storage", "node", "point", "channel"})

_Name = tuple[AlertKind, str]


@dataclass(frozen=True, slots=True)
class Changes:
    """What a look at the conditions asks for."""

    to_open: list[Condition]
    to_show: list[tuple[str, Condition, AlertLevel, bool]]
    """Alert, condition, level from now on, and whether that is an escalation."""
    to_end: list[str]
    """Alerts."""

    @property
    def is_empty(self) -> bool:
        """True if everything is as it was."""
        return not (self.to_open or self.to_show or self.to_end)


class Alarm:
    """The task that watches. `wake` makes it look at once."""

    def __init__(
        self,
        catalog: Catalog,
        peers: Peers,
        feed: Feed,
        messenger: Messenger,
        *,
        host_offline_hours: float,
        clock: Clock,
    ) -> None:
        self._catalog = catalog
        self._peers = peers
        self._feed = feed
        self._messenger = messenger
        self._host_grace_ms = round(host_offline_hours * 3_600_000)
        self._clock = clock
        self._started_ms = clock()
        self._since: dict[_Name, int] = {}
        """When a condition that has no alert yet was first seen."""
        self._gone: dict[_Name, int] = {}
        """When a condition that has an alert was first missed."""

    async def run(self) -> None:
        """Watch for ever."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._messenger.run)
            after = self._feed.newest
            while True:
                try:
                    await self.look()
                except VdrError as error:
                    log.warning("alerts not brought up to date reason=%s", error.message)
                await trio.sleep(LOOK_APART_SECONDS)
                after = await self._news(after)

    async def _news(self, after: int) -> int:
        """Wait for an event that may change a condition, or for the time of the next look."""
        with trio.move_on_after(LOOK_SECONDS):
            while True:
                reply = await self._feed.poll(after, None, 1000, LOOK_SECONDS)
                after = reply.next_sequence
                if reply.has_missed or any(event.topic in _TOPICS for event in reply.items):
                    break
        return after

    async def look(self) -> None:
        """Bring the alerts up to date with the conditions."""
        present = Present(
            now_ms=self._clock(),
            started_ms=self._started_ms,
            online_hosts=self._peers.ids(Role.AGENT),
            online_nodes=self._peers.ids(Role.NODE),
            node_grace_ms=NODE_GRACE_MS,
            host_grace_ms=self._host_grace_ms,
        )

        def read(connection: sqlite3.Connection) -> tuple[list[Condition], dict[_Name, sqlite3.Row]]:
            return all_conditions(connection, present), alerts.live(connection)

        conditions, live = await self._catalog.read(read)
        changes = self._compare(conditions, live, present.now_ms)
        if changes.is_empty:
            return
        changed = await self._catalog.write(_apply, changes, present.now_ms)
        for alert_id in changed:
            self._feed.publish("alert", alert_id)
        self._messenger.wake()

    def _compare(self, conditions: list[Condition], live: dict[_Name, sqlite3.Row], now_ms: int) -> Changes:
        changes = Changes([], [], [])
        held = {(condition.kind, condition.key): condition for condition in conditions}
        self._since = {
            name: since for name, since in self._since.items() if name in held and name not in live
        }
        self._gone = {name: since for name, since in self._gone.items() if name in live and name not in held}
        for name, condition in held.items():
            row = live.get(name)
            if row is None:
                since = self._since.setdefault(name, now_ms)
                if now_ms - since >= _OPEN_AFTER_MS.get(condition.kind, 0):
                    changes.to_open.append(condition)
            elif row["is_muted"] and row["occurrence"] != condition.occurrence:
                changes.to_end.append(row["alert_id"])
                changes.to_open.append(condition)
            elif not row["is_muted"]:
                before = AlertLevel(row["level"])
                level = max(before, condition.level, key=alerts.rank)
                said = (row["occurrence"], row["text"], row["subject"])
                if level is not before or said != (condition.occurrence, condition.text, condition.subject):
                    changes.to_show.append((row["alert_id"], condition, level, level is not before))
        for name, row in live.items():
            if name not in held:
                since = self._gone.setdefault(name, now_ms)
                if now_ms - since >= (_CLOSE_AFTER_MS if name[0] in _LASTING else 0):
                    changes.to_end.append(row["alert_id"])
        return changes


def _apply(connection: sqlite3.Connection, changes: Changes, now_ms: int) -> list[str]:
    """Write the changes and queue the messages they are worth. Returns the ids of the changed alerts."""
    changed = []
    for alert_id in changes.to_end:
        if alerts.end(connection, alert_id, now_ms):
            channels.queue_ended(connection, alert_id, now_ms)
            log.info("alert closed alert=%s", alert_id)
        changed.append(alert_id)
    for condition in changes.to_open:
        alert_id = alerts.open_alert(connection, condition, now_ms)
        _tell(connection, alert_id, condition, "opened", now_ms)
        log.warning("alert opened alert=%s kind=%s subject=%s", alert_id, condition.kind, condition.subject)
        changed.append(alert_id)
    for alert_id, condition, level, is_escalated in changes.to_show:
        alerts.show_again(connection, alert_id, condition, level, now_ms)
        if is_escalated:
            _tell(connection, alert_id, condition, "escalated", now_ms)
            log.warning("alert escalated alert=%s level=%s", alert_id, level)
        changed.append(alert_id)
    return changed


def _tell(
    connection: sqlite3.Connection, alert_id: str, condition: Condition, event: str, now_ms: int
) -> None:
    levels = [level for level in AlertLevel if alerts.rank(level) <= alerts.rank(condition.level)]
    channels.queue(connection, alert_id, event, tenant_id=condition.tenant_id, levels=levels, now_ms=now_ms)
