"""Listening sockets of the NFS server: opened together or not at all."""

import errno
import socket
from dataclasses import dataclass

import trio

from native.nfs import PROGRAM_MOUNT, PROGRAM_NFS, PROGRAM_PORTMAP
from vdrd.model.errors import CannotListen

NFS_PORT = 2049
MOUNT_PORT = 20048
PORTMAP_PORT = 111

_BACKLOG = 64


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where to listen. Port 0 lets the system choose; `portmap_port` None serves no port mapper."""

    host: str
    """An IP address of this machine."""
    nfs_port: int = NFS_PORT
    mount_port: int = MOUNT_PORT
    portmap_port: int | None = PORTMAP_PORT
    """QEMU and others find the rest through TCP port 111 and can be told no other."""


@dataclass(frozen=True, slots=True)
class Listener:
    """An open listening socket and the programs that its connections may call."""

    socket: trio.socket.SocketType
    programs: int
    port: int


def open_listeners(address: ListenAddress) -> list[Listener]:
    """Listeners for NFS, MOUNT and, if asked for, PORTMAP, in this order.

    Raises CannotListen; then none is open.
    """
    wanted = [
        (address.nfs_port, PROGRAM_NFS | PROGRAM_MOUNT),
        (address.mount_port, PROGRAM_MOUNT),
    ]
    if address.portmap_port is not None:
        wanted.append((address.portmap_port, PROGRAM_PORTMAP))
    opened: list[Listener] = []
    try:
        for port, programs in wanted:
            opened.append(_open(address.host, port, programs))
    except BaseException:
        for listener in opened:
            listener.socket.close()
        raise
    return opened


def _open(host: str, port: int, programs: int) -> Listener:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    raw = socket.socket(family, socket.SOCK_STREAM)
    try:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        raw.bind((host, port))
        raw.listen(_BACKLOG)
    except OSError as error:
        raw.close()
        reason = (error.strerror or str(error)).lower()
        raise CannotListen(host=host, port=port, reason=reason, remedy=_remedy(error, programs)) from error
    return Listener(trio.socket.from_stdlib_socket(raw), programs, raw.getsockname()[1])


def _remedy(error: OSError, programs: int) -> str:
    if error.errno == errno.EADDRINUSE and programs == PROGRAM_PORTMAP:
        return "stop rpcbind, listen on another address of this machine, or serve without a port mapper"
    if error.errno == errno.EADDRINUSE:
        return "choose another port, or stop the program that uses it"
    if error.errno == errno.EADDRNOTAVAIL:
        return "give an address of this machine"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "ports below 1024 need root or the capability to bind them"
    return "give an IP address of this machine"
