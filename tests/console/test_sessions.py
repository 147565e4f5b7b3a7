"""Web sessions: cookies, forms, fixation, the state file."""

import json
import sqlite3
from pathlib import Path

import pytest

from console.context import COOKIE
from console.sessions import SessionStore
from tests.console.conftest import World
from tests.console.fake_server import PASSWORD


def cookie_of(world: World) -> str:
    return next(cookie.value or "" for cookie in world.browser.cookie_jar if cookie.name == COOKIE)


def test_login_sets_cookie_no_script_and_no_other_site_can_use(world: World) -> None:
    response = world.post("/login", {"user_name": "admin", "password": PASSWORD}, token="")
    cookie = next(line for line in response.headers.getlist("Set-Cookie") if line.startswith(COOKIE))
    for attribute in ("Secure", "HttpOnly", "SameSite=Lax", "Path=/"):
        assert attribute in cookie
    assert "Domain" not in cookie


def test_page_without_session_goes_to_login_and_back(world: World) -> None:
    response = world.get("/runs?state=failed")
    assert response.status_code == 303
    assert response.headers["Location"] == "/login?next=%2Fruns%3Fstate%3Dfailed"
    response = world.post(
        "/login?next=/runs?state%3Dfailed", {"user_name": "admin", "password": PASSWORD}, token=""
    )
    assert response.headers["Location"] == "/runs?state=failed"


@pytest.mark.parametrize(
    "target", ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_login_never_leads_to_another_site(world: World, target: str) -> None:
    response = world.run(
        world.browser.post(
            "/login",
            query_string={"next": target},
            scheme="https",
            form={"user_name": "admin", "password": PASSWORD},
        )
    )
    assert response.headers["Location"] == "/"


def test_wrong_password_keeps_the_name_and_tells_nothing_more(world: World) -> None:
    response = world.post("/login", {"user_name": "olivia", "password": "wrong"}, token="")
    assert response.status_code == 401
    text = world.body(response)
    assert "Wrong user name or password." in text
    assert 'value="olivia"' in text
    assert 'wrong"' not in text


def test_login_gives_a_fresh_cookie_and_ends_the_old_session(inside: World) -> None:
    old = cookie_of(inside)
    inside.log_in("operator")
    assert cookie_of(inside) != old
    assert inside.run(inside.store.find(old)) is None


def test_cookie_that_somebody_planted_is_never_taken_over(world: World) -> None:
    world.browser.set_cookie("localhost", COOKIE, "planted")
    world.post("/login", {"user_name": "admin", "password": PASSWORD}, token="")
    assert world.run(world.store.find("planted")) is None


def test_logout_ends_the_session_here_and_at_the_server(inside: World) -> None:
    cookie = cookie_of(inside)
    assert inside.post("/logout", {}).status_code == 303
    assert inside.run(inside.store.find(cookie)) is None
    assert not inside.server.sessions
    assert inside.get("/").status_code == 303


@pytest.mark.parametrize("token", ["", "0" * 64])
def test_form_without_the_sessions_token_changes_nothing(inside: World, token: str) -> None:
    job = next(iter(inside.server.jobs))
    before = len(inside.server.runs)
    response = (
        inside.post(f"/jobs/{job}/run", {}, token=token)
        if token
        else inside.post(f"/jobs/{job}/run", {}, token="")
    )
    assert response.status_code == 403
    assert "This form is too old" in inside.body(response)
    assert len(inside.server.runs) == before


def test_form_from_another_site_changes_nothing(inside: World) -> None:
    job = next(iter(inside.server.jobs))
    before = len(inside.server.runs)
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert inside.post(f"/jobs/{job}/run", {}, headers=headers).status_code == 403
    assert len(inside.server.runs) == before
    assert inside.post(f"/jobs/{job}/run", {}, headers={"Origin": "https://localhost"}).status_code == 303


def test_session_the_server_ended_leads_to_login(inside: World) -> None:
    inside.server.sessions.clear()
    inside.parts.who.clear()
    assert inside.get("/hosts").headers["Location"].startswith("/login")


def test_session_ends_idle_and_after_its_longest_time(tmp_path: Path, world: World) -> None:
    now = [1_000_000.0]
    store = SessionStore(tmp_path / "other.sqlite", idle_seconds=100, longest_seconds=250, now=lambda: now[0])

    async def live() -> None:
        async with store:
            cookie = (await store.begin("admin", "token")).cookie
            for _ in range(3):
                now[0] += 80
                found = await store.find(cookie)
                assert found is not None
                assert (found.user_name, found.server_token) == ("admin", "token")
            now[0] += 80
            assert await store.find(cookie) is None
            other = (await store.begin("admin", "token")).cookie
            now[0] += 101
            assert await store.find(other) is None

    world.run(live())


def test_state_file_alone_opens_nothing(inside: World, tmp_path: Path) -> None:
    path = tmp_path / "console.sqlite"
    assert path.stat().st_mode & 0o077 == 0
    token = next(iter(inside.server.sessions))
    with sqlite3.connect(path) as base:
        (sealed,) = base.execute("SELECT sealed_token FROM session").fetchone()
    base.close()
    content = b"".join(file.read_bytes() for file in tmp_path.glob("console.sqlite*"))
    assert token.encode() not in content
    assert cookie_of(inside).encode() not in content
    assert len(sealed) > len(token)


def test_answer_kept_under_an_idempotency_key_is_not_in_the_clear(world: World, tmp_path: Path) -> None:
    headers = {**world.bearer(), "Idempotency-Key": "k"}
    answers = [world.body(world.api("POST", "/enrolment-tokens", headers=headers, json={})) for _ in range(2)]
    assert answers[0] == answers[1]
    secret = json.loads(answers[0])["token"]
    content = b"".join(file.read_bytes() for file in tmp_path.glob("console.sqlite*"))
    assert content
    assert secret.encode() not in content


def test_language_is_the_browsers_then_the_users(world: World) -> None:
    assert "登录" in world.text("/login", headers={"Accept-Language": "zh-CN,zh;q=0.9,en;q=0.5"})
    assert "Log in" in world.text("/login", headers={"Accept-Language": "fr"})
    world.log_in()
    assert world.get("/language/zh?back=/hosts").headers["Location"] == "/hosts"
    assert "主机" in world.text("/hosts")
    world.browser.cookie_jar.clear()
    world.log_in()
    assert '<html lang="zh-CN">' in world.text("/hosts", headers={"Accept-Language": "en"})
