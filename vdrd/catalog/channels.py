"""Channels to people and the messages on their way. Settings are sealed: this module never sees a secret."""

import sqlite3
from dataclasses import dataclass
from datetime import datetime

from schemas.api.alerts import ChannelList, DeliveryInfo, DeliveryList
from schemas.api.words import AlertLevel, DeliveryState
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none
from vdrd.model.errors import Conflict, NotFound

_WEEK_MS = 7 * 86_400_000


def _select(now_ms: int) -> str:
    """The channels with how their messages fare."""
    return (
        "SELECT * FROM (SELECT channels.*,"
        " (SELECT max(ended_at_ms) FROM deliveries WHERE deliveries.channel_id = channels.channel_id"
        "  AND state = 'sent') AS sent_ms,"
        " (SELECT error FROM deliveries WHERE deliveries.channel_id = channels.channel_id AND attempts > 0"
        "  ORDER BY delivery_id DESC LIMIT 1) AS last_error,"
        " (SELECT count(*) FROM deliveries WHERE deliveries.channel_id = channels.channel_id"
        f"  AND state = 'failed' AND ended_at_ms > {now_ms - _WEEK_MS:d}) AS failed_count FROM channels)"
    )


@dataclass(frozen=True, slots=True)
class Channel:
    """A way to reach people, as the catalog keeps it."""

    channel_id: str
    name: str
    sealed: bytes
    least_level: AlertLevel
    is_enabled: bool
    last_sent_at: datetime | None
    last_error: str
    failed_count: int


@dataclass(frozen=True, slots=True)
class Waiting:
    """A message that is due."""

    delivery_id: int
    alert_id: str
    channel_id: str
    event: str
    attempts: int
    created_at_ms: int


def _channel(row: sqlite3.Row) -> Channel:
    return Channel(
        channel_id=row["channel_id"],
        name=row["name"],
        sealed=row["settings"],
        least_level=AlertLevel(row["least_level"]),
        is_enabled=bool(row["is_enabled"]),
        last_sent_at=from_ms_or_none(row["sent_ms"]),
        last_error=row["last_error"] or "",
        failed_count=row["failed_count"],
    )


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: ChannelList, now_ms: int
) -> tuple[list[Channel], str | None]:
    """The channels of a house, by name."""
    return page(
        connection,
        _select(now_ms),
        Filter().equals("tenant_id", tenant_id),
        key=["name"],
        cursor=request.cursor,
        limit=request.limit,
        make=_channel,
    )


def get(connection: sqlite3.Connection, tenant_id: str, channel_id: str, now_ms: int) -> Channel:
    """One channel. Raises NotFound."""
    row = connection.execute(
        f"{_select(now_ms)} WHERE channel_id = ? AND tenant_id = ?", [channel_id, tenant_id]
    ).fetchone()
    if row is None:
        raise NotFound(what="channel", name=channel_id)
    return _channel(row)


def create(
    connection: sqlite3.Connection,
    *,
    channel_id: str,
    tenant_id: str,
    name: str,
    sealed: bytes,
    least_level: AlertLevel,
    now_ms: int,
) -> None:
    """Add a channel. Raises Conflict if the name is taken."""
    try:
        connection.execute(
            "INSERT INTO channels (channel_id, tenant_id, name, settings, least_level, created_at_ms)"
            " VALUES (?, ?, ?, ?, ?, ?)",
            [channel_id, tenant_id, name, sealed, least_level, now_ms],
        )
    except sqlite3.IntegrityError as error:
        raise _taken(name) from error


def _taken(name: str) -> Conflict:
    return Conflict(what=f"there is a channel {name} already", remedy="choose another name")


def change(
    connection: sqlite3.Connection,
    channel_id: str,
    *,
    name: str,
    sealed: bytes,
    least_level: AlertLevel,
    is_enabled: bool,
) -> None:
    """Write a channel anew. Raises Conflict if the name is taken."""
    try:
        connection.execute(
            "UPDATE channels SET name = ?, settings = ?, least_level = ?, is_enabled = ? WHERE channel_id"
            " = ?",
            [name, sealed, least_level, is_enabled, channel_id],
        )
    except sqlite3.IntegrityError as error:
        raise _taken(name) from error
    if not is_enabled:
        connection.execute("DELETE FROM deliveries WHERE channel_id = ? AND state = 'waiting'", [channel_id])


def delete(connection: sqlite3.Connection, tenant_id: str, channel_id: str) -> None:
    """Forget a channel and its messages. Raises NotFound."""
    sql = "DELETE FROM channels WHERE channel_id = ? AND tenant_id = ?"
    if not connection.execute(sql, [channel_id, tenant_id]).rowcount:
        raise NotFound(what="channel", name=channel_id)


