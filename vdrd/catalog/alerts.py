"""Alerts: opening, showing again, ending; and what people do with them.

An alert is *live* while it is open or acknowledged, or while it was closed by hand although its condition
still holds (*muted*). There is one live alert for a condition at most.
"""

import sqlite3
from collections.abc import Sequence
from uuid import uuid4

from schemas.api.alerts import AlertCountsReply, AlertInfo, AlertList
from schemas.api.words import AlertKind, AlertLevel, AlertState
from vdrd.catalog.conditions import Condition
from vdrd.catalog.paging import Filter, page
from vdrd.catalog.times import from_ms, from_ms_or_none, to_ms

SYSTEM = "system"
_LEVELS = tuple(AlertLevel)


def rank(level: AlertLevel) -> int:
    """Levels in order, least first."""
    return _LEVELS.index(level)


def _info(row: sqlite3.Row) -> AlertInfo:
    return AlertInfo(
        id=row["alert_id"],
        kind=AlertKind(row["kind"]),
        level=AlertLevel(row["level"]),
        state=AlertState(row["state"]),
        subject=row["subject"],
        text=row["text"],
        job_id=row["job_id"],
        host_id=row["host_id"],
        storage_id=row["storage_id"],
        node_id=row["node_id"],
        run_id=row["occurrence"] or None,
        count=row["count"],
        opened_at=from_ms(row["opened_at_ms"]),
        last_at=from_ms(row["last_at_ms"]),
        acknowledged_by=row["acknowledged_by"],
        acknowledged_at=from_ms_or_none(row["acknowledged_at_ms"]),
        closed_by=row["closed_by"],
        closed_at=from_ms_or_none(row["closed_at_ms"]),
    )


def get(connection: sqlite3.Connection, alert_id: str) -> AlertInfo | None:
    """The alert, None if there is none."""
    row = connection.execute("SELECT * FROM alerts WHERE alert_id = ?", [alert_id]).fetchone()
    return None if row is None else _info(row)


def list_page(
    connection: sqlite3.Connection, tenant_id: str, request: AlertList
) -> tuple[list[AlertInfo], str | None]:
    """Alerts, newest first."""
    conditions = (
        Filter()
        .equals("tenant_id", tenant_id)
        .any_of("state", request.states)
        .any_of("level", request.levels)
        .any_of("kind", request.kinds)
        .equals("host_id", request.host_id)
        .equals("job_id", request.job_id)
        .equals("storage_id", request.storage_id)
    )
    if request.since is not None:
        conditions.where("opened_at_ms >= ?", to_ms(request.since))
    if request.until is not None:
        conditions.where("opened_at_ms < ?", to_ms(request.until))
    return page(
        connection,
        "SELECT * FROM alerts",
        conditions,
        key=["sequence"],
        cursor=request.cursor,
        limit=request.limit,
        make=_info,
        descending=True,
    )


def counts(connection: sqlite3.Connection, tenant_id: str) -> AlertCountsReply:
    """How many need somebody."""
    found = {
        (row["state"], row["level"]): int(row["number"])
        for row in connection.execute(
            "SELECT state, level, count(*) AS number FROM alerts"
            " WHERE state IN ('open', 'acknowledged') AND tenant_id = ? GROUP BY state, level",
            [tenant_id],
        )
    }
    open_by_level = {level: found.get((AlertState.OPEN, level), 0) for level in AlertLevel}
    return AlertCountsReply(
        critical=open_by_level[AlertLevel.CRITICAL],
        warning=open_by_level[AlertLevel.WARNING],
        info=open_by_level[AlertLevel.INFO],
        acknowledged=sum(found.get((AlertState.ACKNOWLEDGED, level), 0) for level in AlertLevel),
    )


def live(connection: sqlite3.Connection) -> dict[tuple[AlertKind, str], sqlite3.Row]:
    """Rows of the live alerts, by the condition they stand for."""
    rows = connection.execute("SELECT * FROM alerts WHERE state <> 'closed' OR is_muted = 1")
    return {(AlertKind(row["kind"]), row["subject_key"]): row for row in rows}


def open_alert(connection: sqlite3.Connection, condition: Condition, now_ms: int) -> str:
    """A condition began: a new alert. Returns its id."""
    alert_id = str(uuid4())
    connection.execute(
        "INSERT INTO alerts (alert_id, sequence, tenant_id, kind, subject_key, subject, occurrence,"
        " level, state,"
        " text, job_id, host_id, storage_id, node_id, opened_at_ms, last_at_ms) VALUES"
        " (?, (SELECT coalesce(max(sequence), 0) + 1 FROM alerts), ?, ?, ?, ?, ?, ?, 'open', ?, ?, ?, ?,"
        " ?, ?, ?)",
        [
            alert_id,
            condition.tenant_id,
            condition.kind,
            condition.key,
            condition.subject,
            condition.occurrence,
            condition.level,
            condition.text,
            condition.job_id,
            condition.host_id,
            condition.storage_id,
            condition.node_id,
            now_ms,
            now_ms,
        ],
    )
    return alert_id


def show_again(
    connection: sqlite3.Connection, alert_id: str, condition: Condition, level: AlertLevel, now_ms: int
) -> None:
    """The condition of a live alert showed anew, or said something else."""
    connection.execute(
        "UPDATE alerts SET count = count + (occurrence <> ?), occurrence = ?, text = ?, subject = ?,"
        " level = ?,"
        " last_at_ms = ? WHERE alert_id = ?",
        [
            condition.occurrence,
            condition.occurrence,
            condition.text,
            condition.subject,
            level,
            now_ms,
            alert_id,
        ],
    )


def end(connection: sqlite3.Connection, alert_id: str, now_ms: int) -> bool:
    """The condition ended. True if that closed the alert, False if somebody had closed it before."""
    closed = connection.execute(
        "UPDATE alerts SET state = 'closed', closed_by = ?, closed_at_ms = ?"
        " WHERE alert_id = ? AND state <> 'closed'",
        [SYSTEM, now_ms, alert_id],
    ).rowcount
    connection.execute("UPDATE alerts SET is_muted = 0 WHERE alert_id = ?", [alert_id])
    return bool(closed)


def acknowledge(
    connection: sqlite3.Connection, tenant_id: str, ids: Sequence[str], user_name: str, now_ms: int
) -> list[str]:
    """Open alerts of these that somebody now looks after; their ids."""
    return [
        alert_id
        for alert_id in ids
        if connection.execute(
            "UPDATE alerts SET state = 'acknowledged', acknowledged_by = ?, acknowledged_at_ms = ?"
            " WHERE alert_id = ? AND tenant_id = ? AND state = 'open'",
            [user_name, now_ms, alert_id, tenant_id],
        ).rowcount
    ]


def close(
    connection: sqlite3.Connection, tenant_id: str, ids: Sequence[str], user_name: str, now_ms: int
) -> list[str]:
    """Alerts of these that are closed by hand now; their ids. Muted until their condition ends."""
    return [
        alert_id
        for alert_id in ids
        if connection.execute(
            "UPDATE alerts SET state = 'closed', closed_by = ?, closed_at_ms = ?, is_muted = 1"
            " WHERE alert_id = ? AND tenant_id = ? AND state <> 'closed'",
            [user_name, now_ms, alert_id, tenant_id],
        ).rowcount
    ]
