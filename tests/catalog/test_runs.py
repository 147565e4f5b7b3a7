import itertools

import pytest

from schemas.api import LogLevel, RunKind, RunList, RunLog, RunProgress, RunState
from schemas.control import LoggedLine, RunSpec
from vdrd.catalog import runs, settings
from vdrd.catalog.database import Catalog
from vdrd.catalog.times import from_ms
from vdrd.model.errors import BadArgument, NotFound


def queue(catalog: Catalog, run_id: str, now_ms: int = 1000) -> None:
    spec = RunSpec(
        run_id=run_id, attempt=1, kind=RunKind.BACKUP_FILES, storage_id="s", host_id="h", host_name="h"
    )
    catalog.write_now(
        runs.create,
        spec=spec,
        tenant_id=settings.TENANT_DEFAULT,
        batch_id="b",
        job_name="j",
        storage_name="s",
        attempts_max=3,
        retry_seconds=30,
        created_by="admin",
        now_ms=now_ms,
    )


def put_in(catalog: Catalog, run_id: str, state: RunState) -> None:
    queue(catalog, run_id)
    catalog.write_now(
        lambda connection: connection.execute("UPDATE runs SET state = ? WHERE run_id = ?", [state, run_id])
    )


def test_log_line_without_measure_is_cut_and_a_page_of_long_ones_fits_into_a_message(
    catalog: Catalog,
) -> None:
    queue(catalog, "r")
    lines = [LoggedLine(time=from_ms(1), level=LogLevel.INFO, text="\u00e9" * 100_000) for _ in range(100)]
    catalog.write_now(runs.add_log, "r", 1, lines)
    seen: list[int] = []
    is_all = False
    while not is_all:
        request = RunLog(id="r", after_sequence=seen[-1] if seen else 0, limit=200)
        page, is_all = catalog.write_now(runs.log, request)
        assert {len(line.text) for line in page} == {8192}
        assert sum(len(line.text.encode()) for line in page) < 300_000
        seen += [line.sequence for line in page]
    assert seen == list(range(1, 101))


@pytest.mark.parametrize(
    ("old", "new"), list(itertools.product(RunState, RunState)), ids=lambda state: str(state.value)
)
def test_move_follows_the_table_and_nothing_else(catalog: Catalog, old: RunState, new: RunState) -> None:
    put_in(catalog, "r", old)
    moved = catalog.write_now(runs.move, "r", new, now_ms=2000)
    assert moved == (new in runs.MOVES[old])
    after = catalog.write_now(runs.get, "r")
    assert after.state is (new if moved else old)
    assert (after.ended_at is not None) == (moved and new.is_final)


def test_move_of_an_older_attempt_changes_nothing(catalog: Catalog) -> None:
    queue(catalog, "r")
    catalog.write_now(runs.move, "r", RunState.PREPARING, now_ms=1, attempt=1)
    assert catalog.write_now(runs.requeue, "r", attempt=1, not_before_ms=5000, error_code="x", error="y")
    catalog.write_now(runs.move, "r", RunState.PREPARING, now_ms=1, attempt=2)
    catalog.write_now(runs.move, "r", RunState.RUNNING, now_ms=1, attempt=2)
    assert not catalog.write_now(runs.move, "r", RunState.DONE, now_ms=1, attempt=1)
    assert not catalog.write_now(runs.requeue, "r", attempt=1, not_before_ms=5000, error_code="x", error="y")
    assert catalog.write_now(runs.get, "r").state is RunState.RUNNING
    assert catalog.write_now(runs.spec, "r").attempt == 2


def test_list_pages_are_complete_without_repeats_while_runs_are_added(catalog: Catalog) -> None:
    for number in range(25):
        queue(catalog, f"r{number}")
    seen: list[str] = []
    cursor = None
    while True:
        items, cursor = catalog.write_now(
            runs.list_page, settings.TENANT_DEFAULT, RunList(limit=10, cursor=cursor)
        )
        seen += [run.id for run in items]
        queue(catalog, f"later{len(seen)}")
        if cursor is None:
            break
    assert seen == [f"r{number}" for number in reversed(range(25))]


def test_list_of_another_tenant_is_empty(catalog: Catalog) -> None:
    queue(catalog, "r")
    assert catalog.write_now(runs.list_page, "other", RunList()) == ([], None)


@pytest.mark.parametrize("cursor", ["", "!", "W10", "eyJhIjoxfQ", "x" * 5000], ids=range(5))
def test_list_with_a_strange_cursor_is_refused(catalog: Catalog, cursor: str) -> None:
    with pytest.raises(BadArgument, match="cursor"):
        catalog.write_now(runs.list_page, settings.TENANT_DEFAULT, RunList(cursor=cursor))


def test_log_is_numbered_filtered_and_paged(catalog: Catalog) -> None:
    queue(catalog, "r")
    levels = [LogLevel.INFO, LogLevel.WARNING, LogLevel.ERROR]
    for number in range(9):
        line = LoggedLine(time=from_ms(number), level=levels[number % 3], text=f"line {number}")
        catalog.write_now(runs.add_log, "r", 1, [line])
    lines, complete = catalog.write_now(runs.log, RunLog(id="r", limit=4))
    assert [line.sequence for line in lines] == [1, 2, 3, 4]
    assert not complete
    lines, complete = catalog.write_now(runs.log, RunLog(id="r", after_sequence=4, level=LogLevel.WARNING))
    assert [line.text for line in lines] == ["line 4", "line 5", "line 7", "line 8"]
    assert complete
    with pytest.raises(NotFound):
        catalog.write_now(runs.log, RunLog(id="nobody"))


def test_progress_of_an_ended_run_is_not_overwritten(catalog: Catalog) -> None:
    put_in(catalog, "r", RunState.RUNNING)
    catalog.write_now(runs.move, "r", RunState.DONE, now_ms=1, progress=RunProgress(done_bytes=10))
    catalog.write_now(runs.put_progress, {"r": RunProgress(done_bytes=3)})
    assert catalog.write_now(runs.get, "r").progress.done_bytes == 10
