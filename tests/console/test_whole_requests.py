"""Requests over HTTP/2 that are answered before their bodies have come."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest

from console.whole_requests import WholeRequests
from tests.console.site import open_site


def test_body_of_a_refused_request_leaves_its_connection_whole(tmp_path: Path) -> None:
    with open_site(tmp_path) as site:
        trusted = ssl.create_default_context(cafile=site.authority)
        with httpx.Client(http2=True, verify=trusted, base_url=site.address, timeout=60) as client:
            for path in ("/nowhere", "/api/v1/nowhere", "/api/v1/jobs"):
                refused = client.post(path, content=(bytes(16_000) for _ in range(16)))
                assert refused.http_version == "HTTP/2"
                assert refused.status_code >= 400
            # Still the first connection: each of these would have been its end.
            pool: Any = client._transport
            assert len(pool._pool.connections) == 1
            assert client.get("/login").status_code == 200


@pytest.mark.parametrize("is_long", [False, True], ids=["at-once", "late"])
def test_answer_ends_after_the_body_of_its_request(is_long: bool) -> None:
    order: list[str] = []
    body = [b"first", b"last"] if is_long else [b"all"]

    async def application(_scope: Any, receive: Any, send: Any) -> None:
        async def read() -> None:
            while (await receive())["more_body"]:
                pass

        reading = asyncio.ensure_future(read())
        await send({"type": "http.response.start", "status": 404})
        await send({"type": "http.response.body", "body": b"no"})
        await reading

    async def receive() -> Any:
        for _ in range(3):
            await asyncio.sleep(0)
        part = body.pop(0)
        order.append(f"got {part.decode()}")
        return {"type": "http.request", "body": part, "more_body": bool(body)}

    async def send(message: Any) -> None:
        order.append(message["type"])

    asyncio.run(WholeRequests(application)({"type": "http"}, receive, send))
    assert order[-1] == "http.response.body"
    assert order[-2].startswith("got ")
