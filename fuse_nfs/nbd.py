"""Exports disks over NBD: accepts and authorises clients on Trio, native threads serve them.

Owns the listening socket, the set of exports and the log of what happens. Knows nothing of storages: a disk
to export is a DiskSource. Serving a request never comes here; only new connections and events do.

Tasks: one accepts, one takes events from the service threads, one enforces their time limits. The set of
exports changes only in `add` and `remove`, on the event loop.
"""

import errno
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import trio

from fuse_nfs.export import Export
from fuse_nfs.nursery import background_nursery
from native.err import NativeError
from native.nbd import NbdServer, NbdSettings, NbdStatistics, NbdTls, TlsFiles
from native.nfs import Address, NfsEventKind
from vdrd.model.errors import BadArgument, CannotListen, NotFound

log = logging.getLogger(__name__)

NBD_PORT = 10809

_BACKLOG = 64
_SWEEP_SECONDS = 1.0
_EVENT_PAUSE_SECONDS = 1.0
_ACCEPT_PAUSE_SECONDS = 0.1
_EXHAUSTED = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


@dataclass(frozen=True, slots=True)
class NbdAddress:
    """Where to listen, and how. Port 0 lets the system choose."""

    host: str
    """An IP address of this machine."""
    port: int = NBD_PORT
    tls: TlsFiles | None = None
    """A server with a certificate talks TLS only, unless `is_plain_allowed`."""
    is_plain_allowed: bool = False


def parse_nbd_address(text: str) -> tuple[str, int]:
    """Host and port of `ADDRESS`, `ADDRESS:PORT` or `[IPV6]:PORT`. Raises BadArgument."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        port = rest.removeprefix(":") if bracket else "missing"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    else:
        host, port = text, ""
    try:
        ipaddress.ip_address(host)
        number = int(port) if port else NBD_PORT
    except ValueError as error:
        raise BadArgument(field="nbd", reason=f"{text!r} is not ADDRESS:PORT") from error
    if not 0 <= number < 1 << 16:
        raise BadArgument(field="nbd", reason=f"{number} is not a port")
    return host, number


class NbdExports:
    """A running server. Made by `serve_nbd`; every method is for the event loop's thread."""

    def __init__(self, native: NbdServer, address: NbdAddress, port: int) -> None:
        self._native = native
        self._exports: dict[str, Export] = {}
        self._is_tls = address.tls is not None
        self.host = address.host
        self.port = port

    def add(self, export: Export) -> str:
        """Serve a disk from now on; returns its URL. Raises BadArgument when the name is taken or is none."""
        try:
            self._native.export(
                export.disk.native,
                export_id=export.export_id,
                name=export.name,
                networks=export.clients,
                is_writable=export.is_writable,
            )
        except NativeError as error:
            reason = f"{export.name!r} is exported already, or cannot be the name of an export"
            raise BadArgument(field="name", reason=reason) from error
        self._exports[export.name] = export
        log.info("nbd export begun name=%s writable=%s", export.name, export.is_writable)
        return self.url(export.name)

    async def remove(self, name: str) -> None:
        """Stop serving a disk and close its connections. On return nobody uses it. Raises NotFound."""
        export = self._exports.pop(name, None)
        if export is None:
            raise NotFound(what="export", name=name)
        # Waits for requests that use the disk.
        await trio.to_thread.run_sync(self._native.unexport, export.export_id)
        log.info("nbd export ended name=%s", name)

    @property
    def names(self) -> list[str]:
        """Names of all exports, in the order in which they were added."""
        return list(self._exports)

    def url(self, name: str) -> str:
        """Where clients find an export: `nbd://` or, with TLS, `nbds://`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"nbd{'s' if self._is_tls else ''}://{host}:{self.port}/{quote(name, safe='')}"

    def statistics(self) -> NbdStatistics:
        """Counters of the service threads."""
        return self._native.statistics()

    def allows(self, address: Address) -> bool:
        """True if any export may be used from `address`. Others are not even listened to."""
        return any(
            address.version == network.version and address in network
            for export in self._exports.values()
            for network in export.clients
        )

    async def accept_clients(self, listener: trio.socket.SocketType) -> None:
        """Take connections until cancelled."""
        while True:
            try:
                client, peer = await listener.accept()
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    log.debug("accept failed reason=%s", error)
                await trio.sleep(_ACCEPT_PAUSE_SECONDS)
                continue
            self._take_client(client, peer)

    def _take_client(self, client: trio.socket.SocketType, peer: tuple[object, ...]) -> None:
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
                self._native.serve(fd, address, name)
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
                is_disk = event.kind is NfsEventKind.DISK_FAILED
                phrase = "exported disk failed" if is_disk else "nbd connection closed"
                log.warning("%s peer=%s %s", phrase, event.peer, event.text)
            if lost:
                log.warning("nbd events lost count=%d", lost)
            if not events:
                return

    async def enforce_limits(self) -> None:
        """Close slow and idle connections until cancelled."""
        while True:
            await trio.sleep(_SWEEP_SECONDS)
            self.enforce_limits_at(time.monotonic_ns())

    def enforce_limits_at(self, now_ns: int) -> None:
        """Close what is over a limit at `now_ns` of the monotonic clock."""
        self._native.sweep(now_ns)


def _client_address(text: str) -> Address:
    """The peer's address; IPv4 that came in over an IPv6 socket is IPv4 again."""
    address = ipaddress.ip_address(text.partition("%")[0])
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


