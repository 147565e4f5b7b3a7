"""What a request of the console can reach: link, session store, settings, and the session it belongs to.

Pages call `ask`; it carries the user's session to the server. Nothing here decides a right: `may` only hides
what would be refused.
"""

import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TypeVar, cast

from quart import current_app, g, request

from console.link import ServerCalls
from console.sessions import SessionStore, WebSession
from console.words import DEFAULT_LANGUAGE, LANGUAGES, Words, preferred_language
from schemas import api
from vdrd.model.errors import SessionEnded

COOKIE = "__Host-vdr"
LANGUAGE_COOKIE = "vdr-language"
FORM_TOKEN = "form_token"

S = TypeVar("S", bound=api.Message)

_WHO_KEPT_SECONDS = 15.0
_WHO_KEPT_MAX = 2000


@dataclass(slots=True)
class Parts:
    """Everything the app was put together from."""

    link: ServerCalls
    sessions: SessionStore
    started: float = field(default_factory=time.monotonic)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    is_stopping: Callable[[], bool] = lambda: False
    who: dict[str, tuple[float, api.WhoAmIReply]] = field(default_factory=dict)
    """Answers of who_am_i by session token, for a few seconds."""


def parts() -> Parts:
    """The parts of the running app."""
    return cast(Parts, current_app.extensions["vdr"])


def client_address() -> str:
    """Where the request comes from, for the audit log. No header can claim another."""
    return request.remote_addr or ""


def words() -> Words:
    """The words of this request's language."""
    if "words" not in g:
        chosen = request.cookies.get(LANGUAGE_COOKIE, "")
        if chosen not in LANGUAGES:
            chosen = preferred_language(request.accept_languages.values()) or DEFAULT_LANGUAGE
        g.words = Words(chosen)
    return cast(Words, g.words)


async def session() -> WebSession | None:
    """The session of the request's cookie."""
    if "session" not in g:
        cookie = request.cookies.get(COOKIE)
        g.session = await parts().sessions.find(cookie) if cookie else None
    return cast("WebSession | None", g.session)


async def ask(message: api.Message, expected: type[S]) -> S:
    """Carry out a call with the rights of the user of this request. Raises VdrError."""
    open_session = await session()
    if open_session is None:
        raise SessionEnded
    reply = await parts().link.call(
        message, session_token=open_session.server_token, address=client_address()
    )
    assert isinstance(reply, expected), f"{type(message).__name__} is answered by {type(reply).__name__}"
    return reply


async def who() -> api.WhoAmIReply:
    """Who this request belongs to. Asked anew every few seconds, so that a right taken away goes from the
    page too."""
    open_session = await session()
    if open_session is None:
        raise SessionEnded
    kept = parts().who
    now = time.monotonic()
    known = kept.get(open_session.server_token)
    if known is not None and now - known[0] < _WHO_KEPT_SECONDS:
        return known[1]
    reply = await ask(api.WhoAmI(), api.WhoAmIReply)
    if len(kept) >= _WHO_KEPT_MAX:
        kept.clear()
    kept[open_session.server_token] = (now, reply)
    return reply


async def form_is_ours(*, needs_token: bool) -> bool:
    """True if a form was sent from a page of this session: same origin, and the session's form token."""
    origin = request.headers.get("Origin")
    if origin is not None and origin != f"{request.scheme}://{request.host}":
        return False
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return False
    open_session = await session()
    if open_session is None or not needs_token:
        return True
    given = (await request.form).get(FORM_TOKEN, "") or request.headers.get("X-Form-Token", "")
    return hmac.compare_digest(given.encode(), open_session.form_token.encode())
