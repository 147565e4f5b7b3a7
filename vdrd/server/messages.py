"""What people read about an alert: subject, text, and the JSON of webhooks. Pure."""

from datetime import UTC, datetime
from typing import Any

from schemas.api.alerts import AlertInfo
from schemas.api.words import AlertKind, AlertLevel

_TITLES = {
    AlertKind.RUN_FAILED: "run failed",
    AlertKind.RUN_WARNINGS: "run with warnings",
    AlertKind.NO_SUCCESS: "not backed up in time",
    AlertKind.DAMAGE: "damaged points",
    AlertKind.STORAGE_OFFLINE: "storage offline",
    AlertKind.STORAGE_SPACE: "storage nearly full",
    AlertKind.NODE_OFFLINE: "node offline",
    AlertKind.HOST_OFFLINE: "host offline",
    AlertKind.CERTIFICATE_ENDING: "certificate ends soon",
    AlertKind.METADATA: "metadata not saved",
    AlertKind.CHANNEL_FAILING: "messages do not arrive",
}
_MARKS = {AlertLevel.INFO: "Info", AlertLevel.WARNING: "Warning", AlertLevel.CRITICAL: "Critical"}


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def subject_of(alert: AlertInfo, event: str) -> str:
    """One line: how bad, what, where."""
    mark = "Closed" if event == "closed" else _MARKS[alert.level]
    line = f"[VDR] {mark}: {_TITLES[alert.kind]}: {alert.subject}"
    # A name with a line break must not add headers to a mail.
    return " ".join(line.split())[:200]


def text_of(alert: AlertInfo, event: str) -> str:
    """The whole message in plain text."""
    lines = [alert.text, ""]
    if event == "closed":
        by = "by itself: the condition has ended" if alert.closed_by == "system" else f"by {alert.closed_by}"
        lines = [f"This alert was closed {by}.", "", *lines]
    lines += [
        f"Level: {alert.level}",
        f"Since: {_moment(alert.opened_at)}",
        f"Shown: {alert.count} times, last {_moment(alert.last_at)}",
        f"Alert: {alert.id}",
    ]
    return "\n".join(lines)


def json_of(alert: AlertInfo, event: str) -> dict[str, Any]:
    """The document of a webhook; `docs/admin/alerts.md` states it."""
    return {
        "event": event,
        "id": alert.id,
        "kind": alert.kind,
        "level": alert.level,
        "state": alert.state,
        "subject": alert.subject,
        "text": alert.text,
        "count": alert.count,
        "opened_at": alert.opened_at.isoformat(),
        "last_at": alert.last_at.isoformat(),
        "closed_at": None if alert.closed_at is None else alert.closed_at.isoformat(),
        "job_id": alert.job_id,
        "host_id": alert.host_id,
        "storage_id": alert.storage_id,
        "node_id": alert.node_id,
        "run_id": alert.run_id,
    }
