"""Instant recovery: points served as disks over NFS, at once."""

from quart import Blueprint, request

from console.context import ask
from console.pages.frame import Answer, form, go, local_address, render, signed_in
from schemas import api

blueprint = Blueprint("exports", __name__)


@blueprint.get("/recovery")
@signed_in
async def listing() -> Answer:
    """What is served now."""
    page = await ask(api.ExportList(cursor=request.args.get("cursor")), api.ExportPage)
    return await render("exports.html", "recovery", exports=page.items, next_cursor=page.next_cursor)


@blueprint.post("/points/<point_id>/export")
@signed_in
async def start(point_id: str) -> Answer:
    """Serves a point."""
    given = await form()
    export = await ask(
        api.ExportStart(point_id=point_id, is_writable=given.get("writes", "cache") == "cache"),
        api.ExportInfo,
    )
    return go(f"/points/{export.point_id}#export-{export.id}", "export_started")


@blueprint.post("/recovery/<export_id>/stop")
@signed_in
async def stop(export_id: str) -> Answer:
    """Ends it; what was written is discarded."""
    await ask(api.ExportStop(id=export_id), api.Done)
    return go(local_address(request.args.get("back"), "/recovery"), "export_stopped")
