"""What is exported, as a value: a disk, its name, who may use it."""

import hashlib
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from native.nfs import NETWORKS_MAX, Network
from vdrd.disk.source import DiskSource
from vdrd.model.errors import BadArgument

DISK_NAME = "disk.raw"
LOOPBACK: tuple[Network, ...] = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, slots=True)
class Scratch:
    """What clients may put beside the disk: lock files, descriptors, logs, swap. Real files, found again."""

    path: Path
    """A directory of this export's own; made if missing."""
    bytes_max: int = 64 << 30
    """The swap file of a large machine and room to spare; a bound, so that no client fills the node."""
    files_max: int = 65536
    """Each costs about 200 bytes of memory while the export lasts."""


@dataclass(frozen=True, slots=True)
class Export:
    """A disk served as `/<name>/disk.raw`.

    `name` is a point's id, or another name without `/` of at most 127 bytes; clients' handles are made of
    it, so the same name must mean the same disk after a restart. The disk stays the caller's to close,
    after the export has ended.
    """

    name: str
    disk: DiskSource
    is_writable: bool = False
    clients: tuple[Network, ...] = LOOPBACK
    modified_ns: int = 0
    """mtime to begin with, in ns since the epoch; a writable disk's grows with its writes."""
    scratch: Scratch | None = None
    """Without one, the disk is the only file and nothing can be made."""
    disk_name: str = DISK_NAME
    owner: tuple[int, int] = (0, 0)
    """User and group whose all files appear to be; every client's user is mapped to it. Hypervisors come as
    root and keep away from what is not root's."""

    @property
    def export_id(self) -> bytes:
        """16 bytes that name it in handles."""
        return hashlib.sha256(b"vdr export " + self.name.encode()).digest()[:16]


def parse_clients(texts: list[str]) -> tuple[Network, ...]:
    """Networks from texts such as `10.0.0.0/24`, `10.0.0.7`, `fd00::/8`. Raises BadArgument."""
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ipaddress.ip_network(text))
        except ValueError as error:
            reason = f"{error}".lower()
            raise BadArgument(field="client", reason=reason) from error
    if len(networks) > NETWORKS_MAX:
        raise BadArgument(field="client", reason=f"there are more than {NETWORKS_MAX}")
    return tuple(networks)
