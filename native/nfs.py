"""The NFS server of the C core: connections, exports and events for the event loop that owns it."""

import ipaddress
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from native._core import ffi, lib
from native.disk import Disk
from native.err import NativeError, check

PROGRAM_PORTMAP: int = lib.VDR_NFS_PORTMAP
PROGRAM_MOUNT: int = lib.VDR_NFS_MOUNT
PROGRAM_NFS: int = lib.VDR_NFS_NFS
NETWORKS_MAX: int = lib.VDR_NFS_NETWORKS_MAX
HANDLE_KEY_BYTES = 16

_EVENTS_PER_CALL = 64

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class NfsEventKind(IntEnum):
    """What a service thread has to tell."""

    REFUSED = lib.VDR_NFS_EVENT_REFUSED
    BAD_CALL = lib.VDR_NFS_EVENT_BAD_CALL
    DISK_FAILED = lib.VDR_NFS_EVENT_DISK_FAILED
    MOUNTED = lib.VDR_NFS_EVENT_MOUNTED
    UNMOUNTED = lib.VDR_NFS_EVENT_UNMOUNTED
    FILLING = lib.VDR_NFS_EVENT_FILLING


@dataclass(frozen=True, slots=True)
class NfsEvent:
    """One of them; `text` is a printable line."""

    kind: NfsEventKind
    peer: str
    text: str


@dataclass(frozen=True, slots=True)
class NfsSettings:
    """Bounds of a server."""

    threads: int = 8
    """More than cores, because a flush holds one; few, because the rest of the work is the processor's."""
    connections_max: int = 64
    """Each may hold an unfinished call of 1 MiB, so this bounds memory. A client uses one to four."""
    calls_max: int = 16
    """Unanswered calls of one connection; clients have at most that many worth answering at once."""
    first_call_seconds: int = 30
    """A connection that says nothing is a scanner or half open."""
    stall_seconds: int = 60
    """Longer than any retransmission of a living client."""
    idle_seconds: int = 86400
    """A machine may leave its disk alone for hours; dead peers are found by TCP's keepalive."""


@dataclass(frozen=True, slots=True)
class NfsScratch:
    """Where and how much clients may put beside a disk."""

    fd: int
    """Directory, opened by nobody else; stays the caller's to close."""
    bytes_max: int
    files_max: int


@dataclass(frozen=True, slots=True)
class NfsStatistics:
    """Counters since the start, but for `connections` and `buffers`, which are now."""

    calls: int
    refused_calls: int
    reads: int
    writes: int
    flushes: int
    read_bytes: int
    written_bytes: int
    replayed_calls: int
    connections: int
    accepted: int
    refused: int
    buffers: int


def _address_bytes(address: Address) -> bytes:
    """16 bytes as the C core compares them: IPv6, or IPv4 mapped into it."""
    return address.packed if address.version == 6 else bytes(10) + b"\xff\xff" + address.packed


