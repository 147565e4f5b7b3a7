"""Is everything protected, and if not, what to do? Pure: hosts and jobs in, a verdict and a list of things to
do out.

A host is protected when a job covers it, its newest point is younger than the job promises, and its last run
worked; at risk when one of these failed but there is a point; unprotected when no job covers it or it has no
point.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from schemas import api

_GRACE = 1.5
"""A point may be this much older than the schedule's interval before the host counts as at risk."""
_BY_HAND_DAYS = 7
"""Without a schedule a point counts as fresh for so long."""


class Protection(StrEnum):
    """The state of a host."""

    PROTECTED = "protected"
    AT_RISK = "at-risk"
    UNPROTECTED = "unprotected"


@dataclass(frozen=True, slots=True)
class HostProtection:
    """A host, its state, and why."""

    host: api.HostInfo
    protection: Protection
    reason: str
    """Key of the sentence: `no-job`, `no-point`, `stale`, `failed`, `offline`, or `fine`."""
    job: api.JobInfo | None


@dataclass(frozen=True, slots=True)
class Verdict:
    """All hosts together."""

    hosts: tuple[HostProtection, ...]
    protected: int
    at_risk: int
    unprotected: int

    @property
    def total(self) -> int:
        """Number of hosts."""
        return len(self.hosts)

    @property
    def to_do(self) -> list[HostProtection]:
        """Hosts that need somebody, the worst first."""
        rank = {Protection.UNPROTECTED: 0, Protection.AT_RISK: 1}
        return sorted(
            (host for host in self.hosts if host.protection in rank),
            key=lambda host: (rank[host.protection], host.host.name),
        )


def interval_seconds(job: api.JobInfo) -> float | None:
    """Longest time between two runs that the job's schedules promise; None without any that is active."""
    if not job.is_enabled or not job.schedules:
        return None
    return api.longest_gap_seconds(job.schedules)


def judge(hosts: Iterable[api.HostInfo], jobs: Iterable[api.JobInfo], now: datetime) -> Verdict:
    """The verdict over all hosts. Revoked hosts do not count."""
    jobs_of: dict[str, list[api.JobInfo]] = {}
    for job in jobs:
        for source in job.sources:
            jobs_of.setdefault(source.host_id, []).append(job)
    judged = tuple(
        _judge_host(host, jobs_of.get(host.id, []), now)
        for host in hosts
        if host.presence != api.Presence.REVOKED
    )
    return Verdict(
        judged,
        *(
            sum(host.protection == state for host in judged)
            for state in (Protection.PROTECTED, Protection.AT_RISK, Protection.UNPROTECTED)
        ),
    )


def _judge_host(host: api.HostInfo, jobs: list[api.JobInfo], now: datetime) -> HostProtection:
    if not jobs:
        return HostProtection(host, Protection.UNPROTECTED, "no-job", None)
    if host.last_success_at is None:
        return HostProtection(host, Protection.UNPROTECTED, "no-point", jobs[0])
    for job in jobs:
        if job.last_run_state == api.RunState.FAILED:
            return HostProtection(host, Protection.AT_RISK, "failed", job)
    promised = min(
        (seconds for job in jobs if (seconds := interval_seconds(job)) is not None),
        default=_BY_HAND_DAYS * 86400 / _GRACE,
    )
    if now - host.last_success_at > timedelta(seconds=promised * _GRACE):
        reason = "offline" if host.presence != api.Presence.ONLINE else "stale"
        return HostProtection(host, Protection.AT_RISK, reason, jobs[0])
    return HostProtection(host, Protection.PROTECTED, "fine", jobs[0])
