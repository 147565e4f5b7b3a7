"""What the server asks of a node, and how it is answered. One handler for all links of a node's life."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import trio

from schemas.control import (
    Ack,
    ExportAdd,
    ExportRemove,
    MetadataPut,
    PointBrowseAsk,
    PointLockAsk,
    PointReadAsk,
    PointsAsk,
    PointsForget,
    PointsForgotten,
    PointsRetain,
    RevocationsPushed,
    RunCancel,
    RunDial,
    RunPrepare,
    RunRelease,
    StorageClose,
    StorageKeyInForce,
    StorageKeyRotate,
    StorageMeasure,
    StorageMeasured,
    StorageOpen,
    ToNode,
)
from vdrd.model.errors import Conflict, NotAuthorised, NotFound
from vdrd.net.identity import Role
from vdrd.net.link import Link
from vdrd.node.exports import NodeExports
from vdrd.node.listing import browse, read_part
from vdrd.node.looks import PointLooks
from vdrd.node.runs import NodeRuns
from vdrd.node.sampling import Sampling
from vdrd.node.storages import StorageKeeper
from vdrd.node.upkeep import Upkeep
from vdrd.store import metadata_folder

log = logging.getLogger(__name__)
_LOOKS_AT_ONCE = 8
"""Threads that look into points: disks that are slow or hostile keep no other work waiting."""


class NodeHandler:
    """Answers the server."""

    family = ToNode

    def __init__(
        self,
        keeper: StorageKeeper,
        runs: NodeRuns,
        exports: NodeExports,
        looks: PointLooks,
        upkeep: Upkeep,
        *,
        sampling: Sampling,
        announce: Callable[[str], None],
        revoke: Callable[[str], None],
    ) -> None:
        self._keeper = keeper
        self._runs = runs
        self._exports = exports
        self._looks = looks
        self._upkeep = upkeep
        self._sampling = sampling
        self._announce = announce
        self._revoke = revoke
        self._looks_limiter = trio.CapacityLimiter(_LOOKS_AT_ONCE)

    async def request(self, link: Link, message: Any) -> msgspec.Struct:
        """Answer a request; only the server's."""
        if link.peer.role is not Role.SERVER:
            raise NotAuthorised(reason="only the server directs a node")
        match message:
            case RunPrepare():
                return await self._runs.prepare(message)
            case RunDial():
                await self._runs.dial(message)
            case RunCancel():
                self._runs.cancel(message.run_id)
            case RunRelease():
                await self._runs.release(message.run_id)
            case PointBrowseAsk():
                storage = self._keeper.storage(message.storage_id)
                return await trio.to_thread.run_sync(
                    browse, self._looks, storage, message, limiter=self._looks_limiter
                )
            case PointReadAsk():
                storage = self._keeper.storage(message.storage_id)
                return await trio.to_thread.run_sync(
                    read_part, self._looks, storage, message, limiter=self._looks_limiter
                )
            case ExportAdd():
                return await self._exports.add(message, self._keeper.storage(message.storage_id))
            case ExportRemove():
                await self._exports.remove(message.export_id)
            case _:
                return await self._about_storage(message)
        return Ack()

    async def _about_storage(self, message: Any) -> msgspec.Struct:
        match message:
            case StorageOpen():
                return await trio.to_thread.run_sync(self._keeper.open, message)
            case StorageClose():
                users = (self._runs, self._exports, self._looks, self._upkeep, self._sampling)
                if any(user.is_used(message.storage_id) for user in users):
                    raise Conflict(what="the storage is in use", remedy="end its runs and exports first")
                await trio.to_thread.run_sync(self._looks.close_storage, message.storage_id)
                await trio.to_thread.run_sync(self._keeper.drop, message.storage_id)
            case StorageMeasure():
                statistics = await trio.to_thread.run_sync(self._keeper.measure, message.storage_id)
                return StorageMeasured(statistics=statistics)
            case StorageKeyRotate():
                rotated = await trio.to_thread.run_sync(self._keeper.rotate_key, message)
                return StorageKeyInForce(rotated=rotated)
            case MetadataPut():
                await trio.to_thread.run_sync(self._keep_metadata, message)
            case PointsForget():
                gone = await trio.to_thread.run_sync(self._forget, message)
                await trio.to_thread.run_sync(self._looks.close_points, gone)
                self._upkeep.note_removed(message.storage_id)
                return PointsForgotten(point_ids=gone)
            case PointsRetain():
                answer = await trio.to_thread.run_sync(self._keeper.retain, message)
                if answer.forgotten_ids:
                    await trio.to_thread.run_sync(self._looks.close_points, answer.forgotten_ids)
                    self._upkeep.note_removed(message.storage_id)
                return answer
            case PointLockAsk():
                return await trio.to_thread.run_sync(self._keeper.lock, message)
            case PointsAsk():
                self._keeper.storage(message.storage_id)
                self._announce(message.storage_id)
            case _:
                raise NotAuthorised(reason=f"nodes do not take {type(message).__name__}")
        return Ack()

    def _keep_metadata(self, message: MetadataPut) -> None:
        metadata_folder.put(
            self._keeper.storage(message.storage_id).directory,
            message.name,
            message.offset,
            message.data,
            is_last=message.is_last,
            keep=message.keep,
        )

    def _forget(self, message: PointsForget) -> list[str]:
        storage = self._keeper.storage(message.storage_id)
        for point_id in message.point_ids:
            try:
                storage.forget([point_id])
            except NotFound:
                # Gone already is what was asked for.
                continue
        return list(message.point_ids)

    async def notify(self, link: Link, message: Any) -> None:
        """Take a notification; only the server's."""
        if link.peer.role is Role.SERVER and isinstance(message, RevocationsPushed):
            await trio.to_thread.run_sync(self._revoke, message.revoked_pem)
