"""Calls about storages."""

from typing import Annotated

from msgspec import Meta

from schemas.api.values import ById, Id, Message, Name, Page, PageRequest, PathText, Time
from schemas.api.words import Encryption

SlotId = Annotated[str, Meta(pattern="^[0-9a-f]{8}$")]


class StorageInfo(Message, frozen=True, kw_only=True):
    """A place where points live."""

    id: Id
    name: str
    node_id: Id
    node_name: str
    path: PathText
    encryption: Encryption
    compression: int | None
    is_online: bool
    problem: str = ""
    """Why it is not online, or, when it is, what was found damaged in it."""
    created_at: Time
    point_count: int = 0
    stored_bytes: int = 0
    capacity_bytes: int = 0
    free_bytes: int = 0
    measured_at: Time | None = None


class StorageList(PageRequest, frozen=True, kw_only=True):
    """Lists storages by name."""

    node_id: Id | None = None


class StoragePage(Page, frozen=True, kw_only=True):
    """Some storages."""

    items: list[StorageInfo]


class StorageGet(ById, frozen=True, kw_only=True):
    """One storage."""


class StorageCreate(Message, frozen=True, kw_only=True):
    """Makes a storage in an empty or absent directory of a node, or attaches the one that stands there
    (`attach`)."""

    name: Name
    node_id: Id | None = None
    """None: the only node."""
    path: PathText
    encryption: Encryption = Encryption.AES_256_GCM
    compression: Annotated[int, Meta(ge=1, le=4)] | None = 1
    key_file: PathText | None = None
    """On the node. None: the node makes one in its state directory, readable by root only."""
    attach: bool = False
    """Take over an existing storage with its points; encryption and compression are then what it has."""


class StorageDetach(ById, frozen=True, kw_only=True):
    """Forgets a storage. Nothing in its directory is touched. Refused while a job writes to it."""


class StorageStatistics(ById, frozen=True, kw_only=True):
    """Measures a storage now."""


class StorageStatisticsReply(Message, frozen=True, kw_only=True):
    """A storage in numbers."""

    point_count: int
    object_count: int
    logical_bytes: int
    """Sum over the points of what they protect."""
    added_bytes: int
    """Sum over the points of the plain bytes that each found lacking."""
    stored_bytes: int
    """Bytes of the packs, with what no point uses any more until a collection frees it."""
    live_bytes: int | None = None
    """Of that, what points reach; None when points came or went since the last collection counted."""
    capacity_bytes: int
    free_bytes: int


class StorageVerify(ById, frozen=True, kw_only=True):
    """Starts a run that verifies every point of a storage."""

    read_data: bool = False


class StorageRotateKey(ById, frozen=True, kw_only=True):
    """Seals what is written from now on under a new root key. The node has the secret of one slot, its key
    file; every other slot must be named in `drop_slots`, or it is refused and nothing changes."""

    drop_slots: Annotated[list[SlotId], Meta(max_length=256)] = []


class StorageKeyRotated(Message, frozen=True, kw_only=True):
    """The new key is in force."""

    epoch_count: int
    """How many root keys the storage has now."""
    slots: list[SlotId]
    """Slots that open it."""
    dropped_slots: list[SlotId]


class StorageCollect(ById, frozen=True, kw_only=True):
    """Starts a run that frees what no point uses."""
