"""Exports disks over NFSv3: accepts and authorises clients on Trio, native threads serve them.

Owns the listening sockets, the set of exports and the log of what happens. Knows nothing of storages: a
disk to export is a DiskSource. Serving a call never comes here; only new connections and events do.

Tasks: one accepts per listener, one takes events from the service threads, one enforces their time limits.
The set of exports changes only in `add` and `remove`, on the event loop.
"""

import errno
import ipaddress
import logging
import os
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path

import trio

from fuse_nfs.export import Export
from fuse_nfs.handle_key import handle_key
from fuse_nfs.listen import ListenAddress, Listener, open_listeners
from native.err import NativeError
from native.nfs import Address, NfsEventKind, NfsScratch, NfsServer, NfsSettings, NfsStatistics
from vdrd.model.errors import BadArgument, NotFound, StorageFull, StorageUnwritable

log = logging.getLogger(__name__)

_SWEEP_SECONDS = 1.0
_EVENT_PAUSE_SECONDS = 1.0
_ACCEPT_PAUSE_SECONDS = 0.1
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


class ExportServer:
    """A running server. Made by `serve_exports`; every method is for the event loop's thread."""

    def __init__(self, native: NfsServer, host: str, listeners: list[Listener]) -> None:
        self._native = native
        self._exports: dict[str, Export] = {}
        self.host = host
        self.nfs_port = listeners[0].port
        self.mount_port = listeners[1].port
        self.portmap_port = listeners[2].port if len(listeners) > 2 else None

    def add(self, export: Export) -> str:
        """Serve a disk from now on; returns its URL.

        Raises BadArgument when the name is taken or is none, StorageFull or StorageUnwritable when its
        scratch cannot be used.
        """
        with ExitStack() as stack:
            scratch = _open_scratch(export, stack)
            try:
                self._native.export(
                    export.disk.native,
                    export_id=export.export_id,
                    name=export.name,
                    networks=export.clients,
                    is_writable=export.is_writable,
                    modified_ns=export.modified_ns,
                    disk_name=export.disk_name,
                    owner=export.owner,
                    scratch=scratch,
                )
            except OSError as error:
                raise _scratch_error(export, error) from error
            except NativeError as error:
                if error.code == "space" and export.scratch is not None:
                    reason = f"it holds more than {export.scratch.files_max} files"
                    raise StorageUnwritable(path=export.scratch.path, reason=reason) from error
                reason = f"{export.name!r} is exported already, or cannot be the name of an export"
                raise BadArgument(field="name", reason=reason) from error
        self._exports[export.name] = export
        log.info("export begun name=%s writable=%s", export.name, export.is_writable)
        return self.url(export.name)

    async def remove(self, name: str) -> None:
        """Stop serving a disk. On return nobody reads or writes it any more. Raises NotFound."""
        export = self._exports.pop(name, None)
        if export is None:
            raise NotFound(what="export", name=name)
        # Waits for calls that use the disk.
        await trio.to_thread.run_sync(self._native.unexport, export.export_id)
        log.info("export ended name=%s", name)

    @property
    def names(self) -> list[str]:
        """Names of all exports, in the order in which they were added."""
        return list(self._exports)

    def url(self, name: str) -> str:
        """Where clients find the disk of an export."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nfs://{host}/{name}/{self._exports[name].disk_name}"

    def mount_command(self, name: str) -> str:
        """What to type on a Linux client to mount an export."""
        options = f"vers=3,nolock,tcp,port={self.nfs_port},mountport={self.mount_port},mountproto=tcp"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"mount -t nfs -o {options} {host}:/{name} /mnt"

    def statistics(self) -> NfsStatistics:
        """Counters of the service threads."""
        return self._native.statistics()

    def allows(self, address: Address) -> bool:
        """True if any export may be used from `address`. Others are not even listened to."""
        return any(
            address.version == network.version and address in network
            for export in self._exports.values()
            for network in export.clients
        )

    async def accept_clients(self, listener: Listener) -> None:
        """Take connections from one listener until cancelled."""
        while True:
            try:
                client, peer = await listener.socket.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    log.debug("accept failed reason=%s", error)
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self._take_client(client, peer, listener.programs)

    def _take_client(self, client: trio.socket.SocketType, peer: tuple[object, ...], programs: int) -> None:
        address = _client_address(str(peer[0]))
        name = f"{address}:{peer[1]}"
        with client:
            if not self.allows(address):
                log.warning("connection refused peer=%s reason=not a client of any export", name)
                return
            try:
                fd = os.dup(client.fileno())
            except OSError as error:
                log.warning("connection refused peer=%s reason=%s", name, error)
                return
            try:
                self._native.serve(fd, address, name, programs)
            except (NativeError, OSError) as error:
                os.close(fd)
                log.warning("connection refused peer=%s reason=too many connections: %s", name, error)

    async def tell_events(self) -> None:
        """Log what the service threads report until cancelled.

        At most a ring of events a second is logged, however many a hostile peer causes.
        """
        while True:
            await trio.lowlevel.wait_readable(self._native.event_fd)
            self.log_events()
            await trio.sleep(_EVENT_PAUSE_SECONDS)

    def log_events(self) -> None:
        """Log what was reported and not yet logged."""
        while True:
            events, lost = self._native.take_events()
            for event in events:
                level = logging.INFO if event.kind in _QUIET else logging.WARNING
                log.log(level, "%s peer=%s %s", _PHRASES[event.kind], event.peer, event.text)
            if lost:
                log.warning("nfs events lost count=%d", lost)
            if not events:
                return

    async def enforce_limits(self) -> None:
        """Close slow and idle connections, and watch the room that is left, until cancelled."""
        while True:
            await trio.sleep(_SWEEP_SECONDS)
            self.enforce_limits_at(time.monotonic_ns())

    def enforce_limits_at(self, now_ns: int) -> None:
        """Close what is over a limit at `now_ns` of the monotonic clock."""
        self._native.sweep(now_ns)


_QUIET = {NfsEventKind.MOUNTED, NfsEventKind.UNMOUNTED}
_PHRASES = {
    NfsEventKind.REFUSED: "nfs connection closed",
    NfsEventKind.BAD_CALL: "nfs call refused",
    NfsEventKind.DISK_FAILED: "exported disk failed",
    NfsEventKind.MOUNTED: "nfs mounted",
    NfsEventKind.UNMOUNTED: "nfs unmounted",
    NfsEventKind.FILLING: "exported disk's cache is filling up",
}


def _open_scratch(export: Export, stack: ExitStack) -> NfsScratch | None:
    """Its directory, open until the stack closes."""
    if export.scratch is None:
        return None
    path = export.scratch.path
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _scratch_error(export, error) from error
    stack.callback(os.close, fd)
    return NfsScratch(fd, export.scratch.bytes_max, export.scratch.files_max)


def _scratch_error(export: Export, error: OSError) -> StorageFull | StorageUnwritable:
    path = export.scratch.path if export.scratch else export.name
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(path=path)
    return StorageUnwritable(path=path, reason=(error.strerror or "error").lower())


def _client_address(text: str) -> Address:
    """The peer's address; IPv4 that came in over an IPv6 socket is IPv4 again."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@asynccontextmanager
