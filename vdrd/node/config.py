"""Settings of the node, table `[node]`. `docs/admin/node.md` lists them; a test holds it to this file."""

from dataclasses import dataclass
from pathlib import Path

from vdrd.model.settings import AtLeastOne


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """What a node needs to know. Every default has its reason."""

    state_directory: Path = Path("/var/lib/vdr/node")
    """Certificate, key files made here, caches of exports. Below /var/lib, where the system's own backups
    look."""

    server: str = "127.0.0.1:4510"
    """The server to link to. Loopback: on an appliance both stand on one machine."""

    listen: tuple[str, ...] = ("127.0.0.1:4511",)
    """Where agents open data channels. Loopback: a fresh installation is reached from nowhere else."""

    announce: str = ""
    """Address agents are told for data channels. Empty: the first of `listen`; set it when that is a
    wildcard."""

    channels_max: int = 256
    """Data channels at once. Each is a thread with a few MiB of buffers."""

    nfs_listen: str = "127.0.0.1"
    """Address exports are served on. Loopback: an export has no password, its address is its lock."""

    nfs_clients: tuple[str, ...] = ("127.0.0.0/8", "::1/128")
    """Networks that may mount exports. Whoever may mount one may read the disk."""

    nfs_port: int = 2049
    """Port of NFS, where every client looks. 0 takes a free one."""

    mount_port: int = 20048
    """Port of the mount protocol, the customary one. 0 takes a free one."""

    portmap_port: int = 111
    """Port of the portmapper. QEMU finds exports through it only. 0: none, for machines that run their
    own."""

    export_cache_bytes: AtLeastOne | None = None
    """Most that is kept of what is written to one export. Not set: until the file system is full, because
    only the administrator knows how much a machine will write."""

    collect_window: str = "00:00-24:00"
    """When space that points left may be freed, by this machine's clock; it may go past midnight. All day: it
    is done beside backups, slowly."""

    collect_bytes_per_second: int = 64 << 20
    """Bytes a second that freeing space may read and write. 0: no limit. A fraction of what a disk does, so
    that backups and restores go before."""

    verify_sample_percent: float = 1.0
    """Share of each storage's data that is read and checked every day, at random. 0: none. One percent costs
    little and meets rot long before a restore does; verify all data now and then all the same."""

    log_level: str = "info"
    """Least level written to the log: debug, info, warning or error."""
