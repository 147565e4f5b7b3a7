"""Every page: it answers, in both languages, under the policy, light enough, without a loose end."""

import html
import re

import pytest

from console.app import POLICY
from schemas import api
from tests.console.conftest import LINK, World

PAGES = (
    "/",
    "/hosts",
    "/hosts/enrol",
    "/jobs",
    "/jobs/new",
    "/runs",
    "/points",
    "/recovery",
    "/storages",
    "/storages/new",
    "/nodes",
    "/users",
    "/users/new",
    "/account",
    "/log",
    "/metadata",
    "/alerts",
    "/alerts?state=closed",
    "/alerts?level=info",
    "/channels",
    "/channels/new",
    "/channels/new?kind=webhook",
    "/channels/new?kind=service",
    "/api",
    "/search?q=web",
)


def every_page(world: World) -> list[str]:
    """The fixed pages and one of each kind of thing."""
    server = world.server
    host, job, run = (next(iter(things)) for things in (server.hosts, server.jobs, server.runs))
    storage, user = next(iter(server.storages)), server.users["operator"].id
    disk = next(p.id for p in server.points.values() if p.kind == api.ObjectKind.DISK)
    files = next(p.id for p in server.points.values() if p.kind == api.ObjectKind.FILES)
    return [
        *PAGES,
        f"/hosts/{host}",
        f"/hosts/{host}/delete",
        f"/jobs/{job}",
        f"/jobs/{job}/edit",
        f"/jobs/{job}/delete",
        f"/runs/{run}",
        *(f"/points/{point}{page}" for point in (disk, files) for page in ("", "/restore", "/forget")),
        f"/points/{files}/files",
        f"/points/{files}/files?path=/srv",
        f"/storages/{storage}",
        f"/storages/{storage}/detach",
        f"/users/{user}",
        *(f"/channels/{channel}" for channel in server.channels),
        *(f"/jobs/{job}/edit?step={s}" for s in ("what", "when", "check")),
    ]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_page_shown_to_administrator_is_whole(inside: World, language: str) -> None:
    inside.get(f"/language/{language}")
    for path in every_page(inside):
        text = inside.text(path)
        assert text.count("<h1") == 1, path
        assert '<main class="page" id="main"' in text, path
        assert len(re.findall(r'\bid="([^"]+)"', text)) == len(set(re.findall(r'\bid="([^"]+)"', text))), path
        assert "style=" not in text, path
        assert not re.search(r"<[^>]*\son[a-z]+=", text), path
        assert len(text) < 150_000, path


def test_every_link_of_every_page_leads_somewhere(inside: World) -> None:
    seen: set[str] = set()
    waiting = ["/"]
    while waiting:
        path = waiting.pop()
        for found in LINK.findall(inside.text(path)):
            target = html.unescape(found).split("#")[0]
            if target and target not in seen and not target.startswith(("/static/", "/language/")):
                seen.add(target)
                response = inside.get(target)
                assert response.status_code in (200, 405), f"{target} on {path}: {response.status_code}"
                is_page = (response.content_type or "").startswith("text/html")
                if response.status_code == 200 and len(seen) < 120 and is_page:
                    waiting.append(target)
    assert len(seen) > 60


def test_every_answer_carries_the_policy_and_no_page_asks_elsewhere(inside: World) -> None:
    for path in ["/login", "/missing", *every_page(inside)]:
        response = inside.get(path)
        assert response.headers["Content-Security-Policy"] == POLICY
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert not re.search(r'(?:src|href|action)="(?:https?:)?//', inside.body(response)), path
    assert "unsafe" not in POLICY
    assert "*" not in POLICY


def test_first_page_with_its_parts_weighs_under_150_kilobytes(inside: World) -> None:
    page = inside.text("/")
    parts = {html.unescape(p) for p in re.findall(r'(?:src|href)="(/static/[^"]+)"', page)}
    assert len(parts) == 3
    total = len(page.encode()) + sum(len(inside.text(part).encode()) for part in parts)
    assert total < 150_000
    assert all("immutable" in inside.get(part).headers["Cache-Control"] for part in parts)


