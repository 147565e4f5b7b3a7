"""Calls about storages."""

from schemas.api.jobs import RunsStarted
from schemas.api.storages import (
    StorageCollect,
    StorageCreate,
    StorageDetach,
    StorageGet,
    StorageInfo,
    StorageKeyRotated,
    StorageList,
    StoragePage,
    StorageRotateKey,
    StorageStatistics,
    StorageStatisticsReply,
    StorageVerify,
)
from schemas.api.values import Done
from schemas.api.words import RunKind
from schemas.control import (
    Ack,
    PointsAsk,
    StorageAnswer,
    StorageClose,
    StorageKeyInForce,
    StorageKeyRotate,
    StorageMeasure,
    StorageMeasured,
    StorageOpen,
)
from vdrd.catalog import nodes, storages
from vdrd.model.errors import BadArgument, Conflict, VdrError
from vdrd.server.accounts import Caller
from vdrd.server.calls.solo import start_solo
from vdrd.server.launch import new_id
from vdrd.server.services import Services

_OPEN_SECONDS = 120.0
_MEASURE_SECONDS = 120.0


async def list_storages(services: Services, caller: Caller, request: StorageList) -> StoragePage:
    """Storages by name."""
    items, cursor = await services.catalog.read(storages.list_page, caller.tenant_id, request)
    return StoragePage(items=items, next_cursor=cursor)


async def get_storage(services: Services, _caller: Caller, request: StorageGet) -> StorageInfo:
    """One storage."""
    return await services.catalog.read(storages.get, request.id)


async def _placed(services: Services, node_id: str | None) -> str:
    if node_id is not None:
        return node_id
    ids = await services.catalog.read(nodes.all_ids)
    if len(ids) != 1:
        raise BadArgument(field="node_id", reason=f"say which of the {len(ids)} nodes")
    return ids[0]


async def create_storage(services: Services, caller: Caller, request: StorageCreate) -> StorageInfo:
    """Have the node make or attach it, then note it; if that fails the node lets go of it again."""
    node_id = await _placed(services, request.node_id)
    node = await services.catalog.read(nodes.get, node_id)
    await services.catalog.read(storages.check_free, node_id, request.name, request.path)
    storage_id = new_id()
    ask = StorageOpen(
        storage_id=storage_id,
        name=request.name,
        path=request.path,
        create=not request.attach,
        encryption=request.encryption,
        compression=request.compression,
        key_file=request.key_file,
    )
    answer = await services.peers.ask(node_id, f"node {node.name}", ask, StorageAnswer, _OPEN_SECONDS)
    try:
        await services.catalog.write(
            storages.create,
            tenant_id=caller.tenant_id,
            node_id=node_id,
            name=request.name,
            key_file=answer.key_file,
            announced=answer.storage,
            now_ms=services.clock(),
        )
    except VdrError:
        await services.peers.ask(node_id, f"node {node.name}", StorageClose(storage_id=storage_id), Ack)
        raise
    services.peers.note_storage_opened(node_id, storage_id)
    if request.attach:
        await services.peers.ask(node_id, f"node {node.name}", PointsAsk(storage_id=storage_id), Ack)
    services.feed.publish("storage", storage_id)
    return await services.catalog.read(storages.get, storage_id)


async def detach_storage(services: Services, _caller: Caller, request: StorageDetach) -> Done:
    """Forget a storage; its node closes it if it is online, and else when it registers next."""
    storage = await services.catalog.read(storages.get, request.id)
    await services.catalog.read(storages.check_unused, request.id)
    if (await services.metadata.plan()).storage_id == request.id:
        raise Conflict(what="metadata backups are copied into it", remedy="change their plan first")
    if services.peers.find(storage.node_id) is not None:
        await services.peers.ask(
            storage.node_id, f"node {storage.node_name}", StorageClose(storage_id=request.id), Ack
        )
    await services.catalog.write(storages.delete, request.id)
    services.feed.publish("storage", request.id)
    return Done()


async def measure_storage(
    services: Services, _caller: Caller, request: StorageStatistics
) -> StorageStatisticsReply:
    """Have the node measure it."""
    storage = await services.catalog.read(storages.get, request.id)
    answer = await services.peers.ask(
        storage.node_id,
        f"node {storage.node_name}",
        StorageMeasure(storage_id=request.id),
        StorageMeasured,
        _MEASURE_SECONDS,
    )
    return answer.statistics


async def rotate_storage_key(
    services: Services, _caller: Caller, request: StorageRotateKey
) -> StorageKeyRotated:
    """Have the node do it: the keys never leave it."""
    storage = await services.catalog.read(storages.get, request.id)
    ask = StorageKeyRotate(storage_id=request.id, drop_slots=request.drop_slots)
    answer = await services.peers.ask(
        storage.node_id, f"node {storage.node_name}", ask, StorageKeyInForce, _OPEN_SECONDS
    )
    return answer.rotated


async def verify_storage(services: Services, caller: Caller, request: StorageVerify) -> RunsStarted:
    """Queue a run that verifies every point."""
    return await start_solo(services, caller, RunKind.VERIFY, request.id, read_data=request.read_data)


async def collect_storage(services: Services, caller: Caller, request: StorageCollect) -> RunsStarted:
    """Queue a run that frees what no point uses."""
    return await start_solo(services, caller, RunKind.COLLECT, request.id)


HANDLERS = {
    "storage.list": list_storages,
    "storage.get": get_storage,
    "storage.create": create_storage,
    "storage.detach": detach_storage,
    "storage.statistics": measure_storage,
    "storage.verify": verify_storage,
    "storage.rotate_key": rotate_storage_key,
    "storage.collect": collect_storage,
}
