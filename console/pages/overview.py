"""Is everything protected, and if not, what do I do?"""

import asyncio

from quart import Blueprint

from console.context import ask, parts, who
from console.pages.frame import Answer, render, signed_in
from console.pictures import ribbon, ring
from console.protection import judge
from console.shown import hours_ago
from schemas import api

blueprint = Blueprint("overview", __name__)

RIBBON_HOURS = 24
_RUNS_SHOWN = 8


async def _hosts(permissions: set[api.Permission]) -> list[api.HostInfo]:
    if api.Permission.HOSTS_READ not in permissions:
        return []
    return (await ask(api.HostList(limit=api.PAGE_LIMIT_MAX), api.HostPage)).items


async def _jobs(permissions: set[api.Permission]) -> list[api.JobInfo]:
    if api.Permission.JOBS_READ not in permissions:
        return []
    return (await ask(api.JobList(limit=api.PAGE_LIMIT_MAX), api.JobPage)).items


async def _runs(permissions: set[api.Permission]) -> list[api.RunInfo]:
    if api.Permission.JOBS_READ not in permissions:
        return []
    since = hours_ago(parts().now(), RIBBON_HOURS)
    return (await ask(api.RunList(since=since, limit=500), api.RunPage)).items


async def _storages(permissions: set[api.Permission]) -> list[api.StorageInfo]:
    if api.Permission.STORAGES_READ not in permissions:
        return []
    return (await ask(api.StorageList(limit=50), api.StoragePage)).items


@blueprint.get("/")
@signed_in
async def show() -> Answer:
    """The overview."""
    permissions = set((await who()).permissions)
    status, hosts, jobs, runs, storages = await asyncio.gather(
        ask(api.SystemStatus(), api.SystemStatusReply),
        _hosts(permissions),
        _jobs(permissions),
        _runs(permissions),
        _storages(permissions),
    )
    now = parts().now()
    verdict = judge(hosts, jobs, now)
    return await render(
        "overview.html",
        "overview",
        status_now=status,
        verdict=verdict,
        ring=ring((("good", verdict.protected), ("warn", verdict.at_risk), ("bad", verdict.unprotected))),
        ribbon=ribbon(runs, now, hours=RIBBON_HOURS, width=1000.0),
        runs=runs[:_RUNS_SHOWN],
        run_count=len(runs),
        failed_count=sum(run.state == api.RunState.FAILED for run in runs),
        warning_count=sum(run.state == api.RunState.WARNING for run in runs),
        storages=storages,
        jobs=jobs,
    )
