"""Messages between the server and its nodes and agents, over their control links.

Every request names the message that answers it; a link's error reply (a code of the error tree, message,
hint) may come
instead of any. Messages that start something long are answered at once; the end is a message of its own.
Nodes and agents
keep an end they could not deliver and deliver it after the next `Register`, so neither side needs to guess.

Who asks whom:

    agent, node -> server   Register -> Registered, RunProgressed!, RunLogged!, RunEnded -> Ack,
                            CertificateRenew -> CertificateRenewed
    server -> agent, node   RevocationsPushed!
    node -> server          PointsAnnounced -> Ack, StoragesAnnounced -> Ack
    server -> agent         RunStart -> Ack, RunCancel -> Ack, HostDisksAsk -> HostDisksAnswer,
                            HostBrowseAsk -> ListingAnswer
    server -> node          RunPrepare -> RunPrepared, RunDial -> Ack, RunCancel -> Ack,
                            RunRelease -> Ack,
                            StorageOpen -> StorageAnswer, StorageClose -> Ack,
                            StorageMeasure -> StorageMeasured,
                            StorageKeyRotate -> StorageKeyInForce, PointBrowseAsk -> ListingAnswer,
                            PointReadAsk -> PointPart,
                            PointsForget -> PointsForgotten, PointsRetain -> PointsRetained,
                            PointLockAsk -> PointLockAnswer, PointsAsk -> Ack,
                            ExportAdd -> ExportAdded, ExportRemove -> Ack

    (! = a notification: no answer; losing one does no harm)
"""

from typing import Annotated

from msgspec import Meta, field

from schemas.api.hosts import DiskInfo, FileEntry
from schemas.api.storages import StorageKeyRotated, StorageStatisticsReply
from schemas.api.values import Count, Message, Time
from schemas.api.words import BackupType, Encryption, LogLevel, ObjectKind, RunKind, RunState


class Ack(Message, frozen=True, kw_only=True, tag_field="t", tag="ack"):
    """Understood and, where it can be at once, done."""


# ---- registering -------------------------------------------------------------------------------------------


class StorageAnnounced(Message, frozen=True, kw_only=True):
    """A storage as its node sees it."""

    storage_id: str
    path: str
    encryption: Encryption
    compression: int | None
    is_online: bool
    problem: str = ""
    stored_bytes: Count = 0
    capacity_bytes: Count = 0
    free_bytes: Count = 0
    point_count: Count = 0


class HeldRun(Message, frozen=True, kw_only=True):
    """A run the registering side still works on, or whose end it could not deliver yet."""

    run_id: str
    attempt: Count


class Register(Message, frozen=True, kw_only=True, tag_field="t", tag="register"):
    """First message of an agent or node on a new link. Who it is comes from its certificate, not from
    here."""

    host_name: str
    version: str
    operating_system: str
    capabilities: list[str] = field(default_factory=list)
    """What it can do: `disk`, `files`, `nfs`, ..."""
    now: Time
    """Its clock, for the skew shown to people; no decision rests on it."""
    held_runs: list[HeldRun] = field(default_factory=list)
    data_address: str = ""
    """Nodes: where agents open data channels."""
    certificate_fingerprint: str = ""
    """Nodes: SHA-256 of the certificate the data channels present, hex."""


class StorageAssigned(Message, frozen=True, kw_only=True):
    """A storage a node is to open."""

    storage_id: str
    name: str
    path: str
    key_file: str | None = None


class Registered(Message, frozen=True, kw_only=True, tag_field="t", tag="registered"):
    """The server knows the sender. A node opens the storages and then announces them and their points."""

    server_id: str
    name: str
    now: Time
    storages: list[StorageAssigned] = field(default_factory=list)
    drop_runs: list[str] = field(default_factory=list)
    """Runs of `held_runs` that are no longer wanted: stop them."""


class StoragesAnnounced(Message, frozen=True, kw_only=True, tag_field="t", tag="storages-announced"):
    """The state of all of a node's storages, after opening them and when one changes."""

    storages: list[StorageAnnounced]


class PointRecord(Message, frozen=True, kw_only=True):
    """A point as its storage has it."""

    point_id: str
    time: Time
    started_at: Time
    object_name: str
    kind: ObjectKind
    backup_type: BackupType
    source: str
    host_name: str
    parent_id: str | None
    logical_bytes: Count
    new_bytes: Count
    stored_bytes: Count
    warning_count: Count
    labels: dict[str, str] = field(default_factory=dict)
    """Carry `host-id`, `job-id`, `run-id`, so that a catalog can be rebuilt from the storage."""
    locked_until: Time | None = None
    is_held: bool = False


