"""Points: the timeline, one point and the ways back from it, browsing, verifying, forgetting."""

from datetime import UTC, datetime

from quart import Blueprint, request

from console.context import ask, parts, session, words
from console.download import file_response
from console.pages.frame import Answer, chosen, form, go, render, sentence, signed_in
from console.pictures import timeline
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import SessionEnded, VdrError

blueprint = Blueprint("points", __name__)

_POINTS_DRAWN = 500
_LANES_DRAWN = 12


@blueprint.get("/points")
@signed_in
async def listing() -> Answer:
    """All points: the picture above, the table below."""
    page = await ask(
        api.PointList(
            cursor=request.args.get("cursor"),
            host_id=request.args.get("host") or None,
            job_id=request.args.get("job") or None,
            storage_id=request.args.get("storage") or None,
            object_name=request.args.get("object") or None,
            kind=chosen("kind", api.ObjectKind),
            limit=_POINTS_DRAWN if not request.args.get("cursor") else api.PAGE_LIMIT_DEFAULT,
        ),
        api.PointPage,
    )
    drawn = timeline(page.items, parts().now(), width=1000.0)
    return await render(
        "points.html",
        "point",
        points=page.items[: api.PAGE_LIMIT_DEFAULT],
        next_cursor=page.next_cursor,
        timeline=drawn,
        lanes_hidden=max(0, len(drawn.lanes) - _LANES_DRAWN),
        lanes_max=_LANES_DRAWN,
        kind=request.args.get("kind"),
        is_filtered=any(request.args.get(name) for name in ("host", "job", "storage", "object", "kind")),
    )


@blueprint.get("/points/<point_id>")
@signed_in
async def show(point_id: str) -> Answer:
    """One point: bring it back how?"""
    return await _page(point_id)


async def _page(point_id: str, *, status: int = 200, lock_error: str = "") -> Answer:
    point = await ask(api.PointGet(id=point_id), api.PointInfo)
    exports = await ask(api.ExportList(limit=api.PAGE_LIMIT_MAX), api.ExportPage)
    neighbours = await ask(
        api.PointList(host_id=point.host_id, object_name=point.object_name, limit=_POINTS_DRAWN),
        api.PointPage,
    )
    return await render(
        "point.html",
        "point",
        status,
        point=point,
        lock_error=lock_error,
        exports=[export for export in exports.items if export.point_id == point.id],
        timeline=timeline(neighbours.items, parts().now(), width=1000.0),
    )


@blueprint.get("/points/<point_id>/files")
@signed_in
async def files(point_id: str) -> Answer:
    """A directory of a point, to tick what to bring back."""
    point = await ask(api.PointGet(id=point_id), api.PointInfo)
    path = request.args.get("path") or "/"
    page = await ask(api.PointBrowse(id=point_id, path=path, cursor=request.args.get("cursor")), api.FilePage)
    return await render(
        "point_files.html",
        "point",
        point=point,
        path=path,
        crumbs=crumbs(path),
        files=page.items,
        next_cursor=page.next_cursor,
    )


@blueprint.get("/points/<point_id>/file")
@signed_in
async def download(point_id: str) -> Answer:
    """A file of a point, to keep."""
    open_session = await session()
    if open_session is None:
        raise SessionEnded
    return await file_response(point_id, request.args.get("path") or "/", open_session.server_token)


def crumbs(path: str) -> list[tuple[str, str]]:
    """Each directory on the way to `path`, with its own path."""
    made: list[tuple[str, str]] = []
    so_far = ""
    for part in path.strip("/").split("/"):
        if part:
            so_far = f"{so_far}/{part}"
            made.append((part, so_far))
    return made


@blueprint.post("/points/<point_id>/verify")
@signed_in
async def verify(point_id: str) -> Answer:
    """Starts a run that reads the whole point back and checks it."""
    started = await ask(api.PointVerify(id=point_id), api.RunsStarted)
    return go(f"/runs/{started.run_ids[0]}" if started.run_ids else f"/points/{point_id}")


@blueprint.post("/points/<point_id>/lock")
@signed_in
async def lock(point_id: str) -> Answer:
    """Locks the point until a time, puts it under legal hold or releases it."""
    given = await form()
    until, hold = given.get("until", "").strip(), given.get("hold")
    try:
        moment = None if hold else datetime.fromisoformat(until).replace(tzinfo=UTC)
    except ValueError:
        return await _page(point_id, status=422, lock_error=words()("point.lock_wrong"))
    try:
        wish = api.PointLock(id=point_id, until=moment, is_held=None if hold is None else hold == "yes")
        await ask(wish, api.PointInfo)
    except VdrError as refused:
        return await _page(point_id, status=status_of(refused), lock_error=sentence(refused))
    return go(f"/points/{point_id}", "point_locked")


@blueprint.get("/points/<point_id>/forget")
@signed_in
async def confirm_forget(point_id: str) -> Answer:
    """What would be lost."""
    point = await ask(api.PointGet(id=point_id), api.PointInfo)
    return await render("point_forget.html", "point", point=point, error="", typed="")


@blueprint.post("/points/<point_id>/forget")
@signed_in
async def forget(point_id: str) -> Answer:
    """Forgets the point, if its object's name was typed."""
    typed = (await form()).get("typed", "").strip()
    point = await ask(api.PointGet(id=point_id), api.PointInfo)
    if typed != point.object_name:
        error = words()("form.typed_differs", name=point.object_name)
        return await render("point_forget.html", "point", 409, point=point, error=error, typed=typed)
    try:
        await ask(api.PointForget(ids=[point_id]), api.PointForgetReply)
    except VdrError as refused:
        return await render(
            "point_forget.html",
            "point",
            status_of(refused),
            point=point,
            error=sentence(refused),
            typed=typed,
        )
    return go("/points", "point_forgotten")
