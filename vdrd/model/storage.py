"""A storage as values: how it is encrypted and compressed, and what it tells about itself."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

COMPRESSION_LEVELS = {1: 1, 2: 3, 3: 6, 4: 12}
"""The four levels a user chooses from, as zstd levels. Above 12 it gains less than 1% at 64 KiB."""

DEFAULT_COMPRESSION = 1
"""Half of a backup's time is compression already; level 2 stores about 1% less for a third more of it."""


class Encryption(StrEnum):
    """How chunks and point bodies are encrypted. Values are the spellings of the command line."""

    NONE = "none"
    AES_256_GCM = "aes-256-gcm"
    SM4_GCM = "sm4-gcm"


class SlotKind(StrEnum):
    """What opens a key slot."""

    CLEAR = "clear"
    """Nothing needs to: the storage is not encrypted."""
    KEY_FILE = "key-file"
    PASSPHRASE = "passphrase"
    RECOVERY = "recovery"


@dataclass(frozen=True, slots=True)
class StorageInfo:
    """What a storage says of itself. Fixed when it is made."""

    storage_id: str
    """32 hex digits."""
    created: datetime
    encryption: Encryption
    compression: int | None
    """1 to 4, None for raw."""
    block_bytes: int
    """Of disk points."""

    @property
    def compression_level(self) -> int | None:
        """As a zstd level."""
        return None if self.compression is None else COMPRESSION_LEVELS[self.compression]


@dataclass(frozen=True, slots=True)
class StorageStatistics:
    """What an open storage holds, without looking into it."""

    point_count: int
    pack_count: int
    chunk_count: int
    """Records in packs; a chunk that stands in two counts twice."""
    stored_bytes: int
    """Length of all packs."""
    live_bytes: int | None
    """Of that, what points reach; None when points came or went since the last collection counted."""
    session_count: int
    index_segments: int
    index_entries: int
    table_entries: int
    """In memory, not yet in a segment."""


class KeyMaterial:
    """What opens an encrypted storage: the content of a key file, or what a person types: a passphrase or a
    recovery key. Never printed."""

    __slots__ = ("_secret", "is_passphrase")

    def __init__(self, secret: bytes, *, is_passphrase: bool = False) -> None:
        self._secret = secret
        self.is_passphrase = is_passphrase

    def reveal(self) -> bytes:
        """The secret itself, for deriving the wrapping key."""
        return self._secret

    def __repr__(self) -> str:
        return "KeyMaterial(***)"
