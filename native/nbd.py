"""The NBD server of the C core: connections, exports and events for the event loop that owns it."""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any

from native._core import ffi, lib
from native.disk import Disk
from native.err import NativeError, check
from native.nfs import Address, Network, NfsEvent, NfsEventKind

_EVENTS_PER_CALL = 64


class NbdTls(IntEnum):
    """Whether clients talk TLS."""

    OFF = lib.VDR_NBD_TLS_OFF
    OFFERED = lib.VDR_NBD_TLS_OFFERED
    REQUIRED = lib.VDR_NBD_TLS_REQUIRED


@dataclass(frozen=True, slots=True)
class NbdSettings:
    """Bounds of a server."""

    threads: int = 8
    """More than cores, because a flush holds one; few, because the rest of the work is the processor's."""
    connections_max: int = 64
    """Each may hold unanswered requests of 64 MiB, so this bounds memory. A client uses one to eight."""
    requests_max: int = 64
    """Unanswered requests of one connection; clients have at most that many worth answering at once."""
    negotiate_seconds: int = 30
    """A connection that chooses nothing is a scanner or half open."""
    stall_seconds: int = 60
    """Longer than any retransmission of a living client."""
    idle_seconds: int = 0
    """Never: a machine may leave its disk alone for days, and QEMU does not connect again by itself. Dead
    peers are found by TCP's keepalive."""


@dataclass(frozen=True, slots=True)
class NbdStatistics:
    """Counters since the start, but for `connections` and `buffer_bytes`, which are now."""

    requests: int
    refused_requests: int
    reads: int
    writes: int
    flushes: int
    read_bytes: int
    written_bytes: int
    connections: int
    accepted: int
    refused: int
    buffer_bytes: int


@dataclass(frozen=True, slots=True)
class TlsFiles:
    """PEM files of a server: its certificate with the chain, its key, and who must have signed clients'."""

    certificate: Path
    key: Path
    client_authority: Path | None = None


class NbdServer:
    """Owns the service threads. All methods are thread-safe but `close`, which comes last."""

    def __init__(
        self, settings: NbdSettings, tls_mode: NbdTls = NbdTls.OFF, tls_files: TlsFiles | None = None
    ) -> None:
        """NativeError `crypto`: the files cannot be used."""
        raw = ffi.new("vdr_nbd_settings *")
        for name in NbdSettings.__slots__:
            setattr(raw, name, getattr(settings, name))
        raw.tls_mode = int(tls_mode)
        self._tls: Any = ffi.NULL
        if tls_files is not None:
            self._tls = _tls_context(tls_files)
        out = ffi.new("vdr_nbd_server **")
        try:
            check(lib.vdr_nbd_server_open(raw, self._tls, out), "start NBD server")
        except BaseException:
            lib.vdr_tls_context_close(self._tls)
            raise
        self._handle: Any = out[0]
        self._events = ffi.new("vdr_nfs_event[]", _EVENTS_PER_CALL)

    def serve(self, fd: int, address: Address, name: str) -> None:
        """Take over a connected socket.

        On NativeError (`space`: too many connections) it is still the caller's.
        """
        code = lib.vdr_nbd_server_serve(self._handle, fd, _address_bytes(address), name.encode())
        check(code, f"serve {name}")

    def export(
        self, disk: Disk, *, export_id: bytes, name: str, networks: tuple[Network, ...], is_writable: bool
    ) -> None:
        """Serve `disk` (which stays the caller's to close) as `name` to the clients in `networks`.

        NativeError `argument`: the name is none, it or the id is taken, or there are too many.
        """
        if len(name.encode()) >= lib.VDR_NBD_NAME_BYTES:
            raise NativeError("argument", f"export {name}")
        spec = ffi.new("vdr_nbd_export_spec *")
        spec.id = export_id
        spec.name = name.encode()
        spec.is_writable = is_writable
        spec.network_count = len(networks)
        for raw, network in zip(spec.networks, networks, strict=False):
            raw.address = _address_bytes(network.network_address)
            raw.prefix_bits = network.prefixlen + (96 if network.version == 4 else 0)
        check(lib.vdr_nbd_server_export(self._handle, spec, disk.handle), f"export {name}")

    def unexport(self, export_id: bytes) -> None:
        """Stop serving it and close its connections; no thread uses the disk any more on return.

        NativeError `missing`. Blocks.
        """
        check(lib.vdr_nbd_server_unexport(self._handle, export_id), "end export")

    def sweep(self, now_ns: int) -> None:
        """Close connections that exceed a time limit at `now_ns` of the monotonic clock."""
        lib.vdr_nbd_server_sweep(self._handle, now_ns)

    @property
    def event_fd(self) -> int:
        """Readable while events wait."""
        return int(lib.vdr_nbd_server_event_fd(self._handle))

    def take_events(self) -> tuple[list[NfsEvent], int]:
        """Events that wait, and how many were lost because nobody took them in time."""
        lost = ffi.new("uint64_t *")
        count = check(
            lib.vdr_nbd_server_events(self._handle, self._events, _EVENTS_PER_CALL, lost), "take events"
        )
        events = [
            NfsEvent(
                NfsEventKind(raw.kind),
                ffi.string(raw.peer).decode("ascii"),
                ffi.string(raw.text).decode("ascii"),
            )
            for raw in self._events[0:count]
        ]
        return events, int(lost[0])

    def statistics(self) -> NbdStatistics:
        """Counters."""
        requests = ffi.new("vdr_nbd_request_statistics *")
        connections = ffi.new("vdr_nbd_connection_statistics *")
        lib.vdr_nbd_server_statistics(self._handle, requests, connections)
        return NbdStatistics(
            requests=requests.requests,
            refused_requests=requests.refused_requests,
            reads=requests.reads,
            writes=requests.writes,
            flushes=requests.flushes,
            read_bytes=requests.read_bytes,
            written_bytes=requests.written_bytes,
            connections=connections.connections,
            accepted=connections.accepted,
            refused=connections.refused,
            buffer_bytes=connections.buffer_bytes,
        )

    def close(self) -> None:
        """Finish the requests being answered, close connections, end threads, release disks. Blocks."""
        if self._handle is not None:
            lib.vdr_nbd_server_close(self._handle)
            lib.vdr_tls_context_close(self._tls)
            self._handle = None


def _address_bytes(address: Address) -> bytes:
    """16 bytes as the C core compares them: IPv6, or IPv4 mapped into it."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


def _tls_context(files: TlsFiles) -> Any:
    authority = ffi.NULL if files.client_authority is None else bytes(files.client_authority)
    out = ffi.new("vdr_tls_context **")
    check(
        lib.vdr_tls_context_open(bytes(files.certificate), bytes(files.key), authority, out),
        f"certificate {files.certificate}",
    )
    return out[0]
