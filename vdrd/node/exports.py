"""The exports of a node: points as disks over NFS, each with a cache for what is written over it.

The NFS server starts with the first export, so that a machine whose ports are taken can still back up. An
export is found
again after a restart by its id: the server asks for it anew, its cache lies in `exports/<id>`.
"""

import ipaddress
import logging
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import trio

from fuse_nfs.export import Export, Scratch, parse_clients
from fuse_nfs.listen import ListenAddress
from fuse_nfs.server import ExportServer, serve_exports
from schemas.control import ExportAdd, ExportAdded
from vdrd.disk.overlay import OverlayDisk
from vdrd.disk.overlay_search import FILES_SUFFIX
from vdrd.disk.source import DiskSource, NativeDisk
from vdrd.model.errors import BadInput
from vdrd.model.points import DiskRoot
from vdrd.node.config import NodeConfig
from vdrd.store.storage import Storage

log = logging.getLogger(__name__)

CACHE_NAME = "cache"
SCRATCH_NAME = CACHE_NAME + FILES_SUFFIX
"""What clients put beside the disk of a writable export."""


@dataclass(slots=True)
class Served:
    """An export that is served, with what to close after it."""

    storage_id: str
    name: str
    url: str
    mount_command: str
    closing: ExitStack


class NodeExports:
    """All exports of this node by id. Methods are for the loop's thread; one at a time changes something."""

    def __init__(self, config: NodeConfig, nursery: trio.Nursery) -> None:
        self._config = config
        self._nursery = nursery
        self._directory = config.state_directory / "exports"
        self._server: ExportServer | None = None
        self._served: dict[str, Served] = {}
        self._lock = trio.Lock()

    async def add(self, message: ExportAdd, storage: Storage) -> ExportAdded:
        """Serve a point; again if it is served already. Raises NotFound, Damaged, BadInput, CannotListen,
        StorageFull."""
        async with self._lock:
            served = self._served.get(message.export_id)
            if served is None:
                server = await self._running()
                served = await self._begin(server, message, storage)
                self._served[message.export_id] = served
            return ExportAdded(url=served.url, mount_command=served.mount_command)

    async def _begin(self, server: ExportServer, message: ExportAdd, storage: Storage) -> Served:
        closing = ExitStack()
        try:
            disk = await trio.to_thread.run_sync(self._open, message, storage, closing)
            export = Export(
                name=message.export_id,
                disk=disk,
                is_writable=message.is_writable,
                clients=parse_clients(list(self._config.nfs_clients)),
                scratch=self._scratch(message) if message.is_writable else None,
            )
            url = server.add(export)
        except BaseException:
            closing.close()
            raise
        name = message.export_id
        return Served(message.storage_id, name, url, server.mount_command(name), closing)

    def _open(self, message: ExportAdd, storage: Storage, closing: ExitStack) -> DiskSource:
        point = storage.point(message.point_id)
        root = point.draft.root
        if not isinstance(root, DiskRoot):
            raise BadInput(what=f"point {message.point_id} is no point of a disk")
        closing.enter_context(storage.hold(point))
        disk = NativeDisk(storage.reader_of(point.draft.domain).open_disk(root))
        closing.callback(disk.close)
        if not message.is_writable:
            return disk
        directory = self._directory / message.export_id
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        overlay = OverlayDisk.open(
            directory / CACHE_NAME,
            disk,
            identity=f"point {message.point_id}",
            keys=storage.overlay_keys,
            limit_bytes=self._config.export_cache_bytes or 0,
        )
        closing.callback(overlay.close)
        return overlay

    def _scratch(self, message: ExportAdd) -> Scratch:
        return Scratch(self._directory / message.export_id / SCRATCH_NAME)

    async def remove(self, export_id: str) -> None:
        """Stop serving and discard the cache. Repeating it does nothing."""
        async with self._lock:
            served = self._served.pop(export_id, None)
            if served is not None:
                assert self._server is not None
                await self._server.remove(served.name)
                await trio.to_thread.run_sync(served.closing.close)
            await trio.to_thread.run_sync(self._discard, export_id)

    def _discard(self, export_id: str) -> None:
        directory = self._directory / Path(export_id).name
        shutil.rmtree(directory, ignore_errors=True)

    def is_used(self, storage_id: str) -> bool:
        """True while a point of the storage is served."""
        return any(served.storage_id == storage_id for served in self._served.values())

    async def close(self) -> None:
        """Close the disks, after the server has ended. Caches stay."""
        for served in self._served.values():
            await trio.to_thread.run_sync(served.closing.close)
        self._served.clear()

    async def _running(self) -> ExportServer:
        if self._server is None:
            self._server = await self._nursery.start(self._serve)
        return self._server

    async def _serve(self, *, task_status: trio.TaskStatus[ExportServer] = trio.TASK_STATUS_IGNORED) -> None:
        config = self._config
        ipaddress.ip_address(config.nfs_listen)
        listen = ListenAddress(
            host=config.nfs_listen,
            nfs_port=config.nfs_port,
            mount_port=config.mount_port,
            portmap_port=config.portmap_port or None,
        )
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        async with serve_exports(listen, space_path=self._directory) as server:
            task_status.started(server)
            await trio.sleep_forever()
