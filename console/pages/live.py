"""The live feed of the pages, as server-sent events: what changed, not how; the page then asks for itself
again.

One outstanding call to the server per open page. Changes are gathered for a moment, so that a storm of them
costs a page one look.
"""

import asyncio
import json
from collections.abc import AsyncIterator

from quart import Blueprint, Response, make_response, request

from console.context import Parts, client_address, parts, session
from schemas import api
from vdrd.model.errors import SessionEnded, VdrError

blueprint = Blueprint("live", __name__)

_WAIT_SECONDS = 20.0
_GATHER_SECONDS = 0.25
_AGAIN_SECONDS = 3.0


@blueprint.get("/live")
async def feed() -> Response:
    """The stream."""
    open_session = await session()
    if open_session is None:
        return Response("", 401)
    events = _events(parts(), open_session.server_token, client_address(), request.args.get("run") or None)
    response = await make_response(
        events, {"Content-Type": "text/event-stream", "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    )
    assert isinstance(response, Response)
    response.timeout = None
    return response


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


async def _events(all_parts: Parts, token: str, address: str, run_id: str | None) -> AsyncIterator[bytes]:
    after = 0
    yield b"retry: 3000\n\n"
    # What happened since the page was made is lost otherwise: first the place in the feed, then one look at
    # everything.
    is_behind = True
    while not all_parts.is_stopping():
        wait_seconds = 0.0 if is_behind else _WAIT_SECONDS
        try:
            reply = await all_parts.link.call(
                api.EventsPoll(after_sequence=after, wait_seconds=wait_seconds, run_id=run_id),
                session_token=token,
                address=address,
            )
        except SessionEnded:
            yield _event("ended", {})
            return
        except VdrError as error:
            is_behind = True
            yield _event("lost", {"code": error.code})
            await asyncio.sleep(_AGAIN_SECONDS)
            continue
        assert isinstance(reply, api.EventsReply)
        after = reply.next_sequence
        if is_behind or reply.has_missed:
            is_behind = False
            yield _event("change", {"topics": ["all"], "ids": []})
        elif reply.items:
            yield _event(
                "change",
                {
                    "topics": sorted({event.topic for event in reply.items}),
                    "ids": sorted({event.id for event in reply.items}),
                },
            )
            await asyncio.sleep(_GATHER_SECONDS)
        else:
            yield b": still here\n\n"