class PointsAnnounced(Message, frozen=True, kw_only=True, tag_field="t", tag="points-announced"):
    """Points of a storage. Sent at once when a point is committed, and in pages after a storage was opened.

    `is_scan` marks the pages of a scan; after the page with `is_last` every point of the storage the scan did
    not name is
    gone from it.
    """

    storage_id: str
    points: list[PointRecord]
    scan_id: str = ""
    is_scan: bool = False
    is_last: bool = False


class CertificateRenew(Message, frozen=True, kw_only=True, tag_field="t", tag="certificate-renew"):
    """To the server: a fresh certificate for the sender, who it is stays the same."""

    request_pem: str


class CertificateRenewed(Message, frozen=True, kw_only=True, tag_field="t", tag="certificate-renewed"):
    """The fresh certificate."""

    certificate_pem: str


class RevocationsPushed(Message, frozen=True, kw_only=True, tag_field="t", tag="revocations-pushed"):
    """To nodes and agents, a notification: the authority's signed list of revoked certificates."""

    revoked_pem: str


# ---- runs --------------------------------------------------------------------------------------------------


class BackupItem(Message, frozen=True, kw_only=True):
    """One object of a backup run."""

    object_name: str
    path: str
    parent_id: str | None = None
    """Newest point of the object, or the newest full one for a differential backup; None for a full
    backup."""


class RestoreItem(Message, frozen=True, kw_only=True):
    """What a restore run brings back and where to."""

    point_id: str
    target_path: str
    paths: list[str] = field(default_factory=list)
    overwrite: bool = False


class RunSpec(Message, frozen=True, kw_only=True):
    """What a run is to do. The same for the node and the agent."""

    run_id: str
    attempt: int
    kind: RunKind
    storage_id: str
    host_id: str | None = None
    host_name: str = ""
    job_id: str | None = None
    backup_type: BackupType = BackupType.INCREMENTAL
    items: list[BackupItem] = field(default_factory=list)
    restore: RestoreItem | None = None
    include: list[str] = field(default_factory=list)
    exclude: list[str] = field(default_factory=list)
    channel_count: int = 2
    point_ids: list[str] = field(default_factory=list)
    """Verify: these; empty means all of the storage."""
    read_data: bool = False


class RunPrepare(Message, frozen=True, kw_only=True, tag_field="t", tag="run-prepare"):
    """To the node: get ready to serve a run, or, for a run without an agent (verify, collect), do it."""

    spec: RunSpec
    ticket_seconds: int = 60
    """How long the tickets are good for before they are used."""
    domain: Annotated[int, Meta(ge=0, lt=1 << 32)] = 0
    """A backup's key domain: its tenant's. The agent gets the keys of this one, and no other's chunks."""


class ParentRecord(Message, frozen=True, kw_only=True):
    """A parent point, so far as the agent needs it to find changes."""

    object_name: str
    point_id: str
    root_id: bytes | None
    levels: int
    size_bytes: int = 0
    block_bytes: int = 0
    entry_count: int = 0
    lacking: bytes = b""
    """Ids of its chunks, 32 bytes each, that the storage has lost: the agent makes them again of the files as
    they are, and reads everything where that fails."""


class RunPrepared(Message, frozen=True, kw_only=True, tag_field="t", tag="run-prepared"):
    """The node is ready. `tickets` are one-time, one per data channel; empty for a run without an agent."""

    tickets: list[bytes]
    data_address: str
    certificate_fingerprint: str
    parents: list[ParentRecord] = field(default_factory=list)
    """For each item whose parent the storage still has; the others are backed up in full."""
    restore_root: "PointRoot | None" = None
    restore_warnings: list[str] = field(default_factory=list)
    """What of the files within a disk cannot be brought back as it was: the first ones."""
    restore_warning_count: Count = 0
    storage_place: "StoragePlace | None" = None


class StoragePlace(Message, frozen=True, kw_only=True):
    """Where a storage lies on its node, so that an agent on the same machine leaves it out of its backups."""

    path: str
    mark: str
    """The id in the storage's own header: the same path on another machine is another directory."""


class PointRoot(Message, frozen=True, kw_only=True):
    """The root of the point a restore reads."""

    kind: ObjectKind
    root_id: bytes | None
    levels: int
    size_bytes: int = 0
    block_bytes: int = 0
    entry_count: int = 0


class RunStart(Message, frozen=True, kw_only=True, tag_field="t", tag="run-start"):
    """To the agent: do this. Answered when the agent has taken it on; starting the same attempt twice does
    nothing."""

    spec: RunSpec
    tickets: list[bytes]
    data_address: str
    """Where to dial the node; empty: wait for the node to dial (passive agents)."""
    certificate_fingerprint: str
    parents: list[ParentRecord] = field(default_factory=list)
    restore_root: PointRoot | None = None
    restore_warnings: list[str] = field(default_factory=list)
    restore_warning_count: Count = 0
    storage_place: StoragePlace | None = None


