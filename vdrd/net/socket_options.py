"""What every connection's socket is set to. The kernel then finds dead peers even where nothing is sent."""

import socket
from typing import Protocol

KEEPALIVE_IDLE_SECONDS = 10
KEEPALIVE_INTERVAL_SECONDS = 5
KEEPALIVE_PROBES = 4
UNACKNOWLEDGED_MILLISECONDS = 30_000
"""Bytes sent and not taken for this long mean the peer is gone."""
BULK_UNACKNOWLEDGED_MILLISECONDS = 120_000
"""The same on data channels: a peer that waits for a slow disk takes nothing for a while and is well."""


class _HasOptions(Protocol):
    def setsockopt(self, level: int, option: int, value: int, /) -> None: ...


def tune(connection: _HasOptions) -> None:
    """No delay for small frames; a vanished peer is an error within about 30 seconds."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_IDLE_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEPALIVE_INTERVAL_SECONDS)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, KEEPALIVE_PROBES)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_MILLISECONDS)


def tune_for_bulk(connection: _HasOptions) -> None:
    """After `tune`, for a data channel."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, BULK_UNACKNOWLEDGED_MILLISECONDS)
