"""Who may use an export when nobody said: this machine, and the networks that reach it where it listens."""

import ipaddress
from typing import Any

from fuse_nfs.export import LOOPBACK
from native.nfs import NETWORKS_MAX, Network
from vdrd.model.errors import BadArgument


def default_clients(host: str) -> tuple[Network, ...]:
    """Networks for a server that listens on `host`.

    A loopback address serves this machine. Another address serves also the network of the interface that
    has it; the address of all interfaces serves the networks of all. Raises BadArgument when `host` is no
    IP address.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError as error:
        raise BadArgument(field="address", reason=f"{host!r} is not an IP address") from error
    if address.is_loopback:
        return LOOPBACK
    attached = [
        interface.network
        for interface in _interfaces()
        if not interface.is_loopback and (address.is_unspecified or interface.ip == address)
    ]
    return (*LOOPBACK, *attached)[:NETWORKS_MAX]


def _interfaces() -> list[ipaddress.IPv4Interface | ipaddress.IPv6Interface]:
    """Addresses of this machine with their networks."""
    # Importing it takes longer than everything else an export on loopback does.
    from pyroute2 import IPRoute  # noqa: PLC0415

    with IPRoute() as route:
        messages: list[Any] = list(route.get_addr())
    return [ipaddress.ip_interface(f"{m.get_attr('IFA_ADDRESS')}/{m['prefixlen']}") for m in messages]
