"""Errors as problem documents (RFC 9457), and which HTTP status each of them has. Knows the error tree, no
endpoint."""

import json

import msgspec
from quart import Response

from vdrd.model.errors import BadInput, ExitCode, VdrError

_STATUS_OF_EXIT = {
    ExitCode.USAGE: 400,
    ExitCode.NOT_FOUND: 404,
    ExitCode.REFUSED: 409,
    ExitCode.UNAUTHORISED: 403,
    ExitCode.NO_SPACE: 507,
    ExitCode.UNREACHABLE: 503,
}
_STATUS_OF_CODE = {
    "session-ended": 401,
    "login-failed": 401,
    "too-large": 413,
    "volume-unreadable": 422,
    "locked-out": 429,
    "peer-failed": 502,
    "peer-busy": 503,
}


class RequestUnreadable(BadInput):
    """A request does not have the form the API asks for."""

    code = "bad-input"
    template = "{what}"


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error: what happened to which thing, and what to do. Served as application/problem+json."""

    type: str
    """`urn:vdr:error:` and the code."""
    title: str
    status: int
    detail: str
    """What happened and what to do, as one or two sentences."""
    code: str
    """Stable; a program may rely on it."""
    hint: str = ""
    fields: dict[str, str] = {}
    """What the sentence is about, by name."""


def status_of(error: VdrError) -> int:
    """HTTP status of an error."""
    return _STATUS_OF_CODE.get(error.code) or _STATUS_OF_EXIT.get(error.exit_code, 500)


def problem_of(error: VdrError, status: int | None = None) -> Problem:
    """An error as a document; `status` overrides the one of the table."""
    return Problem(
        type=f"urn:vdr:error:{error.code}",
        title=error.code.replace("-", " "),
        status=status or status_of(error),
        detail=error.message,
        code=error.code,
        hint=error.hint_text,
        fields={name: str(value) for name, value in error.fields.items()},
    )


def problem_response(error: VdrError, status: int | None = None) -> Response:
    """An error as an answer."""
    problem = problem_of(error, status)
    headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else {}
    return Response(
        json.dumps(msgspec.to_builtins(problem), ensure_ascii=False),
        problem.status,
        headers,
        content_type="application/problem+json",
    )