class NfsServer:
    """Owns the service threads. All methods are thread-safe but `close`, which comes last."""

    def __init__(self, settings: NfsSettings, handle_key: bytes, space_fd: int = -1) -> None:
        if len(handle_key) != HANDLE_KEY_BYTES:
            raise ValueError(f"a handle key has {HANDLE_KEY_BYTES} bytes")
        raw = ffi.new("vdr_nfs_settings *")
        for name in NfsSettings.__slots__:
            setattr(raw, name, getattr(settings, name))
        out = ffi.new("vdr_nfs_server **")
        check(lib.vdr_nfs_server_open(raw, space_fd, handle_key, out), "start NFS server")
        self._handle: Any = out[0]
        self._events = ffi.new("vdr_nfs_event[]", _EVENTS_PER_CALL)

    def set_ports(self, *, nfs: int, mount: int, portmap: int) -> None:
        """What PORTMAP answers; 0 for what is not served. Before the first connection."""
        lib.vdr_nfs_server_set_ports(self._handle, nfs, mount, portmap)

    def serve(self, fd: int, address: Address, name: str, programs: int) -> None:
        """Take over a connected socket.

        On NativeError (`space`: too many connections) it is still the caller's.
        """
        code = lib.vdr_nfs_server_serve(self._handle, fd, _address_bytes(address), name.encode(), programs)
        check(code, f"serve {name}")

    def export(
        self,
        disk: Disk,
        *,
        export_id: bytes,
        name: str,
        networks: tuple[Network, ...],
        is_writable: bool,
        modified_ns: int,
        disk_name: str,
        owner: tuple[int, int],
        scratch: NfsScratch | None,
    ) -> None:
        """Serve `disk` (which stays the caller's to close) as `/name/disk_name` to the clients in `networks`.

        `owner` is the user and group that every client is mapped to. NativeError `argument`: a name is none,
        it or the id is taken, or there are too many; `space`: the scratch holds too many files. OSError: the
        scratch cannot be used.
        """
        if max(len(name.encode()), len(disk_name.encode())) >= lib.VDR_NFS_NAME_BYTES:
            raise NativeError("argument", f"export {name}")
        spec = ffi.new("vdr_nfs_export_spec *")
        spec.id = export_id
        spec.name = name.encode()
        spec.is_writable = is_writable
        spec.modified_ns = modified_ns
        spec.disk_name = disk_name.encode()
        spec.owner_uid, spec.owner_gid = owner
        if scratch is not None:
            spec.has_scratch = True
            spec.scratch_fd = scratch.fd
            spec.scratch_bytes_max = scratch.bytes_max
            spec.scratch_files_max = scratch.files_max
        spec.network_count = len(networks)
        for raw, network in zip(spec.networks, networks, strict=False):
            raw.address = _address_bytes(network.network_address)
            raw.prefix_bits = network.prefixlen + (96 if network.version == 4 else 0)
            raw.text = str(network).encode()
        check(lib.vdr_nfs_server_export(self._handle, spec, disk.handle), f"export {name}")

    def unexport(self, export_id: bytes) -> None:
        """Stop serving it; no thread uses the disk any more on return. NativeError `missing`. Blocks."""
        check(lib.vdr_nfs_server_unexport(self._handle, export_id), "end export")

    def sweep(self, now_ns: int) -> None:
        """Close connections that exceed a time limit at `now_ns` of the monotonic clock; tell of caches that
        fill up."""
        lib.vdr_nfs_server_sweep(self._handle, now_ns)

    @property
    def event_fd(self) -> int:
        """Readable while events wait."""
        return int(lib.vdr_nfs_server_event_fd(self._handle))

    def take_events(self) -> tuple[list[NfsEvent], int]:
        """Events that wait, and how many were lost because nobody took them in time."""
        lost = ffi.new("uint64_t *")
        count = check(
            lib.vdr_nfs_server_events(self._handle, self._events, _EVENTS_PER_CALL, lost), "take events"
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

    def statistics(self) -> NfsStatistics:
        """Counters."""
        calls = ffi.new("vdr_nfs_call_statistics *")
        connections = ffi.new("vdr_nfs_connection_statistics *")
        lib.vdr_nfs_server_statistics(self._handle, calls, connections)
        return NfsStatistics(
            calls=calls.calls,
            refused_calls=calls.refused_calls,
            reads=calls.reads,
            writes=calls.writes,
            flushes=calls.flushes,
            read_bytes=calls.read_bytes,
            written_bytes=calls.written_bytes,
            replayed_calls=calls.replayed_calls,
            connections=connections.connections,
            accepted=connections.accepted,
            refused=connections.refused,
            buffers=connections.buffers,
        )

    def close(self) -> None:
        """Finish the calls being answered, close connections, end threads, release disks. Blocks."""
        if self._handle is not None:
            lib.vdr_nfs_server_close(self._handle)
            self._handle = None
