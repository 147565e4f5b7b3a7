"""Calls about metadata backups."""

from schemas.api.metadata import (
    MetadataFile,
    MetadataFiles,
    MetadataList,
    MetadataPart,
    MetadataPlan,
    MetadataPlanEdit,
    MetadataPlanInfo,
    MetadataRead,
    MetadataSave,
)
from vdrd.catalog import audit
from vdrd.server.accounts import Caller
from vdrd.server.services import Services


async def plan(services: Services, _caller: Caller, _request: MetadataPlan) -> MetadataPlanInfo:
    """How they are made."""
    return await services.metadata.plan()


async def edit_plan(services: Services, _caller: Caller, request: MetadataPlanEdit) -> MetadataPlanInfo:
    """Change how they are made."""
    return await services.metadata.edit(request)


async def save(services: Services, _caller: Caller, _request: MetadataSave) -> MetadataFile:
    """Make one now."""
    return await services.metadata.save()


async def list_files(services: Services, _caller: Caller, _request: MetadataList) -> MetadataFiles:
    """What is there."""
    return MetadataFiles(items=await services.metadata.files())


async def read(services: Services, caller: Caller, request: MetadataRead) -> MetadataPart:
    """A part of one. Whoever begins to read is written down."""
    data, size_bytes = await services.metadata.read(request.name, request.offset)
    if request.offset == 0:
        await services.catalog.write(
            audit.add,
            now_ms=services.clock(),
            tenant_id=caller.tenant_id,
            user_name=caller.name,
            address=caller.address,
            action="metadata.read",
            target=f"name={request.name}",
            state="ok",
            text="",
        )
    return MetadataPart(data=data, size_bytes=size_bytes)


HANDLERS = {
    "metadata.plan": plan,
    "metadata.edit_plan": edit_plan,
    "metadata.save": save,
    "metadata.list": list_files,
    "metadata.read": read,
}
