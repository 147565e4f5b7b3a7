"""What is wrong now, read from the catalog: every condition an alert may stand for. Reads only.

A condition is found afresh each time, so nothing is forgotten by a crash and nothing stays once it is mended.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

import msgspec

from schemas.api.jobs import JobOptions
from schemas.api.schedules import Schedule, longest_gap_seconds
from schemas.api.words import AlertKind, AlertLevel
from vdrd.catalog import settings
from vdrd.catalog.settings import TENANT_DEFAULT

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS

SPACE_WARNING_SHARE = 0.15
SPACE_CRITICAL_SHARE = 0.05
CERTIFICATE_DAYS = 14
"""A machine renews in the last third of its certificate's life; that near to the end it has failed to for
long."""


@dataclass(frozen=True, slots=True)
class Condition:
    """Something wrong. `kind` and `key` name it; `occurrence` tells one time it showed from another."""

    kind: AlertKind
    key: str
    subject: str
    level: AlertLevel
    text: str
    occurrence: str = ""
    tenant_id: str = TENANT_DEFAULT
    job_id: str | None = None
    host_id: str | None = None
    storage_id: str | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class Present:
    """What the catalog does not know: who is online, and how long the server has been up."""

    now_ms: int
    started_ms: int
    online_hosts: frozenset[str]
    online_nodes: frozenset[str]
    node_grace_ms: int
    host_grace_ms: int

    def is_away(self, last_seen_ms: int | None, grace_ms: int) -> bool:
        """True for a machine without a link, if it had the time to make one."""
        since = max(last_seen_ms or 0, self.started_ms)
        return self.now_ms - since > grace_ms


def patience_hours(schedules: list[Schedule], options: JobOptions) -> float | None:
    """After how many hours without a success somebody is told; None: never."""
    if options.alert_hours is not None:
        return float(options.alert_hours)
    gap_seconds = longest_gap_seconds(schedules)
    # Half as long again and two hours: a daily job may be late, or fail once and succeed at the retry.
    return None if gap_seconds is None else gap_seconds / 3600 * 1.5 + 2


def all_conditions(connection: sqlite3.Connection, present: Present) -> list[Condition]:
    """Everything that is wrong now."""
    return list(
        chain(
            _runs(connection, present),
            _upkeep(connection),
            _damage(connection),
            _storages(connection, present),
            _nodes(connection, present),
            _hosts(connection, present),
            _certificates(connection, present),
            _channels(connection),
            _metadata(connection),
        )
    )


_LATEST = (
    "(SELECT run_id FROM runs WHERE runs.job_id = pairs.job_id AND runs.host_id = pairs.host_id"
    " AND ended_at_ms IS NOT NULL AND state <> 'cancelled' ORDER BY sequence DESC LIMIT 1)"
)
_SUCCESS = (
    "(SELECT ended_at_ms FROM runs WHERE runs.job_id = pairs.job_id AND runs.host_id = pairs.host_id"
    " AND state IN ('done', 'warning') ORDER BY sequence DESC LIMIT 1)"
)


def _runs(connection: sqlite3.Connection, present: Present) -> Iterator[Condition]:
    rows = connection.execute(
        "SELECT pairs.job_id, pairs.host_id, jobs.tenant_id, jobs.name AS job_name, hosts.name AS host_name,"
        " jobs.is_enabled, jobs.schedules_json, jobs.options_json, jobs.created_at_ms, jobs.storage_id,"
        f" {_SUCCESS} AS success_ms, last.run_id, last.state, last.error, last.warning_count"
        " FROM (SELECT DISTINCT job_id, host_id FROM job_sources) AS pairs JOIN jobs USING (job_id)"
        f" JOIN hosts USING (host_id) LEFT JOIN runs AS last ON last.run_id = {_LATEST}"
    )
    for row in rows:
        subject = f"{row['job_name']} on {row['host_name']}"
        place: dict[str, Any] = {
            "key": f"{row['job_id']} {row['host_id']}",
            "subject": subject,
            "tenant_id": row["tenant_id"],
            "job_id": row["job_id"],
            "host_id": row["host_id"],
            "storage_id": row["storage_id"],
        }
        if row["state"] == "failed":
            yield Condition(
                AlertKind.RUN_FAILED,
                level=AlertLevel.CRITICAL,
                text=f"The latest run of {subject} failed: {row['error']}",
                occurrence=row["run_id"],
                **place,
            )
        elif row["state"] == "warning":
            yield Condition(
                AlertKind.RUN_WARNINGS,
                level=AlertLevel.WARNING,
                text=f"The latest run of {subject} left out {row['warning_count']} things it could not read;"
                " its log lists them",
                occurrence=row["run_id"],
                **place,
            )
        if row["is_enabled"]:
            yield from _success(row, present, place)


def _success(row: sqlite3.Row, present: Present, place: dict[str, Any]) -> Iterator[Condition]:
    schedules = msgspec.json.decode(row["schedules_json"], type=list[Schedule])
    hours = patience_hours(schedules, msgspec.json.decode(row["options_json"], type=JobOptions))
    if hours is None:
        return
    succeeded_ms = row["success_ms"]
    if succeeded_ms is not None and succeeded_ms > present.now_ms:
        # The clock was ahead then: nobody knows how long ago that was.
        succeeded_ms = None
    since_ms = row["created_at_ms"] if succeeded_ms is None else succeeded_ms
    if present.now_ms - since_ms > hours * _HOUR_MS:
        what = "never succeeded" if row["success_ms"] is None else "has not succeeded"
        yield Condition(
            AlertKind.NO_SUCCESS,
            level=AlertLevel.CRITICAL,
            text=f"{place['subject']} {what} for more than {hours:.0f} hours. Look at its latest run",
            **place,
        )


def _upkeep(connection: sqlite3.Connection) -> Iterator[Condition]:
    """Failed verifications and collections: the latest of each storage and kind."""
    rows = connection.execute(
        "SELECT storages.storage_id, storages.tenant_id, storages.name, runs.run_id, runs.kind, runs.state,"
        " runs.error FROM storages JOIN (SELECT 'verify' AS kind UNION SELECT 'collect') AS kinds"
        " JOIN runs ON runs.run_id = (SELECT run_id FROM runs WHERE runs.storage_id = storages.storage_id"
        " AND runs.kind = kinds.kind AND runs.kind IN ('verify', 'collect')"
        " AND ended_at_ms IS NOT NULL AND state <> 'cancelled'"
        " ORDER BY sequence DESC LIMIT 1) WHERE runs.state = 'failed'"
    )
    for row in rows:
        yield Condition(
            AlertKind.RUN_FAILED,
            key=f"{row['kind']} {row['storage_id']}",
            subject=f"{row['kind']} of {row['name']}",
            level=AlertLevel.CRITICAL,
            text=f"The latest run of {row['kind']} on storage {row['name']} failed: {row['error']}",
            occurrence=row["run_id"],
            tenant_id=row["tenant_id"],
            storage_id=row["storage_id"],
        )


def _damage(connection: sqlite3.Connection) -> Iterator[Condition]:
    rows = connection.execute(
        "SELECT storage_id, tenant_id, name, object_name, count(*) AS number FROM points"
        " JOIN storages USING (storage_id) WHERE verified_ok = 0 GROUP BY storage_id, object_name"
    )
    for row in rows:
        yield Condition(
            AlertKind.DAMAGE,
            key=f"{row['storage_id']} {row['object_name']}",
            subject=f"{row['object_name']} in {row['name']}",
            level=AlertLevel.CRITICAL,
            text=f"{row['number']} points of {row['object_name']} in storage {row['name']} did not verify."
            " Run the job again, or repair the storage, then verify once more",
            tenant_id=row["tenant_id"],
            storage_id=row["storage_id"],
        )


def _storages(connection: sqlite3.Connection, present: Present) -> Iterator[Condition]:
    for row in connection.execute("SELECT * FROM storages"):
        place: dict[str, Any] = {
            "key": row["storage_id"],
            "subject": row["name"],
            "tenant_id": row["tenant_id"],
            "storage_id": row["storage_id"],
            "node_id": row["node_id"],
        }
        if not row["is_online"]:
            # A node that is away is one alert, not one for each of its storages.
            if row["node_id"] in present.online_nodes:
                problem = row["problem"] or "its node has not opened it"
                yield Condition(
                    AlertKind.STORAGE_OFFLINE,
                    level=AlertLevel.CRITICAL,
                    text=f"Storage {row['name']} cannot be used: {problem}",
                    **place,
                )
            continue
        if row["problem"]:
            yield Condition(
                AlertKind.DAMAGE,
                level=AlertLevel.CRITICAL,
                text=f"Storage {row['name']}: {row['problem']}. A verification names what suffers; the next"
                " backup mends what the source still has, a repair the rest",
                **place,
            )
        if row["capacity_bytes"] <= 0:
            continue
        free_share = row["free_bytes"] / row["capacity_bytes"]
        if free_share < SPACE_WARNING_SHARE:
            is_critical = free_share < SPACE_CRITICAL_SHARE
            limit = SPACE_CRITICAL_SHARE if is_critical else SPACE_WARNING_SHARE
            yield Condition(
                AlertKind.STORAGE_SPACE,
                level=AlertLevel.CRITICAL if is_critical else AlertLevel.WARNING,
                text=f"Less than {limit:.0%} of the space under storage {row['name']} is free. Shorten"
                " retention,"
                " collect, or enlarge its file system",
                **place,
            )


def _nodes(connection: sqlite3.Connection, present: Present) -> Iterator[Condition]:
    for row in connection.execute("SELECT * FROM nodes WHERE is_revoked = 0"):
        away = present.is_away(row["last_seen_at_ms"], present.node_grace_ms)
        if row["node_id"] not in present.online_nodes and away:
            yield Condition(
                AlertKind.NODE_OFFLINE,
                key=row["node_id"],
                subject=row["name"],
                level=AlertLevel.CRITICAL,
                text=f"Node {row['name']} has no link to the server: none of its storages can be used."
                " See whether it runs and reaches the server's address",
                node_id=row["node_id"],
            )


def _hosts(connection: sqlite3.Connection, present: Present) -> Iterator[Condition]:
    rows = connection.execute(
        "SELECT * FROM hosts WHERE is_revoked = 0 AND last_seen_at_ms IS NOT NULL AND EXISTS"
        " (SELECT 1 FROM job_sources WHERE job_sources.host_id = hosts.host_id)"
    )
    for row in rows:
        away = present.is_away(row["last_seen_at_ms"], present.host_grace_ms)
        if row["host_id"] not in present.online_hosts and away:
            yield Condition(
                AlertKind.HOST_OFFLINE,
                key=row["host_id"],
                subject=row["name"],
                level=AlertLevel.WARNING,
                text=f"Host {row['name']} has not been seen for {present.host_grace_ms // _HOUR_MS} hours and"
                " cannot be backed up. See whether it runs, and its agent with it",
                tenant_id=row["tenant_id"],
                host_id=row["host_id"],
            )


def _certificates(connection: sqlite3.Connection, present: Present) -> Iterator[Condition]:
    rows = connection.execute(
        "SELECT holder_id, max(not_after_ms) AS not_after_ms, nodes.name AS node_name, hosts.name AS"
        " host_name,"
        " hosts.tenant_id AS tenant_id FROM certificates"
        " LEFT JOIN nodes ON nodes.node_id = holder_id AND nodes.is_revoked = 0"
        " LEFT JOIN hosts ON hosts.host_id = holder_id AND hosts.is_revoked = 0"
        " WHERE revoked_at_ms IS NULL GROUP BY holder_id"
        " HAVING max(not_after_ms) < ? AND coalesce(node_name, host_name) IS NOT NULL",
        [present.now_ms + CERTIFICATE_DAYS * _DAY_MS],
    )
    for row in rows:
        is_node = row["node_name"] is not None
        name = row["node_name"] if is_node else row["host_name"]
        yield Condition(
            AlertKind.CERTIFICATE_ENDING,
            key=row["holder_id"],
            subject=name,
            level=AlertLevel.WARNING,
            text=f"The certificate of {name} ends within {CERTIFICATE_DAYS} days and was not renewed,"
            " which happens"
            " by itself while it is linked. Bring it online, or enrol it again",
            tenant_id=row["tenant_id"] or TENANT_DEFAULT,
            node_id=row["holder_id"] if is_node else None,
            host_id=None if is_node else row["holder_id"],
        )


def _channels(connection: sqlite3.Connection) -> Iterator[Condition]:
    rows = connection.execute(
        "SELECT channels.channel_id, channels.tenant_id, channels.name, last.error FROM channels"
        " JOIN deliveries AS last ON last.delivery_id = (SELECT delivery_id FROM deliveries"
        " WHERE deliveries.channel_id = channels.channel_id AND state <> 'waiting'"
        " ORDER BY delivery_id DESC LIMIT 1) WHERE last.state = 'failed' AND channels.is_enabled = 1"
    )
    for row in rows:
        yield Condition(
            AlertKind.CHANNEL_FAILING,
            key=row["channel_id"],
            subject=row["name"],
            level=AlertLevel.CRITICAL,
            text=f"Messages through {row['name']} do not arrive: {row['error']}. Mend its settings and"
            " send a test",
            tenant_id=row["tenant_id"],
        )


def _metadata(connection: sqlite3.Connection) -> Iterator[Condition]:
    plan = msgspec.json.decode(settings.get(connection, settings.METADATA_PLAN) or "{}", type=_Plan)
    if plan.error:
        yield Condition(
            AlertKind.METADATA,
            key="",
            subject="metadata backup",
            level=AlertLevel.CRITICAL,
            text=f"The server's metadata could not be saved: {plan.error}",
        )


class _Plan(msgspec.Struct):
    """Of the plan of metadata backups, what matters here."""

    error: str = ""