async def serve_exports(
    listen: ListenAddress, *, settings: NfsSettings | None = None, space_path: Path | None = None
) -> AsyncIterator[ExportServer]:
    """Serve exports, none to begin with, for as long as the context lasts.

    `space_path` is a directory where overlays grow; clients see its free space, and the key of their handles
    is kept there. Raises CannotListen, or what `handle_key` raises, before anything is served. On leaving,
    calls that are being answered are finished, connections are closed and the disks are nobody's but the
    caller's again.
    """
    listeners = open_listeners(listen)
    try:
        native = _start(settings or NfsSettings(), space_path)
    except BaseException:
        for listener in listeners:
            listener.socket.close()
        raise
    server = ExportServer(native, listen.host, listeners)
    native.set_ports(nfs=server.nfs_port, mount=server.mount_port, portmap=server.portmap_port or 0)
    try:
        async with trio.open_nursery() as nursery:
            for listener in listeners:
                nursery.start_soon(server.accept_clients, listener)
            nursery.start_soon(server.tell_events)
            nursery.start_soon(server.enforce_limits)
            try:
                yield server
            finally:
                nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        # The tasks do not fail: what is in the group is what the body raised.
        _, raised = group.split(trio.Cancelled)
        while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
            raised = raised.exceptions[0]
        if raised is None or isinstance(raised, BaseExceptionGroup):
            raise
        raise raised from raised.__cause__
    finally:
        for listener in listeners:
            listener.socket.close()
        server.log_events()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(native.close)


def _start(settings: NfsSettings, space_path: Path | None) -> NfsServer:
    key = handle_key(space_path)
    if space_path is None:
        return NfsServer(settings, key)
    fd = os.open(space_path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return NfsServer(settings, key, fd)
    finally:
        os.close(fd)
