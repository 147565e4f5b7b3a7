"""Settings of the agent, table `[agent]`. `docs/admin/agents.md` lists them; a test holds it to this file."""

from dataclasses import dataclass
from pathlib import Path

from vdrd.model.settings import AtLeastOne


@dataclass(frozen=True, slots=True)
class AgentConfig:
    """What an agent needs to know. Every default has its reason."""

    state_directory: Path = Path("/var/lib/vdr-agent")
    """Certificate and what enrolment told. Below /var/lib, where the system's own backups look."""

    server: str = ""
    """The server to dial. Empty: the address the enrolment token carried, which is right unless the server
    moved."""

    mode: str = ""
    """`active`: this host dials server and node. `passive`: it waits to be dialled. Empty: as it was
    enrolled."""

    listen: tuple[str, ...] = ("127.0.0.1:4512",)
    """Where a passive agent waits. Loopback: it is opened by intention only."""

    rate_limit_bytes_per_second: AtLeastOne | None = None
    """Most that backups send, of all runs together. Not set: as fast as it goes."""

    runs_max: AtLeastOne = 4
    """Runs at once. Each costs a few threads and some tens of MiB; the server asks for two at most by
    default."""

    stop_seconds: float = 20.0
    """How long a stop waits for runs to end by themselves; the service manager's patience is longer."""

    log_level: str = "info"
    """Least level written to the log: debug, info, warning or error."""
