"""Metadata backups of the fake server."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

import msgspec

from schemas import api
from vdrd.model.errors import NotFound

NAME = "20261123T033000Z-0123abcd.vdrmeta"


class FakeMetadata:
    """The metadata family of calls."""

    now: Callable[[], datetime]

    def __init__(self) -> None:
        self.plan = api.MetadataPlanInfo(
            has_passphrase=True,
            at="03:30",
            zone="UTC",
            storage_id=None,
            keep=14,
            last_at=None,
            last_error="no space left on /var/lib/vdr",
        )
        self.metadata = {NAME: bytes(range(256)) * 5000}

    def on_metadata_plan(self, _request: api.MetadataPlan, _: str) -> api.MetadataPlanInfo:
        return self.plan

    def on_metadata_edit_plan(self, request: api.MetadataPlanEdit, _: str) -> api.MetadataPlanInfo:
        changes: dict[str, Any] = {
            name: value
            for name in ("at", "zone", "storage_id", "keep")
            if (value := getattr(request, name)) is not msgspec.UNSET
        }
        self.plan = msgspec.structs.replace(self.plan, **changes)
        return self.plan

    def on_metadata_save(self, _request: api.MetadataSave, _: str) -> api.MetadataFile:
        name = f"20261124T03300{len(self.metadata)}Z-0123abcd.vdrmeta"
        self.metadata[name] = b"new"
        return self._file(name)

    def _file(self, name: str) -> api.MetadataFile:
        return api.MetadataFile(name=name, size_bytes=len(self.metadata[name]), made_at=self.now())

    def on_metadata_list(self, _request: api.MetadataList, _: str) -> api.MetadataFiles:
        return api.MetadataFiles(items=[self._file(name) for name in sorted(self.metadata, reverse=True)])

    def on_metadata_read(self, request: api.MetadataRead, _: str) -> api.MetadataPart:
        if request.name not in self.metadata:
            raise NotFound(what="metadata backup", name=request.name)
        data = self.metadata[request.name]
        return api.MetadataPart(
            data=data[request.offset : request.offset + (512 << 10)], size_bytes=len(data)
        )