class RunDial(Message, frozen=True, kw_only=True, tag_field="t", tag="run-dial"):
    """To the node, after the agent took the run on: dial a passive agent for its data channels."""

    run_id: str
    attempt: int
    address: str
    channel_count: int


class RunCancel(Message, frozen=True, kw_only=True, tag_field="t", tag="run-cancel"):
    """Stop a run at its next batch. It ends with `RunEnded` as any other. Cancelling an unknown run does
    nothing."""

    run_id: str


class RunRelease(Message, frozen=True, kw_only=True, tag_field="t", tag="run-release"):
    """To the node: the run is over; close its data channels, void its tickets, end its sessions."""

    run_id: str
    attempt: int


class RunProgressed(Message, frozen=True, kw_only=True, tag_field="t", tag="run-progressed"):
    """How far a run is. At most twice a second."""

    run_id: str
    attempt: Count
    step: str
    item: Count = 0
    """Index into the spec's items."""
    done_bytes: Count = 0
    total_bytes: Count | None = None
    done_files: Count = 0
    total_files: Count | None = None
    new_bytes: Count = 0
    stored_bytes: Count = 0


class LoggedLine(Message, frozen=True, kw_only=True):
    """A line for the log of a run."""

    time: Time
    level: LogLevel
    text: str


class RunLogged(Message, frozen=True, kw_only=True, tag_field="t", tag="run-logged"):
    """Lines for the log of a run."""

    run_id: str
    attempt: int
    lines: list[LoggedLine]


class RunEnded(Message, frozen=True, kw_only=True, tag_field="t", tag="run-ended"):
    """A run is over on the sender's side. Repeated after a reconnect until acknowledged; repeating it does
    nothing."""

    run_id: str
    attempt: Count
    state: RunState
    """`done`, `warning`, `failed` or `cancelled`."""
    error_code: str = ""
    error: str = ""
    is_retryable: bool = False
    warning_count: Count = 0
    lines: list[LoggedLine] = field(default_factory=list)
    """Last lines of the log: warnings and the error."""
    point_ids: list[str] = field(default_factory=list)
    done_bytes: Count = 0
    done_files: Count = 0
    new_bytes: Count = 0
    stored_bytes: Count = 0


# ---- looking -----------------------------------------------------------------------------------------------


class HostDisksAsk(Message, frozen=True, kw_only=True, tag_field="t", tag="host-disks"):
    """To the agent: which disks are there?"""


class HostDisksAnswer(Message, frozen=True, kw_only=True, tag_field="t", tag="host-disks-answer"):
    """Disks, partitions, volumes; parents first."""

    items: list[DiskInfo]


class HostBrowseAsk(Message, frozen=True, kw_only=True, tag_field="t", tag="host-browse"):
    """To the agent: list a directory, by name, from the entry after `after`."""

    path: str
    directories_only: bool = False
    after: str | None = None
    limit: int = 500


class PointBrowseAsk(Message, frozen=True, kw_only=True, tag_field="t", tag="point-browse"):
    """To the node: list a directory of a point, by name, from the entry after `after`. Of a disk, its volumes
    are the folders at the top."""

    storage_id: str
    point_id: str
    path: str
    after: str | None = None
    limit: int = 500


class PointReadAsk(Message, frozen=True, kw_only=True, tag_field="t", tag="point-read"):
    """To the node: a part of a regular file of a point."""

    storage_id: str
    point_id: str
    path: str
    offset: int
    length: int


class PointPart(Message, frozen=True, kw_only=True, tag_field="t", tag="point-part"):
    """A part of a file: at most what was asked for, and what fits; empty from its end on."""

    data: bytes
    size_bytes: Count
    """Of the whole file."""
    name: str
    modified_at: Time | None = None


class ListingAnswer(Message, frozen=True, kw_only=True, tag_field="t", tag="listing"):
    """Some entries of a directory."""

    items: list[FileEntry]
    has_more: bool = False


# ---- storages, points, exports -----------------------------------------------------------------------------


