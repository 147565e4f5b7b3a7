"""Calls about hosts (machines with an agent) and nodes (machines that hold storages)."""

from typing import Annotated

from msgspec import Meta, field

from schemas.api.values import ById, Id, Message, Name, Page, PageRequest, PathText, Time
from schemas.api.words import LinkMode, Presence


class HostInfo(Message, frozen=True, kw_only=True):
    """A protected machine."""

    id: Id
    name: str
    host_name: str
    """What the machine calls itself."""
    link_mode: LinkMode
    presence: Presence
    address: str | None
    """Passive: where to dial. Active: where the link came from."""
    agent_version: str
    operating_system: str
    capabilities: list[str]
    enrolled_at: Time
    last_seen_at: Time | None
    last_success_at: Time | None
    """When its newest point was committed."""
    point_count: int = 0
    clock_skew_seconds: float = 0.0


class HostList(PageRequest, frozen=True, kw_only=True):
    """Lists hosts by name."""

    search: str | None = None
    """Part of the name."""
    presence: Presence | None = None


class HostPage(Page, frozen=True, kw_only=True):
    """Some hosts."""

    items: list[HostInfo]


class HostGet(ById, frozen=True, kw_only=True):
    """One host."""


class HostRename(ById, frozen=True, kw_only=True):
    """Gives a host another name; its objects and points keep theirs."""

    name: Name


class HostDelete(ById, frozen=True, kw_only=True):
    """Revokes a host's certificate and forgets the host. Its points stay. Refused while a job names it,
    unless `force`."""

    force: bool = False


class EnrolmentTokenCreate(Message, frozen=True, kw_only=True):
    """Makes a one-time token with which a new agent, node or console may enrol."""

    role: str = "agent"
    """`agent`, `node` or `console`."""
    name: Name | None = None
    """Name to give the machine; its own host name if None."""
    valid_seconds: Annotated[int, Meta(ge=60, le=30 * 86400)] = 86400


class EnrolmentToken(Message, frozen=True, kw_only=True):
    """A one-time token. Shown once; only its hash is kept."""

    token: str
    """Carries the server's address and the fingerprint of its authority too."""
    command: str
    """What to type on the new machine."""
    server_address: str
    authority_fingerprint: str
    expires_at: Time


class HostAddPassive(Message, frozen=True, kw_only=True):
    """Admits a host whose agent waits to be dialled and cannot reach the server itself.

    The server makes its identity; the administrator carries it to the host once. (An agent that can reach the
    server
    enrols with a token and says then that it wants to be dialled.)
    """

    name: Name
    address: Annotated[str, Meta(min_length=1, max_length=255)]
    """Host name or IP address."""
    port: Annotated[int, Meta(ge=1, le=65535)] = 4512


class PassiveEnrolment(Message, frozen=True, kw_only=True):
    """A host that was admitted, and what has to be carried to it. Shown once."""

    host: HostInfo
    bundle: str
    """Key, certificate and authority, in PEM. Secret: who has it is this host."""
    command: str
    """What to type on the host, with the bundle on standard input."""


class HostDisks(ById, frozen=True, kw_only=True):
    """Asks an online host for its disks, partitions and volumes."""


class DiskInfo(Message, frozen=True, kw_only=True):
    """A block device of a host, or an image file."""

    path: PathText
    kind: str
    """`disk`, `partition`, `lvm`, `crypt`, `raid`, `loop`, ..., as lsblk says."""
    size_bytes: int
    model: str = ""
    parent_path: PathText | None = None
    file_system: str = ""
    label: str = ""
    mount_points: list[str] = field(default_factory=list)
    is_read_only: bool = False


class HostDisksReply(Message, frozen=True, kw_only=True):
    """The disks of a host, parents before children."""

    items: list[DiskInfo]


class HostBrowse(ById, frozen=True, kw_only=True):
    """Lists one directory of an online host."""

    path: PathText = "/"
    directories_only: bool = False
    cursor: str | None = None
    limit: Annotated[int, Meta(ge=1, le=1000)] = 500


class FileEntry(Message, frozen=True, kw_only=True):
    """A file of a host or of a point."""

    name: PathText
    path: PathText
    kind: str
    """`file`, `directory`, `symlink`, `fifo`, `socket`, `char`, `block`."""
    size_bytes: int = 0
    mode: int = 0
    uid: int = 0
    gid: int = 0
    modified_at: Time | None = None
    link_target: PathText | None = None
    note: str = ""
    """Of a volume's folder within a disk: what it holds, its label, why it cannot be read."""


class FilePage(Page, frozen=True, kw_only=True):
    """Some entries of a directory, by name."""

    path: PathText
    items: list[FileEntry]


class NodeInfo(Message, frozen=True, kw_only=True):
    """A machine that runs jobs and owns storages."""

    id: Id
    name: str
    presence: Presence
    data_address: str
    """Where agents open data channels, `address:port`."""
    version: str
    is_draining: bool
    storage_count: int
    running_count: int
    last_seen_at: Time | None


class NodeList(PageRequest, frozen=True, kw_only=True):
    """Lists nodes by name."""


class NodePage(Page, frozen=True, kw_only=True):
    """Some nodes."""

    items: list[NodeInfo]


class NodeGet(ById, frozen=True, kw_only=True):
    """One node."""


class NodeDrain(ById, frozen=True, kw_only=True):
    """Stops or resumes placing new runs on a node."""

    is_draining: bool
