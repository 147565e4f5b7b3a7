"""Serves the REST API: for each line of the table a route that turns HTTP into a call and its answer into
JSON.

Knows HTTP and the registry, not what a call means. Rights are the server's business.
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from quart import Blueprint, Response, current_app, request
from quart_schema import hide

from console.context import client_address, parts
from console.rest.openapi import ENDPOINT_ATTRIBUTE
from console.rest.problem import RequestUnreadable, problem_response
from console.rest.requests import from_body, from_query, path_fields
from console.rest.table import ENDPOINTS, PREFIX, Endpoint
from console.sessions import KeptAnswer
from schemas import api
from vdrd.model.errors import Conflict, NotFound, SessionEnded, VdrError

blueprint = Blueprint("rest", __name__, url_prefix=PREFIX)

_IDEMPOTENCY_KEY_MAX = 200
_LOCKS_MAX = 1000

_locks: dict[tuple[str, str, str], asyncio.Lock] = {}


def bearer() -> str:
    """The session token of a REST request; empty if it has none."""
    kind, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


async def _carried_out(endpoint: Endpoint, message: api.Message, token: str) -> tuple[int, bytes]:
    reply = await parts().link.call(message, session_token=token, address=client_address())
    return endpoint.status, msgspec.json.encode(reply)


async def _once(
    endpoint: Endpoint, message: api.Message, token: str, key: str, body: bytes
) -> tuple[int, bytes]:
    """The answer kept under the key, or a fresh one that is kept. Only success is kept: a failure may be
    tried again."""
    if len(key) > _IDEMPOTENCY_KEY_MAX:
        raise RequestUnreadable(what=f"Idempotency-Key is longer than {_IDEMPOTENCY_KEY_MAX} characters")
    where = request.path
    request_hash = hashlib.sha256(body).digest()
    if len(_locks) > _LOCKS_MAX:
        _locks.clear()
    async with _locks.setdefault((token, where, key), asyncio.Lock()):
        kept = await parts().sessions.kept_answer(token, where, key)
        if kept is not None:
            if kept.request_hash != request_hash:
                raise Conflict(
                    what="this Idempotency-Key was used for another request",
                    remedy="use a new key per request",
                )
            # The key is no way round the rights: the session must still stand.
            await parts().link.call(api.WhoAmI(), session_token=token, address=client_address())
            return kept.status, kept.body
        status, answer = await _carried_out(endpoint, message, token)
        await parts().sessions.keep_answer(token, where, key, KeptAnswer(request_hash, status, answer))
        return status, answer


def _handler(endpoint: Endpoint) -> Callable[..., Awaitable[Response]]:
    call = api.CALLS[endpoint.call]
    in_path = path_fields(endpoint.path)

    async def handle(**path: str) -> Response:
        token = bearer()
        if not token and not call.is_open:
            raise SessionEnded
        if endpoint.method in ("GET", "DELETE"):
            given = {name: request.args.getlist(name) for name in request.args}
            message = from_query(call.request, path, given)
            status, answer = await _carried_out(endpoint, message, token)
        else:
            body = await request.get_data(as_text=False)
            assert isinstance(body, bytes)
            message = from_body(call.request, path, body)
            if isinstance(message, api.Login):
                message = msgspec.structs.replace(message, address=client_address())
            key = request.headers.get("Idempotency-Key", "")
            if key and endpoint.method == "POST" and not call.is_open:
                status, answer = await _once(endpoint, message, token, key, body)
            else:
                status, answer = await _carried_out(endpoint, message, token)
        return Response(
            answer, status, content_type="application/json", headers={"Cache-Control": "no-store"}
        )

    handle.__name__ = endpoint.call.replace(".", "_")
    setattr(handle, ENDPOINT_ATTRIBUTE, endpoint)
    assert all(name in {field.name for field in msgspec.structs.fields(call.request)} for name in in_path)
    return handle


for _endpoint in ENDPOINTS:
    blueprint.add_url_rule(
        _endpoint.path.replace("{", "<").replace("}", ">"),
        endpoint=_endpoint.call.replace(".", "_"),
        view_func=_handler(_endpoint),
        methods=[_endpoint.method],
    )


@blueprint.get("/openapi.json")
@hide
async def document() -> Response:
    """The OpenAPI document."""
    provider: Any = current_app.extensions["QUART_SCHEMA"].openapi_provider
    return Response(
        msgspec.json.encode(provider.schema()),
        content_type="application/json",
        headers={"Cache-Control": "no-cache"},
    )


@blueprint.errorhandler(VdrError)
async def failed(error: VdrError) -> Response:
    """Any error of the tree as a problem document."""
    return problem_response(error)


async def not_found() -> Response:
    """An address below the API that is none."""
    return problem_response(NotFound(what="endpoint", name=f"{request.method} {request.path}"))
