"""Settings of the appliance, table `[appliance]`, and where its parts keep their state. Knows no part
itself."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class ApplianceConfig:
    """What an appliance needs to know. Every default has its reason."""

    state_directory: Path = Path("/var/lib/vdr")
    """Everything the appliance keeps, one folder per part. One directory to save and to move."""

    storage_directory: str = ""
    """Where the first storage is made. Empty: `storage` in the state directory, so that trying it out needs
    no disk of its
    own; give it one before real use."""

    storage_name: str = "local"
    """Name of the first storage."""

    storage_encryption: str = "aes-256-gcm"
    """How the first storage is encrypted: none, aes-256-gcm or sm4-gcm. Costs little where the processor
    helps."""

    stop_seconds: float = 60.0
    """How long a part may take to stop before it is killed. Less than systemd's own patience of 90 s."""

    log_level: str = "info"
    """Least level written to the log: debug, info, warning or error."""

    @property
    def server_state(self) -> Path:
        """Of the server."""
        return self.state_directory / "server"

    @property
    def node_state(self) -> Path:
        """Of the node."""
        return self.state_directory / "node"

    @property
    def console_state(self) -> Path:
        """Of the console."""
        return self.state_directory / "console"

    @property
    def first_storage(self) -> Path:
        """Directory of the first storage."""
        return Path(self.storage_directory) if self.storage_directory else self.state_directory / "storage"
