"""Hosts: which are there, what one has, how a new one joins."""

import asyncio
from collections.abc import Mapping

import msgspec
from quart import Blueprint, Response, request

from console.context import ask, parts, words
from console.pages.frame import Answer, chosen, form, go, render, sentence, signed_in
from console.pictures import timeline
from console.protection import judge
from console.rest.problem import problem_response, status_of
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("hosts", __name__)

_POINTS_DRAWN = 300


@blueprint.get("/hosts")
@signed_in
async def listing() -> Answer:
    """All hosts."""
    page, jobs = await asyncio.gather(
        ask(
            api.HostList(
                cursor=request.args.get("cursor"),
                search=request.args.get("search") or None,
                presence=chosen("presence", api.Presence),
            ),
            api.HostPage,
        ),
        ask(api.JobList(limit=api.PAGE_LIMIT_MAX), api.JobPage),
    )
    verdict = judge(page.items, jobs.items, parts().now())
    return await render(
        "hosts.html",
        "host",
        hosts=page.items,
        state_of={judged.host.id: judged for judged in verdict.hosts},
        next_cursor=page.next_cursor,
        is_filtered=bool(request.args.get("search") or request.args.get("presence")),
    )


@blueprint.get("/hosts/<host_id>")
@signed_in
async def show(host_id: str) -> Answer:
    """One host: what is protected, its points, its runs."""
    host, jobs, points, runs = await asyncio.gather(
        ask(api.HostGet(id=host_id), api.HostInfo),
        ask(api.JobList(host_id=host_id, limit=api.PAGE_LIMIT_MAX), api.JobPage),
        ask(api.PointList(host_id=host_id, limit=_POINTS_DRAWN), api.PointPage),
        ask(api.RunList(host_id=host_id, limit=8), api.RunPage),
    )
    now = parts().now()
    judged = judge([host], jobs.items, now).hosts
    return await render(
        "host.html",
        "host",
        host=host,
        judged=judged[0] if judged else None,
        jobs=jobs.items,
        points=points.items,
        timeline=timeline(points.items, now, width=1000.0),
        runs=runs.items,
    )


@blueprint.get("/hosts/enrol")
@signed_in
async def enrol() -> Answer:
    """How a new host joins."""
    return await _enrol_page({}, "active")


async def _enrol_page(
    given: Mapping[str, str],
    way: str,
    *,
    made: api.EnrolmentToken | None = None,
    admitted: api.PassiveEnrolment | None = None,
    error: str = "",
    status: int = 200,
) -> Answer:
    return await render(
        "host_enrol.html",
        "host",
        status,
        made=made,
        admitted=admitted,
        error=error,
        given=given,
        way=way,
    )


@blueprint.post("/hosts/enrol")
@signed_in
async def enrol_now() -> Answer:
    """Makes a token, or admits a host that will be dialled."""
    given = await form()
    way = given.get("way", "active")
    name = given.get("name", "").strip() or None
    try:
        if way == "passive":
            port = given.get("port", "4512").strip()
            admitted = await ask(
                msgspec.convert(
                    {
                        "name": given.get("name", "").strip(),
                        "address": given.get("address", "").strip(),
                        "port": int(port) if port.isdigit() else port,
                    },
                    api.HostAddPassive,
                ),
                api.PassiveEnrolment,
            )
            return await _enrol_page(given, way, admitted=admitted)
        hours = given.get("hours", "24")
        made = await ask(
            msgspec.convert(
                {"name": name, "valid_seconds": int(hours) * 3600 if hours.isdigit() else hours},
                api.EnrolmentTokenCreate,
            ),
            api.EnrolmentToken,
        )
    except VdrError as error:
        return await _enrol_page(given, way, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        return await _enrol_page(given, way, error=words()("form.invalid", reason=str(error)), status=422)
    return await _enrol_page(given, way, made=made)


@blueprint.post("/hosts/<host_id>/rename")
@signed_in
async def rename(host_id: str) -> Answer:
    """Gives the host another name."""
    name = (await form()).get("name", "").strip()
    if name:
        await ask(api.HostRename(id=host_id, name=name), api.HostInfo)
    return go(f"/hosts/{host_id}", "host_renamed")


@blueprint.get("/hosts/<host_id>/delete")
@signed_in
async def confirm_delete(host_id: str) -> Answer:
    """What would be lost."""
    host = await ask(api.HostGet(id=host_id), api.HostInfo)
    return await render("host_delete.html", "host", host=host, error="", typed="")


@blueprint.post("/hosts/<host_id>/delete")
@signed_in
async def delete(host_id: str) -> Answer:
    """Forgets the host, if its name was typed."""
    given = await form()
    host = await ask(api.HostGet(id=host_id), api.HostInfo)
    typed = given.get("typed", "").strip()
    error = ""
    if typed != host.name:
        error = words()("form.typed_differs", name=host.name)
    else:
        try:
            await ask(api.HostDelete(id=host_id, force="force" in given), api.Done)
        except VdrError as refused:
            error = sentence(refused)
    if error:
        return await render("host_delete.html", "host", 409, host=host, error=error, typed=typed)
    return go("/hosts", "host_deleted")


@blueprint.get("/hosts/<host_id>/files.json")
@signed_in
async def files(host_id: str) -> Response:
    """A directory of the host, for the picker of the wizard."""
    try:
        page = await ask(
            api.HostBrowse(
                id=host_id, path=request.args.get("path") or "/", cursor=request.args.get("cursor")
            ),
            api.FilePage,
        )
    except VdrError as error:
        return problem_response(error)
    return Response(msgspec.json.encode(page), content_type="application/json")


@blueprint.get("/hosts/<host_id>/disks.json")
@signed_in
async def disks(host_id: str) -> Response:
    """The disks of the host, for the picker of the restore."""
    try:
        reply = await ask(api.HostDisks(id=host_id), api.HostDisksReply)
    except VdrError as error:
        return problem_response(error)
    return Response(msgspec.json.encode(reply), content_type="application/json")
