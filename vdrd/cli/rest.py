"""`vdr` as a client of the REST API: requests, pages, errors, and things found by name. Knows no command."""

import json
import ssl
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from schemas.link import Fault
from vdrd.cli.rest_session import Session, load_session
from vdrd.model.errors import BadInput, CertificateRefused, NotFound, Unreachable, VdrError
from vdrd.protocol.faults import error_of

if TYPE_CHECKING:
    import httpx

_PREFIX = "/api/v1"
_CONNECT_SECONDS = 10.0
_ANSWER_SECONDS = 120.0
_PAGE_ROWS = 500
_POINT_ID_DIGITS = 32

Row = dict[str, Any]


class _Null:
    """A JSON null in a request, where None means 'not given'."""


NULL = _Null()


class Ambiguous(BadInput):
    """A name or beginning of an id fits several things."""

    code = "ambiguous"
    template = "{text} could be {count} {what}s: {examples}"
    hint = "give the whole id"


class NoConsole(Unreachable):
    """Something answers, but it does not speak this API."""

    code = "unreachable"
    template = "cannot reach {peer}: {reason}"
    hint = "check the address; the console usually listens on port 8443"


class NotTrusted(CertificateRefused):
    """The console's certificate is not signed by the authority it must be, or is for another name."""

    template = "certificate of {peer} refused: {reason}"
    hint = (
        "log in with --ca authority.pem or --fingerprint of the product's authority, "
        "under a name the certificate is for"
    )


def trust(authority_pem: str) -> ssl.SSLContext:
    """What a console must prove: by the given authority, or by one this machine trusts."""
    context = ssl.create_default_context(cadata=authority_pem or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


class Rest:
    """A session with a console. Use as a context manager."""

    def __init__(self, session: Session) -> None:
        import httpx  # a help page needs none of it

        self.session = session
        headers = {"Accept": "application/json"}
        if session.token:
            headers["Authorization"] = f"Bearer {session.token}"
        self._http = httpx.Client(
            base_url=session.address.rstrip("/") + _PREFIX,
            verify=trust(session.authority_pem),
            headers=headers,
            timeout=httpx.Timeout(_ANSWER_SECONDS, connect=_CONNECT_SECONDS),
        )

    @classmethod
    def open(cls) -> Self:
        """The session of the last log-in. Raises SessionEnded if there is none."""
        return cls(load_session())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    # Requests

    def get(self, path: str, /, **query: Any) -> Row:
        """Ask. Query values that are None are left out, lists are repeated."""
        return self._send("GET", path, params={name: v for name, v in query.items() if v is not None})

    def post(self, path: str, /, **fields: Any) -> Row:
        """Do. Fields that are None are left out; NULL is sent as null."""
        body = {name: None if v is NULL else v for name, v in fields.items() if v is not None}
        return self._send("POST", path, json=body)

    def patch(self, path: str, /, **fields: Any) -> Row:
        """Change. Fields that are None are left out; NULL is sent as null."""
        body = {name: None if v is NULL else v for name, v in fields.items() if v is not None}
        return self._send("PATCH", path, json=body)

    def delete(self, path: str, /, **query: Any) -> Row:
        """Remove."""
        return self._send("DELETE", path, params={name: v for name, v in query.items() if v is not None})

    def rows(self, path: str, /, *, limit: int | None = None, **query: Any) -> list[Row]:
        """All rows of a list, or the first `limit`, across its pages."""
        rows: list[Row] = []
        for row in self._each(path, **query):
            rows.append(row)
            if limit is not None and len(rows) >= limit:
                break
        return rows

    def _each(self, path: str, /, **query: Any) -> Iterator[Row]:
        cursor = None
        while True:
            page = self.get(path, limit=_PAGE_ROWS, cursor=cursor, **query)
            yield from page["items"]
            cursor = page["next_cursor"]
            if cursor is None:
                return

    def _send(self, method: str, path: str, **options: Any) -> Row:
        import httpx

        peer = self.session.address
        try:
            response = self._http.request(method, path, **options)
        except httpx.HTTPError as error:
            raise _translated(error, peer) from error
        try:
            answer = response.json()
        except ValueError as error:
            raise NoConsole(peer=peer, reason=f"it answered {response.status_code} and no JSON") from error
        if response.is_success and isinstance(answer, dict):
            return answer
        raise _error_of(answer, response.status_code, peer)

    # Things by name

    def find(self, what: str, text: str) -> Row:
        """The host, job, storage, node, user or channel of this name or id. Raises NotFound, Ambiguous."""
        matches = [row for row in self._each(f"/{what}s") if text in (row["id"], row["name"])]
        return _only(matches, what, text)

    def point(self, text: str) -> Row:
        """A point by id, unique beginning of it, or OBJECT@latest. Raises NotFound, Ambiguous."""
        if len(text) == _POINT_ID_DIGITS:
            return self.get(f"/points/{quote(text, safe='')}")
        if text.endswith("@latest"):
            name = text.removesuffix("@latest")
            return _only(self.rows("/points", limit=1, object_name=name), "point", text)
        matches = [row for row in self._each("/points") if row["id"].startswith(text)]
        return _only(matches, "point", text)

    def run(self, text: str) -> Row:
        """A run by id or unique beginning of it. Raises NotFound, Ambiguous."""
        try:
            return self.get(f"/runs/{quote(text, safe='')}")
        except NotFound:
            return _only([row for row in self._each("/runs") if row["id"].startswith(text)], "run", text)

    def export(self, text: str) -> Row:
        """An export by id, unique beginning of it, or id of its point. Raises NotFound, Ambiguous."""
        rows = self.rows("/exports")
        matches = [row for row in rows if row["id"].startswith(text) or row["point_id"].startswith(text)]
        return _only(matches, "export", text)


def _only(matches: list[Row], what: str, text: str) -> Row:
    if not matches:
        raise NotFound(what=what, name=text)
    if len(matches) > 1:
        examples = ", ".join(str(row["id"]) for row in matches[:3])
        raise Ambiguous(text=text, count=len(matches), what=what, examples=examples)
    return matches[0]


def _error_of(answer: object, status: int, peer: str) -> VdrError:
    """The error a problem document tells, of the same class as in the server."""
    if not isinstance(answer, Mapping) or "code" not in answer:
        return NoConsole(peer=peer, reason=f"it answered {status}: {json.dumps(answer)[:200]}")
    hint = str(answer.get("hint", ""))
    message = (
        str(answer.get("detail", "")).removesuffix(f". {hint}") if hint else str(answer.get("detail", ""))
    )
    return error_of(Fault(0, str(answer["code"]), message, hint, False, dict(answer.get("fields", {}))))


def _translated(error: "httpx.HTTPError", peer: str) -> VdrError:
    import httpx

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return NotTrusted(peer=peer, reason=cause.verify_message.lower().rstrip("."))
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return Unreachable(peer=peer, reason="no answer in time")
    text = " ".join(str(error).split()).lower() or type(error).__name__
    return NoConsole(peer=peer, reason=text)