@asynccontextmanager
async def serve_nbd(address: NbdAddress, *, settings: NbdSettings | None = None) -> AsyncIterator[NbdExports]:
    """Serve exports, none to begin with, for as long as the context lasts.

    Raises CannotListen or BadArgument (the certificate) before anything is served. On leaving, requests that
    are being answered are finished, connections are closed and the disks are nobody's but the caller's again.
    """
    listener = _listen(address)
    try:
        native = _start(settings or NbdSettings(), address)
    except BaseException:
        listener.close()
        raise
    server = NbdExports(native, address, listener.getsockname()[1])
    try:
        async with background_nursery() as nursery:
            nursery.start_soon(server.accept_clients, listener)
            nursery.start_soon(server.tell_events)
            nursery.start_soon(server.enforce_limits)
            yield server
    finally:
        listener.close()
        server.log_events()
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(native.close)


def _listen(address: NbdAddress) -> trio.socket.SocketType:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        raw.bind((address.host, address.port))
        raw.listen(_BACKLOG)
    except OSError as error:
        raw.close()
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(
            host=address.host, port=address.port, reason=reason, remedy=_remedy(error)
        ) from error
    return trio.socket.from_stdlib_socket(raw)


def _remedy(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "choose another port, or stop the program that uses it"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 need root or the capability to bind them"
    return "give an IP address of this machine"


def _start(settings: NbdSettings, address: NbdAddress) -> NbdServer:
    if address.tls is None:
        return NbdServer(settings)
    _check_files(address.tls)
    mode = NbdTls.OFFERED if address.is_plain_allowed else NbdTls.REQUIRED
    try:
        return NbdServer(settings, mode, address.tls)
    except NativeError as error:
        reason = f"{address.tls.certificate} and its key cannot be used"
        raise BadArgument(field="certificate", reason=reason) from error


def _check_files(files: TlsFiles) -> None:
    """Raises BadArgument that names the file which OpenSSL cannot use."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key)
    except (OSError, ssl.SSLError) as error:
        raise BadArgument(field="certificate", reason=_tls_reason(files, error)) from error
    if files.client_authority is None:
        return
    try:
        context.load_verify_locations(files.client_authority)
    except (OSError, ssl.SSLError) as error:
        reason = f"{files.client_authority} cannot be used: {error}".lower()
        raise BadArgument(field="client authority", reason=reason) from error


def _tls_reason(files: TlsFiles, error: Exception) -> str:
    for path in (files.certificate, files.key):
        if not path.is_file():
            return f"{path} cannot be read"
    return f"{files.certificate} and {files.key} cannot be used: {error}"
