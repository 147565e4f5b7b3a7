"""Calls about points: listing, browsing, verifying, forgetting, bringing back."""

import sqlite3

from schemas.api.hosts import FilePage
from schemas.api.jobs import RunsStarted
from schemas.api.points import (
    FilePart,
    PointBrowse,
    PointForget,
    PointForgetReply,
    PointGet,
    PointInfo,
    PointList,
    PointLock,
    PointPage,
    PointRead,
    PointVerify,
    RestoreStart,
)
from schemas.api.words import ObjectKind, RunKind
from schemas.control import (
    ListingAnswer,
    PointBrowseAsk,
    PointLockAnswer,
    PointLockAsk,
    PointPart,
    PointReadAsk,
    PointsForget,
    PointsForgotten,
    RestoreItem,
    RunSpec,
)
from vdrd.catalog import exports, hosts, points, runs, storages
from vdrd.model.errors import BadArgument, Conflict
from vdrd.server.accounts import Caller
from vdrd.server.calls.hosts import after_of, file_page
from vdrd.server.calls.solo import start_solo
from vdrd.server.launch import new_id
from vdrd.server.services import Services

_BROWSE_SECONDS = 70.0
"""A volume's reader takes at most 60 for one answer."""
_FORGET_SECONDS = 120.0
_LOCK_SECONDS = 60.0


async def list_points(services: Services, caller: Caller, request: PointList) -> PointPage:
    """Points, newest first."""
    items, cursor = await services.catalog.read(points.list_page, caller.tenant_id, request)
    return PointPage(items=items, next_cursor=cursor)


async def get_point(services: Services, _caller: Caller, request: PointGet) -> PointInfo:
    """One point."""
    return await services.catalog.read(points.get, request.id)


async def browse_point(services: Services, _caller: Caller, request: PointBrowse) -> FilePage:
    """List a directory of a point."""
    point = await services.catalog.read(points.get, request.id)
    storage = await services.catalog.read(storages.get, point.storage_id)
    ask = PointBrowseAsk(
        storage_id=storage.id,
        point_id=point.id,
        path=request.path,
        after=after_of(request.cursor),
        limit=request.limit,
    )
    answer = await services.peers.ask(
        storage.node_id, f"node {storage.node_name}", ask, ListingAnswer, _BROWSE_SECONDS
    )
    return file_page(request.path, answer)


async def read_point(services: Services, caller: Caller, request: PointRead) -> FilePart:
    """Read a part of a file of a point."""
    point = await services.catalog.read(points.get, request.id)
    storage = await services.catalog.read(storages.get, point.storage_id)
    ask = PointReadAsk(
        storage_id=storage.id,
        point_id=point.id,
        path=request.path,
        offset=request.offset,
        length=request.length,
    )
    answer = await services.peers.ask(
        storage.node_id, f"node {storage.node_name}", ask, PointPart, _BROWSE_SECONDS
    )
    await services.downloads.note(caller, request, len(answer.data))
    return FilePart(
        data=answer.data, size_bytes=answer.size_bytes, name=answer.name, modified_at=answer.modified_at
    )


async def verify_point(services: Services, caller: Caller, request: PointVerify) -> RunsStarted:
    """Queue a run that verifies one point."""
    point = await services.catalog.read(points.get, request.id)
    return await start_solo(
        services, caller, RunKind.VERIFY, point.storage_id, point_ids=[point.id], read_data=request.read_data
    )


async def forget_points(services: Services, _caller: Caller, request: PointForget) -> PointForgetReply:
    """Forget points. Refused as a whole if one of them is exported."""
    by_storage: dict[str, list[str]] = {}
    for point_id in dict.fromkeys(request.ids):
        point = await services.catalog.read(points.get, point_id)
        if await services.catalog.read(exports.of_point, point_id):
            raise Conflict(what=f"point {point_id} is exported", remedy="stop the export first")
        by_storage.setdefault(point.storage_id, []).append(point_id)
    forgotten: list[str] = []
    for storage_id, point_ids in by_storage.items():
        forgotten += await forget(services, storage_id, point_ids)
    return PointForgetReply(forgotten_ids=forgotten)


async def forget(services: Services, storage_id: str, point_ids: list[str]) -> list[str]:
    """Have the node drop points of a storage, then drop them from the catalog. Returns what is gone."""
    storage = await services.catalog.read(storages.get, storage_id)
    answer = await services.peers.ask(
        storage.node_id,
        f"node {storage.node_name}",
        PointsForget(storage_id=storage_id, point_ids=point_ids),
        PointsForgotten,
        _FORGET_SECONDS,
    )
    await services.catalog.write(points.drop, storage_id, answer.point_ids)
    for point_id in answer.point_ids:
        services.feed.publish("point", point_id)
    return answer.point_ids


async def lock_point(services: Services, _caller: Caller, request: PointLock) -> PointInfo:
    """Have the node lock or hold a point, by the storage's own time, and note it."""
    if request.until is None and request.is_held is None:
        raise BadArgument(field="until", reason="say until when, or whether it is held")
    point = await services.catalog.read(points.get, request.id)
    storage = await services.catalog.read(storages.get, point.storage_id)
    answer = await services.peers.ask(
        storage.node_id,
        f"node {storage.node_name}",
        PointLockAsk(storage_id=storage.id, point_id=point.id, until=request.until, is_held=request.is_held),
        PointLockAnswer,
        _LOCK_SECONDS,
    )
    await services.catalog.write(points.note_lock, storage.id, answer.point)
    services.feed.publish("point", point.id)
    return await services.catalog.read(points.get, point.id)


async def start_restore(services: Services, caller: Caller, request: RestoreStart) -> RunsStarted:
    """Queue a run that brings a point back."""
    run_id, batch_id = new_id(), new_id()

    def work(connection: sqlite3.Connection) -> None:
        point = points.get(connection, request.point_id)
        host_id = request.host_id or point.host_id
        if host_id is None:
            raise BadArgument(field="host_id", reason="its host is not known here: say which one")
        host = hosts.get(connection, host_id)
        is_disk = point.kind is ObjectKind.DISK
        if is_disk and request.paths and request.target_path is None:
            raise BadArgument(field="target_path", reason="files of a disk need a directory to go to")
        target_path = request.target_path or point.source
        if not target_path.startswith("/"):
            raise BadArgument(field="target_path", reason=f"{target_path} is not an absolute path")
        spec = RunSpec(
            run_id=run_id,
            attempt=1,
            kind=RunKind.RESTORE_DISK if is_disk and not request.paths else RunKind.RESTORE_FILES,
            storage_id=point.storage_id,
            host_id=host.id,
            host_name=host.name,
            restore=RestoreItem(
                point_id=point.id, target_path=target_path, paths=request.paths, overwrite=request.overwrite
            ),
        )
        runs.create(
            connection,
            spec=spec,
            tenant_id=caller.tenant_id,
            batch_id=batch_id,
            job_name="",
            storage_name=point.storage_name,
            # A restore that was cut off has written something: a person decides whether to overwrite it.
            attempts_max=1,
            retry_seconds=30,
            created_by=caller.name,
            now_ms=services.clock(),
        )

    await services.catalog.write(work)
    await services.director.submit(run_id)
    return RunsStarted(batch_id=batch_id, run_ids=[run_id])


HANDLERS = {
    "point.list": list_points,
    "point.get": get_point,
    "point.browse": browse_point,
    "point.read": read_point,
    "point.verify": verify_point,
    "point.forget": forget_points,
    "point.lock": lock_point,
    "restore.start": start_restore,
}
