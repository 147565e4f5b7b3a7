"""Calls about runs and the live feed."""

from schemas.api.runs import (
    EventsPoll,
    EventsReply,
    RunCancel,
    RunGet,
    RunInfo,
    RunList,
    RunLog,
    RunLogPage,
    RunPage,
)
from vdrd.catalog import runs
from vdrd.server.accounts import Caller
from vdrd.server.services import Services


async def list_runs(services: Services, caller: Caller, request: RunList) -> RunPage:
    """Runs, newest first."""
    items, cursor = await services.catalog.read(runs.list_page, caller.tenant_id, request)
    return RunPage(items=[services.director.with_progress(run) for run in items], next_cursor=cursor)


async def get_run(services: Services, _caller: Caller, request: RunGet) -> RunInfo:
    """One run."""
    return services.director.with_progress(await services.catalog.read(runs.get, request.id))


async def run_log(services: Services, _caller: Caller, request: RunLog) -> RunLogPage:
    """Lines of a run's log."""
    lines, is_complete = await services.catalog.read(runs.log, request)
    return RunLogPage(items=lines, is_complete=is_complete)


async def cancel_run(services: Services, _caller: Caller, request: RunCancel) -> RunInfo:
    """Ask for a run to be stopped."""
    await services.director.cancel(request.id)
    return services.director.with_progress(await services.catalog.read(runs.get, request.id))


async def poll_events(services: Services, _caller: Caller, request: EventsPoll) -> EventsReply:
    """Wait for changes."""
    return await services.feed.poll(
        request.after_sequence, request.run_id, request.limit, request.wait_seconds
    )


HANDLERS = {
    "run.list": list_runs,
    "run.get": get_run,
    "run.log": run_log,
    "run.cancel": cancel_run,
    "events.poll": poll_events,
}
