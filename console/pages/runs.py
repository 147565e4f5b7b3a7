"""Runs: the list, and one run: what is it doing, how long still, what went wrong?"""

import asyncio

from quart import Blueprint, request

from console.context import ask
from console.pages.frame import Answer, chosen, go, render, signed_in
from schemas import api

blueprint = Blueprint("runs", __name__)

_LINES_SHOWN = 200
_LINES_ASKED = 1000

STATES = {
    "open": [api.RunState.QUEUED, api.RunState.PREPARING, api.RunState.RUNNING],
    "done": [api.RunState.DONE],
    "warning": [api.RunState.WARNING],
    "failed": [api.RunState.FAILED],
    "cancelled": [api.RunState.CANCELLED],
}
"""Filters of the list."""


@blueprint.get("/runs")
@signed_in
async def listing() -> Answer:
    """All runs, newest first."""
    kind = chosen("kind", api.RunKind)
    page = await ask(
        api.RunList(
            cursor=request.args.get("cursor"),
            states=STATES.get(request.args.get("state", ""), []),
            kinds=[kind] if kind else [],
            job_id=request.args.get("job") or None,
            host_id=request.args.get("host") or None,
            batch_id=request.args.get("batch") or None,
        ),
        api.RunPage,
    )
    return await render(
        "runs.html",
        "run",
        runs=page.items,
        next_cursor=page.next_cursor,
        states=STATES,
        state=request.args.get("state"),
        is_filtered=any(request.args.get(name) for name in ("state", "kind", "job", "host", "batch")),
    )


async def _newest_lines(run_id: str) -> list[api.LogLine]:
    """The end of a run's log."""
    lines: list[api.LogLine] = []
    after = 0
    for _ in range(20):
        page = await ask(api.RunLog(id=run_id, after_sequence=after, limit=_LINES_ASKED), api.RunLogPage)
        lines = [*lines, *page.items][-_LINES_SHOWN:]
        if page.is_complete or not page.items:
            break
        after = page.items[-1].sequence
    return lines


@blueprint.get("/runs/<run_id>")
@signed_in
async def show(run_id: str) -> Answer:
    """One run, kept up to date while it goes on."""
    run, lines = await asyncio.gather(ask(api.RunGet(id=run_id), api.RunInfo), _newest_lines(run_id))
    share = None
    if run.progress.total_bytes:
        share = min(run.progress.done_bytes / run.progress.total_bytes, 1.0)
    elif run.progress.total_files:
        share = min(run.progress.done_files / run.progress.total_files, 1.0)
    if run.state in (api.RunState.DONE, api.RunState.WARNING):
        share = 1.0
    return await render("run.html", "run", run=run, lines=lines, share=share, lines_max=_LINES_SHOWN)


@blueprint.post("/runs/<run_id>/cancel")
@signed_in
async def cancel(run_id: str) -> Answer:
    """Asks the run to stop."""
    await ask(api.RunCancel(id=run_id), api.RunInfo)
    return go(f"/runs/{run_id}", "run_cancelling")
