"""The console's app over the fake server, driven synchronously: each test owns an asyncio loop."""

import asyncio
import re
from collections.abc import Coroutine, Iterator
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from quart import Quart, Response
from werkzeug.datastructures import MultiDict

from console.app import create_app
from console.context import COOKIE, Parts
from console.sessions import SessionStore
from tests.console.fake_server import PASSWORD, FakeServer, populate


@cache
def the_app() -> Quart:
    """One for all tests: its templates are compiled once. Its parts are each test's own."""
    app = create_app(Parts(FakeServer(), None))  # type: ignore[arg-type]
    app.config["PROPAGATE_EXCEPTIONS"] = False
    return app


class World:
    """App, fake server and a browser with cookies."""

    def __init__(self, path: Path) -> None:
        self.runner = asyncio.Runner()
        self.server = FakeServer()
        populate(self.server)
        self.store = SessionStore(path / "console.sqlite", idle_seconds=3600, longest_seconds=86400)
        self.run(self.store.__aenter__())
        self.parts = Parts(self.server, self.store)
        self.app = the_app()
        self.app.extensions["vdr"] = self.parts
        self.browser = self.app.test_client()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    def close(self) -> None:
        self.run(self.store.__aexit__(None, None, None))
        self.runner.close()

    def get(self, path: str, **options: Any) -> Response:
        return self.run(self.browser.get(path, scheme="https", **options))

    def text(self, path: str, **options: Any) -> str:
        response = self.get(path, **options)
        assert response.status_code == 200, f"{path}: {response.status_code}"
        return self.run(response.get_data(as_text=True))

    def body(self, response: Response) -> str:
        return self.run(response.get_data(as_text=True))

    def post(
        self, path: str, fields: dict[str, Any], *, token: str | None = None, **options: Any
    ) -> Response:
        pairs = [pair for pair in MultiDict(fields).items(multi=True) if pair[0] != "form_token"]
        if token != "":
            pairs.append(("form_token", token or self.form_token()))
        headers = {"Content-Type": "application/x-www-form-urlencoded", **options.pop("headers", {})}
        return self.run(
            self.browser.post(path, scheme="https", data=urlencode(pairs), headers=headers, **options)
        )

    def form_token(self) -> str:
        cookie = next(c.value for c in self.browser.cookie_jar if c.name == COOKIE)
        found = self.run(self.store.find(cookie))
        return found.form_token

    def log_in(self, user_name: str = "admin") -> None:
        response = self.run(
            self.browser.post("/login", scheme="https", form={"user_name": user_name, "password": PASSWORD})
        )
        assert response.status_code == 303

    def api(self, method: str, path: str, **options: Any) -> Response:
        client = self.app.test_client(use_cookies=False)
        return self.run(client.open(f"/api/v1{path}", method=method, scheme="https", **options))

    def bearer(self, user_name: str = "admin") -> dict[str, str]:
        response = self.api("POST", "/sessions", json={"user_name": user_name, "password": PASSWORD})
        assert response.status_code == 201
        answer = self.run(response.get_json())
        return {"Authorization": f"Bearer {answer['session_token']}"}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.close()


@pytest.fixture
def inside(world: World) -> World:
    """Somebody is logged in."""
    world.log_in()
    return world


LINK = re.compile(r'(?:href|action)="(/[^"]*)"')
