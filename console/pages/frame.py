"""What all pages share: the frame with its navigation, the way to the log-in page, error pages, notices,
paging."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec
from urllib.parse import urlencode

from quart import Response, make_response, redirect, render_template, request, url_for
from werkzeug.datastructures import MultiDict
from werkzeug.wrappers import Response as AnyResponse

from console.context import COOKIE, FORM_TOKEN, ask, session, who, words
from console.rest.problem import status_of
from console.shown import sentences
from schemas import api
from vdrd.model.errors import VdrError

P = ParamSpec("P")
Answer = AnyResponse | Response | str

NOTICE_COOKIE = "vdr-notice"


@dataclass(frozen=True, slots=True)
class Place:
    """A line of the navigation."""

    name: str
    """Also the key of its words and its icon."""
    address: str
    permission: api.Permission


PLACES: tuple[tuple[str, tuple[Place, ...]], ...] = (
    ("", (Place("overview", "/", api.Permission.SYSTEM_READ),)),
    (
        "protect",
        (Place("host", "/hosts", api.Permission.HOSTS_READ), Place("job", "/jobs", api.Permission.JOBS_READ)),
    ),
    (
        "recover",
        (
            Place("point", "/points", api.Permission.POINTS_READ),
            Place("recovery", "/recovery", api.Permission.POINTS_READ),
        ),
    ),
    (
        "monitor",
        (
            Place("run", "/runs", api.Permission.JOBS_READ),
            Place("alert", "/alerts", api.Permission.ALERTS_READ),
            Place("log", "/log", api.Permission.AUDIT_READ),
        ),
    ),
    (
        "infrastructure",
        (
            Place("storage", "/storages", api.Permission.STORAGES_READ),
            Place("node", "/nodes", api.Permission.NODES_READ),
        ),
    ),
    (
        "administration",
        (
            Place("user", "/users", api.Permission.USERS_READ),
            Place("channel", "/channels", api.Permission.CHANNELS_MANAGE),
            Place("metadata", "/metadata", api.Permission.METADATA_MANAGE),
        ),
    ),
)
"""Groups by what people think of."""

THUMB_PLACES = ("overview", "job", "point", "run")
"""What the bar of a phone shows; the others are behind 'more'."""


async def render(template: str, place: str = "", status: int = 200, **values: Any) -> Response:
    """A page inside the frame."""
    user = await who()
    open_session = await session()
    permissions = set(user.permissions)
    places = [
        (group, shown)
        for group, lines in PLACES
        if (shown := [line for line in lines if line.permission in permissions])
    ]
    notice = request.cookies.get(NOTICE_COOKIE, "")
    counts = None
    if api.Permission.ALERTS_READ in permissions and not user.must_change_password:
        # A page is worth showing without the bell.
        with suppress(VdrError):
            counts = await ask(api.AlertCounts(), api.AlertCountsReply)
    page = await render_template(
        template,
        user=user,
        alert_counts=counts,
        place=place,
        places=places,
        thumb_places=THUMB_PLACES,
        may=lambda permission: permission in permissions,
        form_token=open_session.form_token if open_session else "",
        here=request.full_path.rstrip("?"),
        notice=notice if words().has(f"notice.{notice}") else "",
        address=address_with,
        cursor=request.args.get("cursor"),
        **values,
    )
    response = await make_response(page, status)
    assert isinstance(response, Response)
    if notice:
        response.delete_cookie(NOTICE_COOKIE, secure=True, samesite="Lax")
    return response


def go(address: str, notice: str = "") -> AnyResponse:
    """Redirect after a form did its work; `notice` names the sentence to show there."""
    response = redirect(address, 303)
    if notice:
        response.set_cookie(NOTICE_COOKIE, notice, max_age=60, secure=True, httponly=True, samesite="Lax")
    return response


def local_address(address: str | None, otherwise: str = "/") -> str:
    """`address` if it stays on this site, else `otherwise`. Never an open redirect."""
    if address and address.startswith("/") and not address.startswith(("//", "/\\")):
        return address if address.isprintable() else otherwise
    return otherwise


async def signed_out() -> AnyResponse:
    """To the log-in page, and back here afterwards."""
    back = request.full_path.rstrip("?") if request.method == "GET" else "/"
    address = url_for("door.show") + (f"?{urlencode({'next': back})}" if back != "/" else "")
    response = redirect(address, 303)
    if request.cookies.get(COOKIE):
        response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="Lax")
    return response


async def error_page(error: VdrError | str, status: int | None = None) -> Response:
    """A page that says what happened and what to do. `error` may name words of `error.*`."""
    t = words()
    if isinstance(error, VdrError):
        code = error.code
        title = t(f"error.title.{code}") if t.has(f"error.title.{code}") else t("error.title.other")
        text = sentence(error)
        status = status or status_of(error)
    else:
        code = error
        title, text = t(f"error.{error}.title"), t(f"error.{error}.text")
        status = status or 500
    values: dict[str, Any] = {"title": title, "text": text, "code": code, "http_status": status}
    try:
        return await render("error.html", "", status, **values)
    except VdrError:
        page = await render_template("error_bare.html", **values)
        response = await make_response(page, status)
        assert isinstance(response, Response)
        return response


def sentence(error: VdrError) -> str:
    """An error as a sentence that begins and ends like one."""
    return sentences(error.message)


async def form() -> MultiDict[str, str]:
    """The fields of the form that was sent, without our own token."""
    given: MultiDict[str, str] = MultiDict(await request.form)
    given.poplist(FORM_TOKEN)
    return given


def signed_in(page: Callable[P, Awaitable[Any]]) -> Callable[P, Awaitable[Any]]:
    """A page only somebody who logged in sees."""

    @wraps(page)
    async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
        if await session() is None:
            return await signed_out()
        await who()
        return await page(*args, **kwargs)

    return guarded


def address_with(**changes: str | None) -> str:
    """This page's address with some filters changed; changing one goes back to the first page."""
    values = {name: value for name, value in request.args.items() if name != "cursor"}
    for name, value in changes.items():
        if value is None:
            values.pop(name, None)
        else:
            values[name] = value
    query = urlencode(values)
    return f"{request.path}?{query}" if query else request.path


def chosen(name: str, allowed: Any) -> Any:
    """A filter of the address as a value of an enumeration, None if absent or unknown."""
    value = request.args.get(name)
    try:
        return allowed(value) if value else None
    except ValueError:
        return None
