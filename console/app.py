"""Puts the web application together: pages, REST, security headers, error pages, what templates may use.

No route is defined here; see `pages/` and `rest/`.
"""

import logging
from pathlib import Path
from typing import Any, cast

from quart import Quart, Response, redirect, request
from quart_schema import Info, QuartSchema
from werkzeug.exceptions import HTTPException
from werkzeug.wrappers import Response as AnyResponse

from console import context, shown, static_files
from console.context import Parts
from console.icons import MARK, icon
from console.pages import PAGES
from console.pages.frame import error_page, signed_out
from console.rest import download, endpoints
from console.rest.openapi import Provider
from console.rest.problem import RequestUnreadable, problem_response
from console.rest.table import PREFIX
from console.whole_requests import WholeRequests
from console.words import LANGUAGES
from vdrd.model.errors import SessionEnded, VdrError

logger = logging.getLogger("console")

_FOLDER = Path(__file__).parent

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)

BODY_BYTES_MAX = 1 << 20
"""Largest form or API request; the link to the server takes no more either."""


class RequestTooLarge(RequestUnreadable):
    """A request is longer than BODY_BYTES_MAX."""

    code = "too-large"
    template = "the request is larger than {limit}"
    hint = "send less at once"


def create_app(parts: Parts) -> Quart:
    """The application over its parts. Starts nothing."""
    app = Quart(__name__, static_folder=None, template_folder=str(_FOLDER / "templates"))
    app.config["MAX_CONTENT_LENGTH"] = BODY_BYTES_MAX
    app.config["TEMPLATES_AUTO_RELOAD"] = False
    app.extensions["vdr"] = parts
    app.jinja_env.trim_blocks = True
    app.jinja_env.lstrip_blocks = True
    QuartSchema(
        app,
        openapi_path=None,
        redoc_ui_path=None,
        scalar_ui_path=None,
        swagger_ui_path=None,
        info=Info(title="VDR", version="1"),
        conversion_preference="msgspec",
        openapi_provider_class=Provider,
    )
    app.register_blueprint(static_files.blueprint)
    app.register_blueprint(endpoints.blueprint)
    app.register_blueprint(download.blueprint)
    for page in PAGES:
        app.register_blueprint(page)
    app.jinja_env.globals.update(
        icon=icon, mark=MARK, LANGUAGES=LANGUAGES, static_version=static_files.VERSION
    )
    app.jinja_env.filters.update(
        size=shown.size,
        speed=shown.speed,
        mode_text=shown.mode_text,
        number=shown.count,
        clock=shown.clock,
        sentences=shown.sentences,
        absolute=shown.absolute,
    )
    app.asgi_app = WholeRequests(app.asgi_app)  # type: ignore[method-assign]
    app.before_request(_guard_forms)
    app.after_request(_harden)
    app.context_processor(_offered)
    app.register_error_handler(VdrError, _failed)
    app.register_error_handler(HTTPException, _http_failed)
    app.register_error_handler(Exception, _broke)
    return app


async def _offered() -> dict[str, object]:
    """What every template may use."""
    t = context.words()
    now = context.parts().now()
    return {
        "t": t,
        "now": now,
        "when": lambda moment, never="–": shown.when(moment, now, t, never=never),
        "duration": lambda seconds: shown.duration(seconds, t),
        "is_connected": context.parts().link.is_connected,
    }


async def _guard_forms() -> AnyResponse | Response | None:
    """A form that did not come from a page of this session changes nothing."""
    if request.method in ("GET", "HEAD", "OPTIONS") or request.path.startswith(PREFIX):
        return None
    if not await context.form_is_ours(needs_token=request.path != "/login"):
        return await error_page("form", 403)
    return None


async def _harden(response: Response) -> Response:
    headers = response.headers
    headers["Content-Security-Policy"] = POLICY
    headers["X-Content-Type-Options"] = "nosniff"
    headers["Referrer-Policy"] = "same-origin"
    headers["Cross-Origin-Opener-Policy"] = "same-origin"
    headers["Cross-Origin-Resource-Policy"] = "same-origin"
    headers["Permissions-Policy"] = "camera=(), microphone=(), geolocation=()"
    if request.path.startswith("/static/"):
        headers["Cache-Control"] = "public, max-age=31536000, immutable"
    else:
        headers.setdefault("Cache-Control", "no-store")
    return response


async def _failed(error: VdrError) -> AnyResponse | Response:
    """An error of the tree that no page showed itself."""
    if isinstance(error, SessionEnded):
        return await signed_out()
    return await error_page(error)


async def _http_failed(error: HTTPException) -> Any:
    code = error.code or 500
    if request.path.startswith(PREFIX):
        if code == 404:
            return await endpoints.not_found()
        if code == 413:
            return problem_response(RequestTooLarge(limit=shown.size(BODY_BYTES_MAX)))
        reason = (error.description or error.name).rstrip(".").lower()
        return problem_response(RequestUnreadable(what=reason), code)
    if code in (301, 302, 303, 307, 308):
        return redirect(cast(Any, error).new_url, code)
    return await error_page("missing" if code == 404 else "request", code)


async def _broke(error: Exception) -> Any:
    """The task's root: nothing of the inside leaks; the log has it."""
    logger.exception("request failed path=%s", request.path, exc_info=error)
    if request.path.startswith(PREFIX):
        return problem_response(VdrError(what="the console failed inside; its log says more"))
    return await error_page("inside", 500)
