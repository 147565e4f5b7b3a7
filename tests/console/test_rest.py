"""The REST API: every call has an address, the document is whole, errors are problems, keys work once."""

import asyncio
import json
import re
from typing import Any

import pytest

from console.rest.table import ENDPOINTS, PREFIX
from schemas import api
from tests.console.conftest import World
from tests.console.fake_server import file_content
from vdrd.model.errors import Conflict, PeerBusy, StorageFull


def document(world: World) -> dict[str, Any]:
    response = world.api("GET", "/openapi.json")
    assert response.status_code == 200
    return json.loads(world.body(response))


def test_every_call_of_the_registry_has_exactly_one_address() -> None:
    assert sorted(endpoint.call for endpoint in ENDPOINTS) == sorted(api.CALLS)
    assert len({(endpoint.method, endpoint.path) for endpoint in ENDPOINTS}) == len(ENDPOINTS)


def references(node: object) -> set[str]:
    if isinstance(node, dict):
        own = {node["$ref"]} if isinstance(node.get("$ref"), str) else set()
        return own.union(*(references(value) for value in node.values()))
    if isinstance(node, list):
        return set().union(*(references(value) for value in node)) if node else set()
    return set()


def test_openapi_document_is_whole(world: World) -> None:
    made = document(world)
    assert made["openapi"].startswith("3.1")
    assert {"title", "version", "description"} <= set(made["info"])
    schemas = made["components"]["schemas"]
    assert {reference.rsplit("/", 1)[1] for reference in references(made)} <= set(schemas)
    ids = []
    for path, methods in made["paths"].items():
        for operation in methods.values():
            ids.append(operation["operationId"])
            named = {p["name"] for p in operation["parameters"] if p["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path)), path
            assert all(set(p) >= {"name", "in", "required", "schema"} for p in operation["parameters"])
            assert "default" in operation["responses"]
            assert operation["summary"]
    assert len(ids) == len(set(ids)) == len(ENDPOINTS)
    assert "JobEditBody" in schemas
    assert "id" not in schemas["JobEditBody"]["properties"]
    assert schemas["JobCreate"]["properties"]["sources"]["items"] == {
        "$ref": "#/components/schemas/JobSource"
    }


def test_openapi_document_describes_the_answers_that_are_given(world: World) -> None:
    """Each list is asked for; the answer has every required property of its schema and no other."""
    made = document(world)
    bearer = world.bearer()
    for path, methods in made["paths"].items():
        if "get" not in methods or "{" in path or path == "/events":
            continue
        response = world.api("GET", path, headers=bearer)
        assert response.status_code == 200, path
        answer = json.loads(world.body(response))
        name = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"].rsplit(
            "/", 1
        )[1]
        schema = made["components"]["schemas"][name]
        assert set(schema["required"]) <= set(answer) <= set(schema["properties"]), path


def test_document_page_lists_every_operation_without_asking_elsewhere(inside: World) -> None:
    text = inside.text("/api")
    for endpoint in ENDPOINTS:
        assert f'id="{endpoint.call.replace(".", "_")}"' in text


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("GET", "/nowhere", None, 404, "not-found"),
        ("GET", "/jobs/none", None, 404, "not-found"),
        ("GET", "/jobs?limit=0", None, 400, "bad-input"),
        ("GET", "/jobs?limit=many", None, 400, "bad-input"),
        ("GET", "/jobs?serch=x", None, 400, "bad-input"),
        ("GET", "/jobs?kind=disk&kind=files", None, 400, "bad-input"),
        ("GET", "/runs?states=ended", None, 400, "bad-input"),
        ("POST", "/jobs", b"{", 400, "bad-input"),
        ("POST", "/jobs", b"[]", 400, "bad-input"),
        ("POST", "/jobs", b'{"name": "x"}', 400, "bad-input"),
        ("POST", "/jobs", b'{"nam": "x"}', 400, "bad-input"),
        ("PATCH", "/jobs/none", b'{"id": "other"}', 400, "bad-input"),
        ("POST", "/jobs", b"[" * 100_000, 400, "bad-input"),
        ("PUT", "/jobs", b"{}", 405, "bad-input"),
        ("POST", "/jobs", b" " * (2 << 20), 413, "too-large"),
    ],
)
def test_request_that_cannot_be_used_is_a_problem_that_says_why(
    world: World, method: str, path: str, body: bytes | None, status: int, code: str
) -> None:
    response = world.api(method, path, headers=world.bearer(), **({"data": body} if body is not None else {}))
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    problem = json.loads(world.body(response))
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["detail"]
    assert not [name for name, _ in world.server.calls if name.startswith("job.cre")]


def test_unknown_field_is_named_with_the_nearest_one(world: World) -> None:
    response = world.api("GET", "/jobs?serch=x", headers=world.bearer())
    assert "unknown field serch. did you mean search?" in world.body(response)


def test_call_without_or_with_dead_session_is_401(world: World) -> None:
    for headers in ({}, {"Authorization": "Bearer nothing"}, {"Authorization": "Basic eA=="}):
        response = world.api("GET", "/hosts", headers=headers)
        assert response.status_code == 401
        assert response.headers["WWW-Authenticate"] == "Bearer"


def test_browser_cookie_opens_no_api(inside: World) -> None:
    assert inside.get(f"{PREFIX}/hosts").status_code == 401


def test_rights_are_the_servers_answer(world: World) -> None:
    response = world.api(
        "POST", "/users", headers=world.bearer("operator"), json={"name": "x", "password": "long enough"}
    )
    assert response.status_code == 403
    assert json.loads(world.body(response))["code"] == "not-authorised"


