"""Storages: where points live, how full, how to make one."""

import asyncio

import msgspec
from quart import Blueprint, request

from console.context import ask, words
from console.pages.frame import Answer, form, go, render, sentence, signed_in
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("storages", __name__)


@blueprint.get("/storages")
@signed_in
async def listing() -> Answer:
    """All storages."""
    page = await ask(api.StorageList(cursor=request.args.get("cursor")), api.StoragePage)
    return await render("storages.html", "storage", storages=page.items, next_cursor=page.next_cursor)


async def _form_page(given: object, *, error: str = "", status: int = 200) -> Answer:
    nodes = await ask(api.NodeList(limit=api.PAGE_LIMIT_MAX), api.NodePage)
    return await render("storage_new.html", "storage", status, nodes=nodes.items, given=given, error=error)


@blueprint.get("/storages/new")
@signed_in
async def begin() -> Answer:
    """What a new storage needs."""
    return await _form_page({})


@blueprint.post("/storages/new")
@signed_in
async def create() -> Answer:
    """Makes or attaches a storage."""
    given = await form()
    compression = given.get("compression", "1")
    try:
        made = await ask(
            msgspec.convert(
                {
                    "name": given.get("name", "").strip(),
                    "node_id": given.get("node_id") or None,
                    "path": given.get("path", "").strip(),
                    "encryption": given.get("encryption", "aes-256-gcm"),
                    "compression": int(compression) if compression.isdigit() and compression != "0" else None,
                    "key_file": given.get("key_file", "").strip() or None,
                    "attach": "attach" in given,
                },
                api.StorageCreate,
            ),
            api.StorageInfo,
        )
    except VdrError as error:
        return await _form_page(given, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        return await _form_page(given, error=words()("form.invalid", reason=str(error)), status=422)
    return go(f"/storages/{made.id}", "storage_made")


@blueprint.get("/storages/<storage_id>")
@signed_in
async def show(storage_id: str) -> Answer:
    """One storage: how full, what is on it."""
    storage, points, jobs = await asyncio.gather(
        ask(api.StorageGet(id=storage_id), api.StorageInfo),
        ask(api.PointList(storage_id=storage_id, limit=10), api.PointPage),
        ask(api.JobList(storage_id=storage_id, limit=100), api.JobPage),
    )
    statistics = None
    if storage.is_online:
        try:
            statistics = await ask(api.StorageStatistics(id=storage_id), api.StorageStatisticsReply)
        except VdrError:
            statistics = None  # the page is still worth showing; the storage's own problem is on it
    return await render(
        "storage.html",
        "storage",
        storage=storage,
        statistics=statistics,
        points=points.items,
        jobs=jobs.items,
    )


@blueprint.post("/storages/<storage_id>/verify")
@signed_in
async def verify(storage_id: str) -> Answer:
    """Starts a run that verifies all of it."""
    given = await form()
    started = await ask(api.StorageVerify(id=storage_id, read_data="read_data" in given), api.RunsStarted)
    return go(f"/runs/{started.run_ids[0]}" if started.run_ids else f"/storages/{storage_id}")


@blueprint.post("/storages/<storage_id>/collect")
@signed_in
async def collect(storage_id: str) -> Answer:
    """Starts a run that frees what no point uses."""
    started = await ask(api.StorageCollect(id=storage_id), api.RunsStarted)
    return go(f"/runs/{started.run_ids[0]}" if started.run_ids else f"/storages/{storage_id}")


@blueprint.get("/storages/<storage_id>/detach")
@signed_in
async def confirm_detach(storage_id: str) -> Answer:
    """What would be out of reach."""
    storage = await ask(api.StorageGet(id=storage_id), api.StorageInfo)
    return await render("storage_detach.html", "storage", storage=storage, error="", typed="")


@blueprint.post("/storages/<storage_id>/detach")
@signed_in
async def detach(storage_id: str) -> Answer:
    """Forgets the storage, if its name was typed."""
    typed = (await form()).get("typed", "").strip()
    storage = await ask(api.StorageGet(id=storage_id), api.StorageInfo)
    error = ""
    if typed != storage.name:
        error = words()("form.typed_differs", name=storage.name)
    else:
        try:
            await ask(api.StorageDetach(id=storage_id), api.Done)
        except VdrError as refused:
            error = sentence(refused)
    if error:
        return await render("storage_detach.html", "storage", 409, storage=storage, error=error, typed=typed)
    return go("/storages", "storage_detached")