class StorageOpen(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-open"):
    """To the node: make a storage (or attach one) and keep it open."""

    storage_id: str
    name: str
    path: str
    create: bool
    encryption: Encryption = Encryption.AES_256_GCM
    compression: int | None = 1
    key_file: str | None = None
    """None with encryption: make one in the node's state directory."""


class StorageAnswer(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-answer"):
    """The storage is open."""

    storage: StorageAnnounced
    key_file: str | None = None


class StorageClose(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-close"):
    """To the node: close it and forget it. Refused while a run uses it."""

    storage_id: str


class StorageMeasure(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-measure"):
    """To the node: measure it."""

    storage_id: str


class StorageMeasured(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-measured"):
    """A storage in numbers."""

    statistics: StorageStatisticsReply


class StorageKeyRotate(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-key-rotate"):
    """To the node: add a root key to a storage, under the secret in its key file. Slots that are not dropped
    and that this secret does not open are a reason to refuse."""

    storage_id: str
    drop_slots: list[str] = field(default_factory=list)


class StorageKeyInForce(Message, frozen=True, kw_only=True, tag_field="t", tag="storage-key-in-force"):
    """The key was rotated."""

    rotated: StorageKeyRotated


class MetadataPut(Message, frozen=True, kw_only=True, tag_field="t", tag="metadata-put"):
    """To the node: a part of a metadata backup, to be kept in the storage. The last part makes it whole and
    removes all but the newest `keep`."""

    storage_id: str
    name: str
    offset: int
    data: bytes
    is_last: bool
    keep: int


class PointsForget(Message, frozen=True, kw_only=True, tag_field="t", tag="points-forget"):
    """To the node: drop these points. One that is not there counts as forgotten."""

    storage_id: str
    point_ids: list[str]


class PointsForgotten(Message, frozen=True, kw_only=True, tag_field="t", tag="points-forgotten"):
    """Which are gone."""

    point_ids: list[str]


class PointsRetain(Message, frozen=True, kw_only=True, tag_field="t", tag="points-retain"):
    """To the node: drop what a policy lets go of an object's points. Without any rule nothing goes."""

    storage_id: str
    object_name: str
    now: Time
    """The server's time: the earlier of it and the storage's counts."""
    keep_last: int | None = None
    keep_days: int | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    keep_yearly: int | None = None
    used_ids: list[str] = field(default_factory=list)
    """Points in use: they stay."""
    broken_ids: list[str] = field(default_factory=list)
    """Points known not to be whole: a whole one must stay beside them."""


class PointsRetained(Message, frozen=True, kw_only=True, tag_field="t", tag="points-retained"):
    """What went, and what would have but for a lock."""

    forgotten_ids: list[str]
    blocked_ids: list[str] = field(default_factory=list)
    is_clock_doubtful: bool = False
    """The clock of the node is ahead of the storage's time, and nobody confirmed it."""


class PointLockAsk(Message, frozen=True, kw_only=True, tag_field="t", tag="point-lock"):
    """To the node: extend a point's lock, put it under legal hold or release it. What is None stays."""

    storage_id: str
    point_id: str
    until: Time | None = None
    is_held: bool | None = None


class PointLockAnswer(Message, frozen=True, kw_only=True, tag_field="t", tag="point-lock-answer"):
    """The point with its lock."""

    point: PointRecord


class PointsAsk(Message, frozen=True, kw_only=True, tag_field="t", tag="points-ask"):
    """To the node: scan a storage and announce its points again. Answered by `Ack` at once."""

    storage_id: str


class ExportAdd(Message, frozen=True, kw_only=True, tag_field="t", tag="export-add"):
    """To the node: serve a disk point. Adding an export that is there answers with it."""

    export_id: str
    storage_id: str
    point_id: str
    is_writable: bool


class ExportAdded(Message, frozen=True, kw_only=True, tag_field="t", tag="export-added"):
    """It can be read now."""

    url: str
    mount_command: str


class ExportRemove(Message, frozen=True, kw_only=True, tag_field="t", tag="export-remove"):
    """To the node: stop serving it and discard what was written over it."""

    export_id: str


FromMachine = (
    Register | CertificateRenew | StoragesAnnounced | PointsAnnounced | RunProgressed | RunLogged | RunEnded
)
"""What an agent or node sends to the server."""

ToAgent = RevocationsPushed | RunStart | RunCancel | HostDisksAsk | HostBrowseAsk
"""What the server sends to an agent."""

ToNode = (
    RevocationsPushed
    | RunPrepare
    | RunDial
    | RunCancel
    | RunRelease
    | StorageOpen
    | StorageClose
    | StorageMeasure
    | StorageKeyRotate
    | MetadataPut
    | PointBrowseAsk
    | PointReadAsk
    | PointsForget
    | PointsRetain
    | PointLockAsk
    | PointsAsk
    | ExportAdd
    | ExportRemove
)
"""What the server sends to a node."""

Answers = (
    Ack
    | Registered
    | CertificateRenewed
    | RunPrepared
    | HostDisksAnswer
    | ListingAnswer
    | PointPart
    | StorageAnswer
    | StorageMeasured
    | StorageKeyInForce
    | PointsForgotten
    | PointsRetained
    | PointLockAnswer
    | ExportAdded
)
"""What answers them."""
