"""Settings of the server, table `[server]`. `docs/admin/server.md` lists them; a test holds it to this
file."""

from dataclasses import dataclass
from pathlib import Path

from vdrd.model.settings import AtLeastOne


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """What the server needs to know. Every default has its reason."""

    state_directory: Path = Path("/var/lib/vdr/server")
    """Catalog, authority and certificate. Below /var/lib, where the system's own backups look."""

    listen: tuple[str, ...] = ("127.0.0.1:4510",)
    """Where nodes, agents and consoles link to. Loopback: a fresh installation is reached from nowhere
    else."""

    announce: str = ""
    """Address new agents are told to dial. Empty: the first of `listen`; set it when that is a wildcard or
    behind NAT."""

    grace_seconds: float = 30.0
    """How long a run waits for an agent or node that lost its link. Covers a restart of the daemon with its
    back-off of at
    most 15 seconds; much longer and a dead host would look busy."""

    wait_online_seconds: float = 600.0
    """How long a queued run waits for its host and storage to be online before it fails. Longer than a
    reboot."""

    runs_per_host: AtLeastOne = 2
    """Runs at once on one host: a disk and a file job may overlap, more would starve the host's own work."""

    runs_per_node: AtLeastOne = 8
    """Runs at once on one node. Each costs threads and buffers there; eight keep two to sixteen cores
    busy."""

    session_idle_seconds: float = 8 * 3600.0
    """An unused session ends after a working day."""

    session_seconds: float = 7 * 86400.0
    """Any session ends after a week."""

    login_failures_max: AtLeastOne = 5
    """Wrong passwords before a user is locked out: enough for typing errors, useless for guessing."""

    address_failures_max: AtLeastOne = 30
    """Wrong passwords from one address within the lock time: guards against one password tried on many
    users."""

    lock_seconds: float = 900.0
    """How long a lock-out lasts: 480 guesses a day."""

    progress_write_seconds: float = 5.0
    """How often progress is written to the catalog; consoles see it live from memory."""

    events_kept: AtLeastOne = 10_000
    """Events kept in memory for consoles that poll: about five minutes of a very busy system, 10 MiB."""

    host_offline_hours: float = 24.0
    """How long a protected host may be away before an alert: notebooks sleep, and a job that waits in vain
    for one fails anyway."""

    metadata_beside: tuple[str, ...] = ()
    """Further directories that belong into a metadata backup, as NAME=PATH. An appliance names those of its
    node and console by itself."""

    log_level: str = "info"
    """Least level written to the log: debug, info, warning or error."""
