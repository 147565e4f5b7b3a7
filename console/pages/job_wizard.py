"""The wizard that makes and edits jobs: what, which disks or directories, when and where, check.

Each step is a page of its own and valid on its own; the others travel along as hidden fields, so that going
back loses nothing and the script is not needed.
"""

import asyncio
from zoneinfo import available_timezones

import msgspec
from quart import Blueprint, request

from console.context import ask, words
from console.job_form import SCHEDULES_MAX, STEPS, JobForm
from console.pages.frame import Answer, form, go, render, sentence, signed_in
from console.rest.problem import status_of
from console.schedule_form import ScheduleRow
from console.sentences import retention_sentence, schedules_sentence, sources_sentence
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("job_wizard", __name__)


async def _disks_of(host: api.HostInfo) -> tuple[str, list[api.DiskInfo], str]:
    """The disks of one host, or why they cannot be listed."""
    try:
        return host.id, (await ask(api.HostDisks(id=host.id), api.HostDisksReply)).items, ""
    except VdrError as error:
        return host.id, [], sentence(error)


async def _page(
    step: str,
    job_form: JobForm,
    *,
    job: api.JobInfo | None,
    problems: dict[str, str],
    error: str = "",
    status: int = 200,
) -> Answer:
    t = words()
    hosts, storages = await asyncio.gather(
        ask(api.HostList(limit=api.PAGE_LIMIT_MAX), api.HostPage),
        ask(api.StorageList(limit=api.PAGE_LIMIT_MAX), api.StoragePage),
    )
    by_id = {host.id: host for host in hosts.items}
    chosen = [by_id[host_id] for host_id in job_form.hosts if host_id in by_id]
    values: dict[str, object] = {}
    if step == "pick" and job_form.kind == api.ObjectKind.DISK:
        found = await asyncio.gather(*(_disks_of(host) for host in chosen[:20]))
        values["disks"] = {host_id: items for host_id, items, _ in found}
        values["disk_errors"] = {host_id: text for host_id, _, text in found if text}
    if step == "when":
        if not job_form.storage_id and len(storages.items) == 1:
            job_form.storage_id = storages.items[0].id
        values["zones"] = sorted(available_timezones())
    if step == "check":
        storage = next((s for s in storages.items if s.id == job_form.storage_id), None)
        if not job_form.name and not problems:
            job_form.name = _proposed_name(job_form, chosen)
        values["storage_name"] = storage.name if storage else "–"
        values["sentences"] = [
            sources_sentence(api.ObjectKind(job_form.kind), job_form.sources(), t),
            schedules_sentence(job_form.schedule_list(), t),
            retention_sentence(job_form.options(), t),
        ]
    return await render(
        "job_wizard.html",
        "job",
        status,
        job=job,
        step=step,
        steps=STEPS,
        form=job_form,
        hosts=hosts.items,
        chosen=chosen,
        storages=storages.items,
        problems=problems,
        error=error,
        schedules_max=SCHEDULES_MAX,
        **values,
    )


def _proposed_name(job_form: JobForm, chosen: list[api.HostInfo]) -> str:
    names = ", ".join(host.name for host in chosen[:2]) + ("…" if len(chosen) > 2 else "")
    return words()(f"wizard.name_{job_form.kind}", hosts=names)


async def _handle(job: api.JobInfo | None) -> Answer:
    given = await form()
    job_form = JobForm.read(given)
    step = given.get("step", STEPS[0])
    if step not in STEPS:
        step = STEPS[0]
    if "add_schedule" in given:
        if len(job_form.schedules) < SCHEDULES_MAX:
            job_form.schedules.append(ScheduleRow(kind="daily"))
        return await _page("when", job_form, job=job, problems={})
    if "back" in given:
        return await _page(STEPS[max(0, STEPS.index(step) - 1)], job_form, job=job, problems={})
    if given.get("to") in STEPS[: STEPS.index(step)]:
        return await _page(given["to"], job_form, job=job, problems={})
    for earlier in STEPS[: STEPS.index(step) + 1]:
        problems = job_form.problems(earlier, words())
        if problems:
            return await _page(earlier, job_form, job=job, problems=problems, status=422)
    if step != STEPS[-1]:
        return await _page(STEPS[STEPS.index(step) + 1], job_form, job=job, problems={})
    try:
        if job is None:
            made = await ask(job_form.create(), api.JobInfo)
        else:
            made = await ask(job_form.edit(job.id), api.JobInfo)
        if "run" in given:
            started = await ask(api.JobRunNow(id=made.id), api.RunsStarted)
            if len(started.run_ids) == 1:
                return go(f"/runs/{started.run_ids[0]}", "job_made")
    except VdrError as error:
        return await _page(
            step, job_form, job=job, problems={}, error=sentence(error), status=status_of(error)
        )
    except msgspec.ValidationError as error:
        text = words()("form.invalid", reason=str(error))
        return await _page(step, job_form, job=job, problems={}, error=text, status=422)
    return go(f"/jobs/{made.id}", "job_made" if job is None else "job_changed")


@blueprint.get("/jobs/new")
@signed_in
async def begin() -> Answer:
    """The first step; the address may name the host and the kind."""
    job_form = JobForm(kind=request.args.get("kind", "files"))
    if host := request.args.get("host"):
        job_form.hosts = [host]
    return await _page(STEPS[0], job_form, job=None, problems={})


@blueprint.post("/jobs/new")
@signed_in
async def go_on() -> Answer:
    """The next step, the one before, or the end."""
    return await _handle(None)


@blueprint.get("/jobs/<job_id>/edit")
@signed_in
async def edit(job_id: str) -> Answer:
    """The same wizard over a job that exists."""
    job = await ask(api.JobGet(id=job_id), api.JobInfo)
    step = request.args.get("step", "pick")
    return await _page(step if step in STEPS else "pick", JobForm.of_job(job), job=job, problems={})


@blueprint.post("/jobs/<job_id>/edit")
@signed_in
async def edit_on(job_id: str) -> Answer:
    """The next step of the edit."""
    return await _handle(await ask(api.JobGet(id=job_id), api.JobInfo))
