"""One search over hosts, jobs, storages and points."""

import asyncio

from quart import Blueprint, request

from console.context import ask, who
from console.pages.frame import Answer, render, signed_in
from schemas import api
from vdrd.model.errors import NotFound

blueprint = Blueprint("search", __name__)

_EACH = 20


async def _point_by_id(query: str) -> list[api.PointInfo]:
    try:
        return [await ask(api.PointGet(id=query), api.PointInfo)]
    except NotFound:
        return []


@blueprint.get("/search")
@signed_in
async def show() -> Answer:
    """Everything that has the words in its name."""
    query = request.args.get("q", "").strip()[:200]
    permissions = set((await who()).permissions)
    hosts: list[api.HostInfo] = []
    jobs: list[api.JobInfo] = []
    storages: list[api.StorageInfo] = []
    points: list[api.PointInfo] = []
    if query:
        if api.Permission.HOSTS_READ in permissions:
            hosts = (await ask(api.HostList(search=query, limit=_EACH), api.HostPage)).items
        if api.Permission.JOBS_READ in permissions:
            jobs = (await ask(api.JobList(search=query, limit=_EACH), api.JobPage)).items
        if api.Permission.STORAGES_READ in permissions:
            every = (await ask(api.StorageList(limit=api.PAGE_LIMIT_MAX), api.StoragePage)).items
            storages = [storage for storage in every if query.lower() in storage.name.lower()][:_EACH]
        if api.Permission.POINTS_READ in permissions:
            named, by_id = await asyncio.gather(
                ask(api.PointList(object_name=query, limit=_EACH), api.PointPage), _point_by_id(query[:64])
            )
            points = [*by_id, *(point for point in named.items if point.id != query)]
    return await render(
        "search.html", "", query=query, hosts=hosts, jobs=jobs, storages=storages, points=points
    )
