"""Calls about exports: instant recovery."""

import sqlite3

import msgspec

from schemas.api.points import ExportInfo, ExportList, ExportPage, ExportStart, ExportStop
from schemas.api.values import Done
from schemas.api.words import ObjectKind
from schemas.control import Ack, ExportAdd, ExportAdded, ExportRemove
from vdrd.catalog import exports, points, storages
from vdrd.catalog.exports import Export
from vdrd.model.errors import BadArgument, VdrError
from vdrd.server.accounts import Caller
from vdrd.server.launch import new_id
from vdrd.server.services import Services

_EXPORT_SECONDS = 60.0


def _live(services: Services, export: ExportInfo) -> ExportInfo:
    is_online = services.peers.find(export.node_id) is not None and bool(export.url)
    return msgspec.structs.replace(export, is_online=is_online)


async def list_exports(services: Services, caller: Caller, request: ExportList) -> ExportPage:
    """What is exported."""
    items, cursor = await services.catalog.read(exports.list_page, caller.tenant_id, request)
    return ExportPage(items=[_live(services, export) for export in items], next_cursor=cursor)


async def start_export(services: Services, caller: Caller, request: ExportStart) -> ExportInfo:
    """Have the node of the point's storage serve it."""
    point = await services.catalog.read(points.get, request.point_id)
    if point.kind is not ObjectKind.DISK:
        raise BadArgument(field="point_id", reason="only points of disks can be exported")
    storage = await services.catalog.read(storages.get, point.storage_id)
    export = Export(new_id(), storage.node_id, storage.id, point.id, request.is_writable)
    # Noted first: an export the node serves is never unknown here.
    await services.catalog.write(
        exports.create,
        export=export,
        tenant_id=caller.tenant_id,
        object_name=point.object_name,
        created_by=caller.name,
        now_ms=services.clock(),
    )
    try:
        await serve(services, export)
    except VdrError:
        await services.catalog.write(exports.delete, export.export_id)
        raise
    services.feed.publish("export", export.export_id)
    return _live(services, await services.catalog.read(exports.info, export.export_id))


async def serve(services: Services, export: Export) -> None:
    """Have the node serve an export; again after it restarted."""
    answer = await services.peers.ask(
        export.node_id,
        "the node of the storage",
        ExportAdd(
            export_id=export.export_id,
            storage_id=export.storage_id,
            point_id=export.point_id,
            is_writable=export.is_writable,
        ),
        ExportAdded,
        _EXPORT_SECONDS,
    )
    await services.catalog.write(exports.note_served, export.export_id, answer.url, answer.mount_command)


async def stop_export(services: Services, _caller: Caller, request: ExportStop) -> Done:
    """End an export and discard what was written over the point."""
    export = await services.catalog.read(exports.get, request.id)
    await services.peers.ask(
        export.node_id,
        "the node of the storage",
        ExportRemove(export_id=export.export_id),
        Ack,
        _EXPORT_SECONDS,
    )

    def work(connection: sqlite3.Connection) -> None:
        exports.delete(connection, request.id)

    await services.catalog.write(work)
    services.feed.publish("export", request.id)
    return Done()


HANDLERS = {"export.list": list_exports, "export.start": start_export, "export.stop": stop_export}
