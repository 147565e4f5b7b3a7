"""Words with a fixed set of values that calls, control messages and the catalog share."""

from enum import StrEnum


class RunState(StrEnum):
    """Where a run stands. The first three are open, the others final."""

    QUEUED = "queued"
    PREPARING = "preparing"
    RUNNING = "running"
    DONE = "done"
    WARNING = "warning"
    """Finished and usable, but something could not be read; the log lists it."""
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_final(self) -> bool:
        """True once nothing will change any more."""
        return self not in OPEN_STATES


OPEN_STATES = frozenset({RunState.QUEUED, RunState.PREPARING, RunState.RUNNING})


class RunKind(StrEnum):
    """What a run does."""

    BACKUP_DISK = "backup-disk"
    BACKUP_FILES = "backup-files"
    RESTORE_DISK = "restore-disk"
    RESTORE_FILES = "restore-files"
    VERIFY = "verify"
    COLLECT = "collect"


class ObjectKind(StrEnum):
    """What a point protects."""

    DISK = "disk"
    FILES = "files"


class BackupType(StrEnum):
    """How a backup looks for changes. Every point is complete whatever its type."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"


class Encryption(StrEnum):
    """How a storage encrypts."""

    NONE = "none"
    AES_256_GCM = "aes-256-gcm"
    SM4_GCM = "sm4-gcm"


class LinkMode(StrEnum):
    """Who dials: the agent (active) or the server and the node (passive)."""

    ACTIVE = "active"
    PASSIVE = "passive"


class Presence(StrEnum):
    """Whether a host or node can be reached now."""

    ONLINE = "online"
    OFFLINE = "offline"
    NEVER_SEEN = "never-seen"
    REVOKED = "revoked"


class LogLevel(StrEnum):
    """How much a line of a run's log matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AlertKind(StrEnum):
    """What is wrong."""

    RUN_FAILED = "run-failed"
    """The latest run of a job on a host failed."""
    RUN_WARNINGS = "run-warnings"
    """The latest run of a job on a host could not read everything."""
    NO_SUCCESS = "no-success"
    """A job brought nothing home from a host for longer than it may."""
    DAMAGE = "damage"
    """The latest verification of a point failed."""
    STORAGE_OFFLINE = "storage-offline"
    STORAGE_SPACE = "storage-space"
    """A storage's file system is nearly full."""
    NODE_OFFLINE = "node-offline"
    HOST_OFFLINE = "host-offline"
    CERTIFICATE_ENDING = "certificate-ending"
    """A machine did not renew its certificate, which ends soon."""
    METADATA = "metadata"
    """The server's own metadata is not saved."""
    CHANNEL_FAILING = "channel-failing"
    """Messages through a channel do not arrive."""


class AlertLevel(StrEnum):
    """How much an alert matters, least first."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class AlertState(StrEnum):
    """Where an alert stands."""

    OPEN = "open"
    ACKNOWLEDGED = "acknowledged"
    """Somebody looks after it."""
    CLOSED = "closed"


class DeliveryState(StrEnum):
    """Where a message to people stands."""

    WAITING = "waiting"
    SENT = "sent"
    FAILED = "failed"
    """Given up after the last try."""


class Permission(StrEnum):
    """A right a role may hold. Every call names the one it needs; the server alone decides."""

    SYSTEM_READ = "system.read"
    HOSTS_READ = "hosts.read"
    HOSTS_BROWSE = "hosts.browse"
    HOSTS_MANAGE = "hosts.manage"
    NODES_READ = "nodes.read"
    NODES_MANAGE = "nodes.manage"
    STORAGES_READ = "storages.read"
    STORAGES_MANAGE = "storages.manage"
    JOBS_READ = "jobs.read"
    JOBS_MANAGE = "jobs.manage"
    JOBS_RUN = "jobs.run"
    POINTS_READ = "points.read"
    POINTS_BROWSE = "points.browse"
    POINTS_RESTORE = "points.restore"
    POINTS_DELETE = "points.delete"
    POINTS_LOCK = "points.lock"
    EXPORTS_MANAGE = "exports.manage"
    ALERTS_READ = "alerts.read"
    ALERTS_HANDLE = "alerts.handle"
    """Acknowledge and close."""
    CHANNELS_MANAGE = "channels.manage"
    METADATA_MANAGE = "metadata.manage"
    """Whoever may read a metadata backup and knows its passphrase has everything."""
    USERS_READ = "users.read"
    USERS_MANAGE = "users.manage"
    AUDIT_READ = "audit.read"
