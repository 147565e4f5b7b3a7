"""Alerts: what somebody must look at, and the channels that tell people."""

import asyncio
from typing import Any

import msgspec
from quart import Blueprint, request
from werkzeug.datastructures import MultiDict

from console.context import ask, words
from console.pages.frame import Answer, chosen, form, go, local_address, render, sentence, signed_in
from console.rest.problem import status_of
from schemas import api
from vdrd.model.errors import NotFound, VdrError

blueprint = Blueprint("alerts", __name__)

_LIVE = (api.AlertState.OPEN, api.AlertState.ACKNOWLEDGED)
CHANNEL_KINDS = ("mail", "webhook", "service")


@blueprint.get("/alerts")
@signed_in
async def listing() -> Answer:
    """Alerts, newest first; without a filter those that are not closed."""
    state = chosen("state", api.AlertState)
    level = chosen("level", api.AlertLevel)
    page = await ask(
        api.AlertList(
            cursor=request.args.get("cursor"),
            states=list(_LIVE) if state is None else [state],
            levels=[] if level is None else [level],
        ),
        api.AlertPage,
    )
    return await render(
        "alerts.html",
        "alert",
        alerts=page.items,
        next_cursor=page.next_cursor,
        state=state,
        level=level,
        is_filtered=bool(state or level),
    )


@blueprint.post("/alerts/<act>")
@signed_in
async def change(act: str) -> Answer:
    """Acknowledges or closes the alerts that were ticked."""
    given = await form()
    ids = given.getlist("id")
    back = local_address(given.get("back"), "/alerts")
    if not ids:
        return go(back, "nothing_ticked")
    if act == "acknowledge":
        await ask(api.AlertAcknowledge(ids=ids), api.AlertsChanged)
        return go(back, "alerts_acknowledged")
    if act == "close":
        await ask(api.AlertClose(ids=ids), api.AlertsChanged)
        return go(back, "alerts_closed")
    raise NotFound(what="act", name=act)


@blueprint.get("/channels")
@signed_in
async def channels() -> Answer:
    """The channels, and what was sent lately."""
    page, deliveries = await asyncio.gather(
        ask(api.ChannelList(cursor=request.args.get("cursor")), api.ChannelPage),
        ask(api.DeliveryList(limit=20), api.DeliveryPage),
    )
    return await render(
        "channels.html",
        "channel",
        channels=page.items,
        next_cursor=page.next_cursor,
        deliveries=deliveries.items,
    )


async def _find(channel_id: str) -> api.ChannelInfo:
    cursor = None
    while True:
        page = await ask(api.ChannelList(cursor=cursor, limit=api.PAGE_LIMIT_MAX), api.ChannelPage)
        for channel in page.items:
            if channel.id == channel_id:
                return channel
        cursor = page.next_cursor
        if cursor is None:
            raise NotFound(what="channel", name=channel_id)


def settings_from(kind: str, given: MultiDict[str, str]) -> dict[str, Any]:
    """The settings a form describes, still unchecked. A secret left empty is not named."""
    settings: dict[str, Any] = {"type": kind}
    match kind:
        case "mail":
            settings |= {
                "host": given.get("host", "").strip(),
                "port": int(port) if (port := given.get("port", "").strip()).isdigit() else port,
                "security": given.get("security", "starttls"),
                "user_name": given.get("user_name", "").strip(),
                "sender": given.get("sender", "").strip(),
                "recipients": given.get("recipients", "").replace(",", " ").split(),
            }
            if given.get("password"):
                settings["password"] = given["password"]
        case "webhook":
            settings["url"] = given.get("url", "").strip()
            if given.get("secret"):
                settings["secret"] = given["secret"]
        case _:
            if given.get("address", "").strip():
                settings["url"] = given["address"].strip()
    return settings


def _shown(channel: api.ChannelInfo) -> dict[str, Any]:
    """A channel as its form's fields."""
    fields: dict[str, Any] = msgspec.to_builtins(channel.settings)
    if "recipients" in fields:
        fields["recipients"] = ", ".join(fields["recipients"])
    return fields | {"name": channel.name, "least_level": channel.least_level}


async def _form_page(
    kind: str, channel: api.ChannelInfo | None, given: Any, *, error: str = "", status: int = 200
) -> Answer:
    return await render(
        "channel_form.html", "channel", status, kind=kind, channel=channel, given=given, error=error
    )


@blueprint.get("/channels/new")
@signed_in
async def begin() -> Answer:
    """What a new channel needs."""
    kind = request.args.get("kind", "mail")
    return await _form_page(kind if kind in CHANNEL_KINDS else "mail", None, {})


@blueprint.post("/channels/new")
@signed_in
async def create() -> Answer:
    """Makes a channel."""
    given = await form()
    kind = given.get("kind", "mail")
    values = {
        "name": given.get("name", "").strip(),
        "settings": settings_from(kind, given),
        "least_level": given.get("least_level", "warning"),
    }
    try:
        await ask(msgspec.convert(values, api.ChannelCreate), api.ChannelInfo)
    except VdrError as error:
        return await _form_page(kind, None, given, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        text = words()("form.invalid", reason=str(error))
        return await _form_page(kind, None, given, error=text, status=422)
    return go("/channels", "channel_made")


@blueprint.get("/channels/<channel_id>")
@signed_in
async def edit(channel_id: str) -> Answer:
    """What may be changed of a channel."""
    channel = await _find(channel_id)
    return await _form_page(msgspec.to_builtins(channel.settings)["type"], channel, _shown(channel))


@blueprint.post("/channels/<channel_id>")
@signed_in
async def save(channel_id: str) -> Answer:
    """Changes a channel."""
    given = await form()
    channel = await _find(channel_id)
    kind = msgspec.to_builtins(channel.settings)["type"]
    values = {
        "id": channel_id,
        "name": given.get("name", "").strip(),
        "settings": settings_from(kind, given),
        "least_level": given.get("least_level", "warning"),
        "is_enabled": "is_enabled" in given,
    }
    try:
        await ask(msgspec.convert(values, api.ChannelEdit), api.ChannelInfo)
    except VdrError as error:
        return await _form_page(kind, channel, given, error=sentence(error), status=status_of(error))
    except msgspec.ValidationError as error:
        text = words()("form.invalid", reason=str(error))
        return await _form_page(kind, channel, given, error=text, status=422)
    return go("/channels", "channel_changed")


@blueprint.post("/channels/<channel_id>/test")
@signed_in
async def test(channel_id: str) -> Answer:
    """Sends a test message."""
    await ask(api.ChannelTest(id=channel_id), api.Done)
    return go("/channels", "channel_tested")


@blueprint.post("/channels/<channel_id>/delete")
@signed_in
async def delete(channel_id: str) -> Answer:
    """Deletes a channel, if its name was typed."""
    typed = (await form()).get("typed", "").strip()
    channel = await _find(channel_id)
    if typed != channel.name:
        kind = msgspec.to_builtins(channel.settings)["type"]
        text = words()("form.typed_differs", name=channel.name)
        return await _form_page(kind, channel, _shown(channel), error=text, status=409)
    await ask(api.ChannelDelete(id=channel_id), api.Done)
    return go("/channels", "channel_deleted")