def queue(
    connection: sqlite3.Connection,
    alert_id: str,
    event: str,
    *,
    tenant_id: str,
    levels: list[AlertLevel],
    now_ms: int,
) -> None:
    """Put a message in the queue of each channel that wants alerts of one of these least levels."""
    connection.execute(
        "INSERT INTO deliveries (alert_id, channel_id, event, not_before_ms, created_at_ms)"
        " SELECT ?, channel_id, ?, ?, ? FROM channels WHERE tenant_id = ? AND is_enabled = 1"
        f" AND least_level IN ({', '.join('?' * len(levels))})",
        [alert_id, event, now_ms, now_ms, tenant_id, *levels],
    )


def queue_ended(connection: sqlite3.Connection, alert_id: str, now_ms: int) -> None:
    """Tell the end of an alert where its beginning was told. A beginning still waiting is not told any
    more."""
    connection.execute("DELETE FROM deliveries WHERE alert_id = ? AND state = 'waiting'", [alert_id])
    connection.execute(
        "INSERT INTO deliveries (alert_id, channel_id, event, not_before_ms, created_at_ms)"
        " SELECT DISTINCT alert_id, channel_id, 'closed', ?, ? FROM deliveries JOIN channels USING"
        " (channel_id)"
        " WHERE alert_id = ? AND state = 'sent' AND event <> 'closed' AND is_enabled = 1",
        [now_ms, now_ms, alert_id],
    )


def due(connection: sqlite3.Connection, now_ms: int, limit: int) -> list[Waiting]:
    """Messages to send now, oldest first."""
    rows = connection.execute(
        "SELECT * FROM deliveries WHERE state = 'waiting' AND not_before_ms <= ? ORDER BY delivery_id"
        " LIMIT ?",
        [now_ms, limit],
    )
    return [
        Waiting(
            row["delivery_id"],
            row["alert_id"],
            row["channel_id"],
            row["event"],
            row["attempts"],
            row["created_at_ms"],
        )
        for row in rows
    ]


def hurry(connection: sqlite3.Connection, channel_id: str, now_ms: int) -> None:
    """What waits for another try through this channel need not wait any longer."""
    connection.execute(
        "UPDATE deliveries SET not_before_ms = ? WHERE channel_id = ? AND state = 'waiting'",
        [now_ms, channel_id],
    )


def note_sent(connection: sqlite3.Connection, delivery_id: int, now_ms: int) -> None:
    """The message went through."""
    connection.execute(
        "UPDATE deliveries SET state = 'sent', attempts = attempts + 1, error = '', ended_at_ms = ?"
        " WHERE delivery_id = ?",
        [now_ms, delivery_id],
    )


def note_failed(
    connection: sqlite3.Connection, delivery_id: int, error: str, now_ms: int, again_ms: int | None
) -> None:
    """The message did not go through; tried again at `again_ms`, given up if that is None."""
    connection.execute(
        "UPDATE deliveries SET state = ?, attempts = attempts + 1, error = ?, not_before_ms = ?,"
        " ended_at_ms = ?"
        " WHERE delivery_id = ?",
        [
            DeliveryState.FAILED if again_ms is None else DeliveryState.WAITING,
            error,
            now_ms if again_ms is None else again_ms,
            now_ms if again_ms is None else None,
            delivery_id,
        ],
    )


def list_deliveries(
    connection: sqlite3.Connection, tenant_id: str, request: DeliveryList
) -> tuple[list[DeliveryInfo], str | None]:
    """Messages, newest first."""
    conditions = (
        Filter()
        .equals("tenant_id", tenant_id)
        .equals("channel_id", request.channel_id)
        .equals("alert_id", request.alert_id)
        .equals("state", request.state)
    )
    return page(
        connection,
        "SELECT * FROM (SELECT deliveries.*, channels.tenant_id, channels.name AS channel_name,"
        " alerts.subject"
        " FROM deliveries JOIN channels USING (channel_id) JOIN alerts USING (alert_id))",
        conditions,
        key=["delivery_id"],
        cursor=request.cursor,
        limit=request.limit,
        make=_delivery,
        descending=True,
    )


def _delivery(row: sqlite3.Row) -> DeliveryInfo:
    return DeliveryInfo(
        id=row["delivery_id"],
        alert_id=row["alert_id"],
        channel_id=row["channel_id"],
        channel_name=row["channel_name"],
        subject=row["subject"],
        event=row["event"],
        state=DeliveryState(row["state"]),
        attempts=row["attempts"],
        error=row["error"],
        created_at=from_ms(row["created_at_ms"]),
        ended_at=from_ms_or_none(row["ended_at_ms"]),
    )