def test_accessibility_basics_hold_on_every_page(inside: World) -> None:
    for path in every_page(inside):
        text = inside.text(path)
        assert re.search(r'<html lang="(en|zh-CN)">', text)
        ids = set(re.findall(r'\bid="([^"]+)"', text))
        labelled = set(re.findall(r'<label[^>]*\bfor="([^"]+)"', text))
        assert labelled <= ids, f"{path}: labels without field {labelled - ids}"
        for reference in re.findall(r'aria-(?:labelledby|describedby)="([^"]+)"', text):
            assert reference in ids, f"{path}: {reference}"
        for tag in re.findall(r"<(?:input|select|textarea)\b[^>]*>", text):
            if 'type="hidden"' in tag or " hidden" in tag:
                continue
            name = re.search(r'\bid="([^"]+)"', tag)
            wrapped = re.search(r"<label[^>]*>(?:(?!</label>).)*" + re.escape(tag), text, re.S)
            assert (name and name[1] in labelled) or "aria-label" in tag or wrapped, f"{path}: {tag}"
        for button in re.findall(r"<button\b[^>]*>(.*?)</button>", text, re.S):
            assert re.sub(r"<svg.*?</svg>|<[^>]+>|\s", "", button), f"{path}: a button without words"
        for table in re.findall(r"<table.*?</table>", text, re.S):
            assert 'scope="' in table, path


def test_names_with_markup_are_text(inside: World) -> None:
    nasty = "<script>alert(1)</script>\"'&"
    host = inside.server.add_host(nasty)
    for path in (
        "/",
        "/hosts",
        f"/hosts/{host.id}",
        "/jobs/new",
        f"/hosts/{host.id}/delete",
        f"/search?q={nasty}",
    ):
        text = inside.text(path)
        assert "<script>alert" not in text, path
        assert "&lt;script&gt;alert(1)" in text, path


def test_operator_sees_no_act_that_would_be_refused(world: World) -> None:
    world.log_in("operator")
    host = next(iter(world.server.hosts))
    for path, hidden in (
        ("/hosts", "/hosts/enrol"),
        ("/jobs", 'href="/jobs/new"'),
        ("/storages", "/storages/new"),
        (f"/hosts/{host}", "/delete"),
        ("/users", 'href="/users/new"'),
    ):
        assert hidden not in world.text(path), path
    assert "/run" in world.text("/jobs")


def test_lists_without_anything_say_what_to_do(inside: World) -> None:
    server = inside.server
    for things in (
        server.hosts,
        server.jobs,
        server.runs,
        server.points,
        server.exports,
        server.storages,
        server.nodes,
    ):
        things.clear()
    for path, words in (
        ("/", "Nothing is protected yet"),
        ("/hosts", "No hosts yet"),
        ("/jobs", "No jobs yet"),
        ("/runs", "Nothing has run yet"),
        ("/points", "No points yet"),
        ("/recovery", "Nothing is served"),
        ("/storages", "No storage yet"),
        ("/nodes", "No nodes yet"),
        ("/search?q=nobody", "Nothing found"),
        ("/runs?state=failed", "Nothing matches"),
    ):
        assert words in inside.text(path), path


def test_page_without_server_says_so_and_offers_another_try(inside: World) -> None:
    inside.server.is_reachable = False
    inside.parts.who.clear()
    response = inside.get("/hosts")
    assert response.status_code == 503
    text = inside.body(response)
    assert "The server cannot be reached" in text
    assert "127.0.0.1:4510" in text


def test_unknown_address_is_a_page_of_its_own(inside: World) -> None:
    response = inside.get("/nowhere")
    assert response.status_code == 404
    assert "There is no such page" in inside.body(response)


def test_thing_that_is_not_there_is_named(inside: World) -> None:
    response = inside.get("/jobs/no-such-job")
    assert response.status_code == 404
    assert "job not found: no-such-job" in inside.body(response).lower()
