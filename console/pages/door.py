"""Logging in and out, and the language."""

import contextlib

from quart import Blueprint, make_response, redirect, render_template, request, url_for
from werkzeug.wrappers import Response as AnyResponse

from console.context import COOKIE, LANGUAGE_COOKIE, ask, client_address, parts, session
from console.pages.frame import Answer, form, local_address, sentence
from console.rest.problem import status_of
from console.words import LANGUAGES
from schemas import api
from vdrd.model.errors import VdrError

blueprint = Blueprint("door", __name__)

_YEAR_SECONDS = 365 * 86400
_PASSWORD_MAX = 1024


async def _page(status: int = 200, *, error: str = "", user_name: str = "") -> Answer:
    page = await render_template(
        "login.html",
        error=error,
        user_name=user_name,
        next=local_address(request.args.get("next")),
        here=request.full_path.rstrip("?"),
    )
    response: Answer = await make_response(page, status)
    return response


@blueprint.get("/login")
async def show() -> Answer:
    """The log-in page."""
    if await session() is not None:
        return redirect(local_address(request.args.get("next")), 303)
    return await _page()


@blueprint.post("/login")
async def enter() -> Answer:
    """Logs in. The session gets a fresh cookie, whatever cookie came."""
    given = await form()
    user_name = given.get("user_name", "").strip()
    password = given.get("password", "")
    if not user_name or not password or len(password) > _PASSWORD_MAX:
        return await _page(422, error="empty", user_name=user_name)
    try:
        reply = await parts().link.call(
            api.Login(user_name=user_name, password=password, address=client_address()),
            session_token="",
            address=client_address(),
        )
    except VdrError as error:
        return await _page(status_of(error), error=sentence(error), user_name=user_name)
    assert isinstance(reply, api.LoginReply)
    if old := await session():
        await parts().sessions.end(old.cookie)
    fresh = await parts().sessions.begin(reply.user.user_name, reply.session_token)
    response = redirect(local_address(request.args.get("next")), 303)
    response.set_cookie(COOKIE, fresh.cookie, secure=True, httponly=True, samesite="Lax", path="/")
    if language := await parts().sessions.preference(reply.user.user_name, "language"):
        _set_language(response, language)
    return response


@blueprint.post("/logout")
async def leave() -> Answer:
    """Ends the session here and at the server."""
    open_session = await session()
    if open_session is not None:
        await parts().sessions.end(open_session.cookie)
        parts().who.pop(open_session.server_token, None)
        with contextlib.suppress(VdrError):  # it ends by itself; the cookie opens nothing any more
            await ask(api.Logout(), api.Done)
    response = redirect(url_for("door.show"), 303)
    response.delete_cookie(COOKIE, secure=True, httponly=True, samesite="Lax")
    return response


@blueprint.get("/language/<name>")
async def choose_language(name: str) -> Answer:
    """Changes the language of this browser, and of the user if somebody is logged in."""
    response = redirect(local_address(request.args.get("back")), 303)
    if name in LANGUAGES:
        _set_language(response, name)
        if open_session := await session():
            await parts().sessions.prefer(open_session.user_name, "language", name)
    return response


def _set_language(response: AnyResponse, name: str) -> None:
    response.set_cookie(
        LANGUAGE_COOKIE, name, max_age=_YEAR_SECONDS, secure=True, httponly=True, samesite="Lax"
    )
