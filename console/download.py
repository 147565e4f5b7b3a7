"""One file of a point as a response: read part by part from the server while the client takes it.

The first part is read before the response begins, so that a refusal is a whole answer of its own. A failure
after that
cuts the connection: the length was announced, so no client takes what it has for the file.
"""

from collections.abc import AsyncIterator
from urllib.parse import quote

from quart import Response

from console.context import client_address, parts
from schemas import api
from vdrd.model.errors import Damaged

_PART_BYTES = 262144


async def file_response(point_id: str, path: str, session_token: str) -> Response:
    """The file at `path`, with the rights of the session. Raises VdrError."""

    # Later parts are read when the request is over for the framework.
    link, address = parts().link, client_address()

    async def part(offset: int) -> api.FilePart:
        request = api.PointRead(id=point_id, path=path, offset=offset, length=_PART_BYTES)
        reply = await link.call(request, session_token=session_token, address=address)
        assert isinstance(reply, api.FilePart)
        return reply

    first = await part(0)

    async def body() -> AsyncIterator[bytes]:
        yield first.data
        sent = len(first.data)
        while sent < first.size_bytes:
            data = (await part(sent)).data
            if not data:
                raise Damaged(what=path, reason="it is shorter than it says")
            yield data
            sent += len(data)

    response = Response(body(), content_type="application/octet-stream")
    response.timeout = None  # a large file and a slow line take what they take
    response.headers["Content-Length"] = str(first.size_bytes)
    response.headers["Content-Disposition"] = f"attachment; filename*=UTF-8''{quote(first.name, safe='')}"
    response.headers["Cache-Control"] = "no-store"
    if first.modified_at is not None:
        response.last_modified = first.modified_at
    return response