def test_wrong_password_is_401_and_no_session(world: World) -> None:
    response = world.api("POST", "/sessions", json={"user_name": "admin", "password": "wrong"})
    assert response.status_code == 401
    assert json.loads(world.body(response))["code"] == "login-failed"
    assert not world.server.sessions


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Conflict(what="a run is open", remedy="wait for it"), 409),
        (StorageFull(path="/srv"), 507),
        (PeerBusy(peer="the server"), 503),
    ],
)
def test_error_of_the_server_keeps_code_message_and_hint(world: World, error: Any, status: int) -> None:
    world.server.refusals["status.get"] = error
    world.server.refusals["system.status"] = error
    response = world.api("GET", "/status", headers=world.bearer())
    assert response.status_code == status
    problem = json.loads(world.body(response))
    assert (problem["code"], problem["hint"]) == (error.code, error.hint_text)
    assert problem["detail"] == error.message


def test_server_away_is_503(world: World) -> None:
    bearer = world.bearer()
    world.server.is_reachable = False
    assert world.api("GET", "/status", headers=bearer).status_code == 503


def test_list_pages_by_cursor_until_null(world: World) -> None:
    bearer = world.bearer()
    seen: list[str] = []
    cursor = ""
    while cursor is not None:
        page = json.loads(world.body(world.api("GET", f"/points?limit=40&cursor={cursor}", headers=bearer)))
        seen += [point["id"] for point in page["items"]]
        cursor = page["next_cursor"]
    assert sorted(seen) == sorted(world.server.points)


def test_idempotency_key_runs_a_job_once(world: World) -> None:
    job = next(iter(world.server.jobs))
    headers = {**world.bearer(), "Idempotency-Key": "monday"}
    before = len(world.server.runs)
    answers = [
        world.api("POST", f"/jobs/{job}/run", headers=headers, json={"backup_type": "full"}) for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [202] * 3
    assert len({world.body(answer) for answer in answers}) == 1
    assert len(world.server.runs) == before + 1
    other = world.api("POST", f"/jobs/{job}/run", headers=headers, json={"backup_type": "incremental"})
    assert other.status_code == 409
    assert len(world.server.runs) == before + 1


def test_idempotency_key_sent_twice_at_once_runs_a_job_once(world: World) -> None:
    job = next(iter(world.server.jobs))
    headers = {**world.bearer(), "Idempotency-Key": "together"}
    before = len(world.server.runs)

    async def both() -> list[int]:
        client = world.app.test_client(use_cookies=False)
        path = f"{PREFIX}/jobs/{job}/run"
        answers = await asyncio.gather(
            *(client.post(path, headers=headers, json={}, scheme="https") for _ in range(5))
        )
        return [answer.status_code for answer in answers]

    assert world.run(both()) == [202] * 5
    assert len(world.server.runs) == before + 1


def test_idempotency_key_of_another_user_is_another_key(world: World) -> None:
    job = next(iter(world.server.jobs))
    before = len(world.server.runs)
    for user in ("admin", "operator"):
        headers = {**world.bearer(user), "Idempotency-Key": "same"}
        assert world.api("POST", f"/jobs/{job}/run", headers=headers, json={}).status_code == 202
    assert len(world.server.runs) == before + 2


def test_failed_request_may_be_tried_again_with_the_same_key(world: World) -> None:
    job = next(iter(world.server.jobs))
    headers = {**world.bearer(), "Idempotency-Key": "again"}
    world.server.refusals["job.run_now"] = Conflict(what="a run is open", remedy="wait")
    assert world.api("POST", f"/jobs/{job}/run", headers=headers, json={}).status_code == 409
    world.server.refusals.clear()
    assert world.api("POST", f"/jobs/{job}/run", headers=headers, json={}).status_code == 202


def test_login_tells_the_server_the_real_address_whatever_the_body_says(world: World) -> None:
    body = {"user_name": "admin", "password": "x", "address": "203.0.113.9"}
    world.api("POST", "/sessions", json=body, headers={"X-Forwarded-For": "203.0.113.9"})
    name, sent = world.server.calls[-1]
    assert name == "session.login"
    assert isinstance(sent, api.Login)
    assert sent.address != "203.0.113.9"


def test_file_of_a_point_is_downloaded_whole_and_by_its_name(world: World) -> None:
    point = next(iter(world.server.points.values()))
    address = f"/points/{point.id}/download"
    response = world.api(
        "GET", address, query_string={"path": "/srv/photo-\\xff.jpg"}, headers=world.bearer()
    )
    assert response.status_code == 200
    assert world.run(response.get_data()) == file_content(3_412_998)
    assert response.headers["Content-Length"] == "3412998"
    assert response.headers["Content-Disposition"] == "attachment; filename*=UTF-8''photo-%5Cxff.jpg"
    reads = [request for _, request in world.server.calls if isinstance(request, api.PointRead)]
    assert [call.offset for call in reads] == list(range(0, 3_412_998, 262_144))


@pytest.mark.parametrize(
    ("path", "status"), [("", 400), ("/srv", 404), ("/srv/nothing", 404), ("/../../etc/passwd", 404)]
)
def test_download_of_what_is_no_file_is_a_problem(world: World, path: str, status: int) -> None:
    point = next(iter(world.server.points.values()))
    response = world.api(
        "GET", f"/points/{point.id}/download", query_string={"path": path}, headers=world.bearer()
    )
    assert response.status_code == status
    assert response.content_type == "application/problem+json"


def test_download_without_a_session_is_refused(world: World) -> None:
    point = next(iter(world.server.points.values()))
    response = world.api("GET", f"/points/{point.id}/download", query_string={"path": "/index.html"})
    assert response.status_code == 401
