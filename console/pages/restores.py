"""Bringing a point back: where to, what of it, over what; a summary before anything is written."""

import msgspec
from quart import Blueprint, request

from console.context import ask, words
from console.pages.frame import Answer, form, go, render, sentence, signed_in
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("restores", __name__)


async def _page(
    point: api.PointInfo,
    given: dict[str, object],
    *,
    is_check: bool = False,
    error: str = "",
    status: int = 200,
) -> Answer:
    hosts = await ask(api.HostList(limit=api.PAGE_LIMIT_MAX), api.HostPage)
    chosen = next((host for host in hosts.items if host.id == given["host"]), None)
    return await render(
        "restore.html",
        "point",
        status,
        point=point,
        hosts=[host for host in hosts.items if host.presence != api.Presence.REVOKED],
        host=chosen,
        given=given,
        is_check=is_check,
        error=error,
    )


def _fields(
    point: api.PointInfo, *, place: str, host: str, target: str, paths: list[str], overwrite: bool
) -> dict[str, object]:
    return {
        "place": place if place in ("original", "other") else "original",
        "host": host or point.host_id or "",
        "target": target,
        "paths": paths,
        "overwrite": overwrite,
    }


@blueprint.get("/points/<point_id>/restore")
@signed_in
async def begin(point_id: str) -> Answer:
    """Where to?"""
    point = await ask(api.PointGet(id=point_id), api.PointInfo)
    return await _page(
        point,
        _fields(
            point, place="other", host="", target="", paths=request.args.getlist("path"), overwrite=False
        ),
    )


@blueprint.post("/points/<point_id>/restore")
@signed_in
async def go_on(point_id: str) -> Answer:
    """From ticking files, to the summary, or to the run."""
    sent = await form()
    point = await ask(api.PointGet(id=point_id), api.PointInfo)
    given = _fields(
        point,
        place=sent.get("place", "other"),
        host=sent.get("host", ""),
        target=sent.get("target", "").strip(),
        paths=list(dict.fromkeys(sent.getlist("path"))),
        overwrite="overwrite" in sent,
    )
    step = sent.get("step", "where")
    if step == "where" or "back" in sent:
        return await _page(point, given)
    is_original = given["place"] == "original"
    if not is_original and not str(given["target"]).startswith("/"):
        return await _page(point, given, error=words()("restore.wrong_target"), status=422)
    if not given["host"]:
        return await _page(point, given, error=words()("wizard.wrong.host"), status=422)
    if step == "check":
        return await _page(point, given, is_check=True)
    try:
        message = msgspec.convert(
            {
                "point_id": point.id,
                "host_id": None if is_original else given["host"],
                "target_path": None if is_original else given["target"],
                "paths": given["paths"],
                "overwrite": given["overwrite"],
            },
            api.RestoreStart,
        )
        started = await ask(message, api.RunsStarted)
    except VdrError as error:
        return await _page(point, given, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        return await _page(point, given, error=words()("form.invalid", reason=str(error)), status=422)
    return go(f"/runs/{started.run_ids[0]}", "restore_started")
