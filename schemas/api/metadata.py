"""Calls about metadata backups: what a new server is made from when this one is gone."""

from typing import Annotated

from msgspec import UNSET, Meta, UnsetType

from schemas.api.schedules import WallTime, Zone
from schemas.api.values import Count, Id, Message, Time

NewPassphrase = Annotated[str, Meta(min_length=12, max_length=1024)]


class MetadataPlan(Message, frozen=True, kw_only=True):
    """Asks how metadata backups are made."""


class MetadataPlanInfo(Message, frozen=True, kw_only=True):
    """How metadata backups are made."""

    has_passphrase: bool
    """Without one nothing is saved."""
    at: WallTime
    """Every day."""
    zone: Zone
    storage_id: Id | None
    """Storage that gets a copy; None: they stay on the server's machine only."""
    keep: int
    """How many are kept, here and there."""
    last_at: Time | None
    last_error: str
    """Of the latest attempt; empty when it went through."""


class MetadataPlanEdit(Message, frozen=True, kw_only=True):
    """Changes what is given."""

    passphrase: NewPassphrase | UnsetType = UNSET
    """Keep it elsewhere: without it no backup made from now on opens. It is never given back."""
    at: WallTime | UnsetType = UNSET
    zone: Zone | UnsetType = UNSET
    storage_id: Id | UnsetType | None = UNSET
    keep: Annotated[int, Meta(ge=1, le=1000)] | UnsetType = UNSET


class MetadataSave(Message, frozen=True, kw_only=True):
    """Makes a metadata backup now and waits for it."""


class MetadataFile(Message, frozen=True, kw_only=True):
    """A metadata backup on the server's machine."""

    name: str
    size_bytes: int
    made_at: Time


class MetadataList(Message, frozen=True, kw_only=True):
    """Lists the metadata backups on the server's machine, newest first."""


class MetadataFiles(Message, frozen=True, kw_only=True):
    """All of them."""

    items: list[MetadataFile]


class MetadataRead(Message, frozen=True, kw_only=True):
    """Reads a part of one."""

    name: Annotated[str, Meta(max_length=100)]
    offset: Count = 0


class MetadataPart(Message, frozen=True, kw_only=True):
    """Up to 512 KiB of it; empty at its end."""

    data: bytes
    size_bytes: int
