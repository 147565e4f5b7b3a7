"""Metadata backups: what a new server is made from when this one is gone."""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from quart import Blueprint, Response, make_response

from console.context import Parts, ask, client_address, parts, session, words
from console.pages.frame import Answer, form, go, render, sentence, signed_in
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import SessionEnded, VdrError

blueprint = Blueprint("metadata", __name__)


async def _page(error: str = "", status: int = 200) -> Answer:
    plan, files, storages = await asyncio.gather(
        ask(api.MetadataPlan(), api.MetadataPlanInfo),
        ask(api.MetadataList(), api.MetadataFiles),
        ask(api.StorageList(limit=api.PAGE_LIMIT_MAX), api.StoragePage),
    )
    return await render(
        "metadata.html",
        "metadata",
        status,
        plan=plan,
        files=files.items,
        storages=storages.items,
        error=error,
    )


@blueprint.get("/metadata")
@signed_in
async def show() -> Answer:
    """How it is saved, and what is there."""
    return await _page()


@blueprint.post("/metadata")
@signed_in
async def change() -> Answer:
    """Changes how it is saved."""
    given = await form()
    keep = given.get("keep", "").strip()
    values: dict[str, object] = {
        "at": given.get("at", ""),
        "zone": given.get("zone", "").strip(),
        "storage_id": given.get("storage_id") or None,
        "keep": int(keep) if keep.isdigit() else keep,
    }
    if given.get("passphrase"):
        values["passphrase"] = given["passphrase"]
    try:
        await ask(msgspec.convert(values, api.MetadataPlanEdit), api.MetadataPlanInfo)
    except VdrError as error:
        return await _page(sentence(error), status_of(error))
    except msgspec.ValidationError as error:
        return await _page(words()("form.invalid", reason=str(error)), 422)
    return go("/metadata", "metadata_changed")


@blueprint.post("/metadata/save")
@signed_in
async def save() -> Answer:
    """Makes one now."""
    try:
        await ask(api.MetadataSave(), api.MetadataFile)
    except VdrError as error:
        return await _page(sentence(error), status_of(error))
    return go("/metadata", "metadata_saved")


@blueprint.get("/metadata/files/<name>")
@signed_in
async def download(name: str) -> Response:
    """One of them, streamed part by part."""
    open_session = await session()
    if open_session is None:
        raise SessionEnded
    first = await ask(api.MetadataRead(name=name), api.MetadataPart)
    body = _parts(parts(), name, first, open_session.server_token, client_address())
    response = await make_response(body)
    assert isinstance(response, Response)
    response.timeout = None
    response.headers["Content-Type"] = "application/octet-stream"
    response.headers["Content-Length"] = str(first.size_bytes)
    # The server knows a file by this name, so it is harmless in a header.
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


async def _parts(
    reached: Parts, name: str, first: api.MetadataPart, token: str, address: str
) -> AsyncIterator[bytes]:
    offset, data = 0, first.data
    while data:
        yield data
        offset += len(data)
        if offset >= first.size_bytes:
            return
        part = await reached.link.call(
            api.MetadataRead(name=name, offset=offset), session_token=token, address=address
        )
        assert isinstance(part, api.MetadataPart)
        data = part.data
