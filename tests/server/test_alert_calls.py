"""Alerts and channels through the server's own desk, to real receivers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
import trio

from schemas import api
from vdrd.model.errors import BadArgument, Conflict, NotFound

from .conftest import Client


class Pager:
    """A webhook's receiver: what came in, and what it answers."""

    def __init__(self) -> None:
        self.came: list[dict[str, Any]] = []
        self.status = 204
        pager = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                pager.came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
                self.send_response(pager.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/in"


@pytest.fixture
def pager() -> Iterator[Pager]:
    made = Pager()
    thread = threading.Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


async def until(condition: Any) -> None:
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110 - another thread makes it true
            await trio.sleep(0.05)


async def make_channel(client: Client, pager: Pager, **fields: Any) -> api.ChannelInfo:
    settings = api.WebhookSettings(url=pager.url, secret="key")
    request = api.ChannelCreate(name=fields.pop("name", "pager"), settings=settings, **fields)
    made: api.ChannelInfo = await client.ask("channel.create", request)
    return made


async def break_something(client: Client) -> None:
    """A node that enrolled and is not there."""

    def work(connection: Any) -> None:
        connection.execute("INSERT INTO nodes (node_id, name, enrolled_at_ms) VALUES ('n', 'vault-2', 1)")

    await client.foundation.catalog.write(work)
    client.clock.added_ms += 60_000
    # Any change makes the watcher look at once; without one it looks every quarter of a minute.
    settings = api.WebhookSettings(url="http://127.0.0.1:1/")
    made = await client.ask(
        "channel.create",
        api.ChannelCreate(name="other", settings=settings, least_level=api.AlertLevel.CRITICAL),
    )
    await client.ask("channel.delete", api.ChannelDelete(id=made.id))


async def test_alert_that_opens_reaches_the_receiver_and_its_end_too(client: Client, pager: Pager) -> None:
    await client.login()
    await make_channel(client, pager)
    await break_something(client)
    await until(lambda: pager.came)
    assert (pager.came[0]["event"], pager.came[0]["kind"]) == ("opened", "node-offline")
    page = await client.ask("alert.list", api.AlertList())
    assert page.items[0].id == pager.came[0]["id"]
    counts = await client.ask("alert.counts", api.AlertCounts())
    assert counts.critical == 1
    await client.ask("alert.close", api.AlertClose(ids=[page.items[0].id]))
    await until(lambda: len(pager.came) == 2)
    assert (pager.came[1]["event"], pager.came[1]["state"]) == ("closed", "closed")


async def test_receiver_that_is_down_is_tried_again_and_shown(client: Client, pager: Pager) -> None:
    await client.login()
    channel = await make_channel(client, pager)
    pager.status = 500
    await break_something(client)
    await until(lambda: pager.came)
    with trio.fail_after(60):
        while True:
            (shown,) = (await client.ask("channel.list", api.ChannelList())).items
            if shown.last_error:
                break
            await trio.sleep(0.05)
    assert "answered 500" in shown.last_error
    (delivery,) = (await client.ask("delivery.list", api.DeliveryList(channel_id=channel.id))).items
    assert (delivery.state, delivery.attempts) == (api.DeliveryState.WAITING, 1)
    pager.status = 204
    await client.ask("channel.test", api.ChannelTest(id=channel.id))
    await until(lambda: len(pager.came) == 3)
    assert [message["event"] for message in pager.came] == ["opened", "test", "opened"]


async def test_test_message_goes_through_at_once(client: Client, pager: Pager) -> None:
    await client.login()
    channel = await make_channel(client, pager)
    await client.ask("channel.test", api.ChannelTest(id=channel.id))
    assert [message["event"] for message in pager.came] == ["test"]


async def test_secret_is_kept_sealed_and_never_given_back(client: Client, pager: Pager) -> None:
    await client.login()
    channel = await make_channel(client, pager)
    assert channel.settings == api.WebhookSettings(url=pager.url)
    stored = await client.foundation.catalog.read(
        lambda connection: connection.execute("SELECT settings FROM channels").fetchone()["settings"]
    )
    assert b"key" not in stored
    assert pager.url.encode() not in stored


async def test_channel_of_a_name_that_is_taken_is_refused(client: Client, pager: Pager) -> None:
    await client.login()
    await make_channel(client, pager)
    with pytest.raises(Conflict, match="there is a channel pager already"):
        await make_channel(client, pager)


async def test_channel_that_cannot_work_is_refused(client: Client) -> None:
    await client.login()
    with pytest.raises(BadArgument):
        await client.ask("channel.create", api.ChannelCreate(name="x", settings=api.ServiceSettings()))


async def test_channel_that_was_deleted_is_gone(client: Client, pager: Pager) -> None:
    await client.login()
    channel = await make_channel(client, pager)
    await client.ask("channel.delete", api.ChannelDelete(id=channel.id))
    with pytest.raises(NotFound):
        await client.ask("channel.test", api.ChannelTest(id=channel.id))
