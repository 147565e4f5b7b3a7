"""Settings of the console, table `[console]`. `docs/admin/console.md` lists them; a test holds it to this
file."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ConsoleConfig:
    """What the console needs to know. Every default has its reason."""

    state_directory: Path = Path("/var/lib/vdr/console")
    """Certificate, key and web sessions. Below /var/lib, as those of the other daemons."""

    listen: tuple[str, ...] = ("127.0.0.1:8443",)
    """Where browsers and REST clients connect, over HTTPS. Loopback: a fresh installation is reached from
    nowhere else."""

    server: str = "127.0.0.1:4510"
    """The server's link address. Loopback: server and console usually share a machine."""

    certificate: str = ""
    """File with the certificate chain for HTTPS, PEM, when users shall see one of another authority. Empty:
    the console's own, signed by the product's authority."""

    certificate_key: str = ""
    """File with the key of `certificate`, PEM."""

    session_idle_seconds: int = 8 * 3600
    """An unused web session ends after a working day, as the server's own does."""

    session_seconds: int = 7 * 86400
    """Any web session ends after a week, as the server's own does."""

    stop_seconds: float = 5.0
    """How long requests under way may go on when the console stops; live feeds end at once."""

    log_level: str = "info"
    """Least level written to the log: debug, info, warning or error."""
