"""Jobs: the list, one job, running and switching it, deleting it. Making and editing is the wizard's."""

import asyncio

from quart import Blueprint, request

from console.context import ask, parts, words
from console.pages.frame import Answer, chosen, form, go, local_address, render, sentence, signed_in
from console.pictures import timeline
from console.sentences import retention_sentence, schedules_sentence, sources_sentence
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("jobs", __name__)


def _schedule_text(job: api.JobInfo) -> str:
    return schedules_sentence(job.schedules, words(), is_enabled=job.is_enabled)


def _sources_text(job: api.JobInfo) -> str:
    return sources_sentence(job.kind, job.sources, words())


@blueprint.get("/jobs")
@signed_in
async def listing() -> Answer:
    """All jobs."""
    page = await ask(
        api.JobList(
            cursor=request.args.get("cursor"),
            search=request.args.get("search") or None,
            kind=chosen("kind", api.ObjectKind),
        ),
        api.JobPage,
    )
    return await render(
        "jobs.html",
        "job",
        jobs=page.items,
        next_cursor=page.next_cursor,
        kind=request.args.get("kind"),
        is_filtered=bool(request.args.get("search") or request.args.get("kind")),
        schedule_text=_schedule_text,
        sources_text=_sources_text,
    )


@blueprint.get("/jobs/<job_id>")
@signed_in
async def show(job_id: str) -> Answer:
    """One job: what it does in plain words, its runs and points."""
    job, runs, points = await asyncio.gather(
        ask(api.JobGet(id=job_id), api.JobInfo),
        ask(api.RunList(job_id=job_id, limit=10), api.RunPage),
        ask(api.PointList(job_id=job_id, limit=300), api.PointPage),
    )
    hosts = await asyncio.gather(*(_host_name(source.host_id) for source in job.sources[:100]))
    return await render(
        "job.html",
        "job",
        job=job,
        host_names=dict(hosts),
        runs=runs.items,
        points=points.items,
        timeline=timeline(points.items, parts().now(), width=1000.0),
        schedule_text=_schedule_text(job),
        sources_text=_sources_text(job),
        retention_text=retention_sentence(job.options, words()),
    )


async def _host_name(host_id: str) -> tuple[str, str]:
    try:
        return host_id, (await ask(api.HostGet(id=host_id), api.HostInfo)).name
    except VdrError:
        return host_id, host_id


@blueprint.post("/jobs/<job_id>/run")
@signed_in
async def run_now(job_id: str) -> Answer:
    """Starts the job and goes to its run."""
    given = await form()
    kind = given.get("backup_type", "incremental")
    started = await ask(
        api.JobRunNow(
            id=job_id,
            backup_type=api.BackupType(kind) if kind in set(api.BackupType) else api.BackupType.INCREMENTAL,
        ),
        api.RunsStarted,
    )
    if len(started.run_ids) == 1:
        return go(f"/runs/{started.run_ids[0]}")
    return go(f"/runs?batch={started.batch_id}", "runs_started")


@blueprint.post("/jobs/<job_id>/enable")
@signed_in
async def enable(job_id: str) -> Answer:
    """Lets the schedule start runs."""
    await ask(api.JobEnable(id=job_id), api.JobInfo)
    return go(local_address(request.args.get("back"), f"/jobs/{job_id}"), "job_enabled")


@blueprint.post("/jobs/<job_id>/disable")
@signed_in
async def disable(job_id: str) -> Answer:
    """Stops the schedule."""
    await ask(api.JobDisable(id=job_id), api.JobInfo)
    return go(local_address(request.args.get("back"), f"/jobs/{job_id}"), "job_disabled")


@blueprint.get("/jobs/<job_id>/delete")
@signed_in
async def confirm_delete(job_id: str) -> Answer:
    """What would be lost, and what stays."""
    job = await ask(api.JobGet(id=job_id), api.JobInfo)
    points = await ask(api.PointList(job_id=job_id, limit=1), api.PointPage)
    return await render("job_delete.html", "job", job=job, has_points=bool(points.items), error="", typed="")


@blueprint.post("/jobs/<job_id>/delete")
@signed_in
async def delete(job_id: str) -> Answer:
    """Deletes the job, if its name was typed."""
    given = await form()
    job = await ask(api.JobGet(id=job_id), api.JobInfo)
    typed = given.get("typed", "").strip()
    error = ""
    if typed != job.name:
        error = words()("form.typed_differs", name=job.name)
    else:
        try:
            await ask(api.JobDelete(id=job_id), api.Done)
        except VdrError as refused:
            error = sentence(refused)
    if error:
        return await render("job_delete.html", "job", 409, job=job, has_points=True, error=error, typed=typed)
    return go("/jobs", "job_deleted")
