"""Queues runs that a node does alone: verification and collection."""

from schemas.api.jobs import RunsStarted
from schemas.api.words import RunKind
from schemas.control import RunSpec
from vdrd.catalog import runs, storages
from vdrd.server.accounts import Caller
from vdrd.server.launch import new_id
from vdrd.server.services import Services


async def start_solo(
    services: Services,
    caller: Caller,
    kind: RunKind,
    storage_id: str,
    *,
    point_ids: list[str] | None = None,
    read_data: bool = False,
) -> RunsStarted:
    """Queue the run. Raises NotFound."""
    storage = await services.catalog.read(storages.get, storage_id)
    spec = RunSpec(
        run_id=new_id(),
        attempt=1,
        kind=kind,
        storage_id=storage_id,
        point_ids=point_ids or [],
        read_data=read_data,
    )
    batch_id = new_id()
    await services.catalog.write(
        runs.create,
        spec=spec,
        tenant_id=caller.tenant_id,
        batch_id=batch_id,
        job_name="",
        storage_name=storage.name,
        attempts_max=1,
        retry_seconds=30,
        created_by=caller.name,
        now_ms=services.clock(),
    )
    await services.director.submit(spec.run_id)
    return RunsStarted(batch_id=batch_id, run_ids=[spec.run_id])
