"""The live feed: nothing is lost between page and feed, storms cost little, a lost server is said."""

import asyncio
import json
from typing import Any

from console.pages import live
from schemas import api
from tests.console.conftest import World


def events_of(world: World, work: Any, wanted: int, run_id: str | None = None) -> list[tuple[str, Any]]:
    """The first events of a feed, while `work` changes things after each."""

    async def listen() -> list[tuple[str, Any]]:
        token = next(iter(world.server.sessions))
        got: list[tuple[str, Any]] = []
        async with asyncio.timeout(20):
            feed = live._events(world.parts, token, "192.0.2.1", run_id)
            async for part in feed:
                text = part.decode()
                if text.startswith("event:"):
                    name, data = text.strip().split("\n")
                    got.append((name.removeprefix("event: "), json.loads(data.removeprefix("data: "))))
                    if len(got) >= wanted:
                        break
                    work(len(got))
            await feed.aclose()
        return got

    return world.run(listen())


def test_feed_begins_with_a_look_at_everything(inside: World) -> None:
    (first,) = events_of(inside, lambda n: None, 1)
    assert first == ("change", {"topics": ["all"], "ids": []})


def test_storm_of_changes_is_one_event(inside: World) -> None:
    run = next(iter(inside.server.runs))

    def storm(_: int) -> None:
        for done in range(50):
            inside.server.change_run(run, progress=api.RunProgress(done_bytes=done))

    assert events_of(inside, storm, 2)[1] == ("change", {"topics": ["run-progress"], "ids": [run]})


def test_feed_of_one_run_hears_nothing_of_others(inside: World) -> None:
    mine, other = list(inside.server.runs)[:2]

    def change(_: int) -> None:
        inside.server.change_run(other, warning_count=1)
        inside.server.change_run(mine, warning_count=2)

    assert events_of(inside, change, 2, mine)[1][1]["ids"] == [mine]


def test_feed_says_when_the_server_is_away_and_looks_again_when_it_is_back(
    inside: World, monkeypatch: Any
) -> None:
    monkeypatch.setattr(live, "_AGAIN_SECONDS", 0.01)

    def away(count: int) -> None:
        inside.server.is_reachable = count != 1
        inside.server.happen("job", "x")

    got = events_of(inside, away, 3)
    assert [name for name, _ in got] == ["change", "lost", "change"]
    assert got[1][1] == {"code": "unreachable"}
    assert got[2][1]["topics"] == ["all"]


def test_feed_ends_with_the_session(inside: World) -> None:
    def out(_: int) -> None:
        inside.server.sessions.clear()

    assert events_of(inside, out, 2)[1] == ("ended", {})


def test_feed_without_session_is_refused(world: World) -> None:
    assert world.get("/live").status_code == 401
