"""Lists of every page are read from an index: their cost does not grow with the table."""

import sqlite3

import pytest

from schemas.api import ObjectKind, PointList, RunList, RunState
from vdrd.catalog import points, runs, settings
from vdrd.catalog.database import Catalog

_TENANT = settings.TENANT_DEFAULT


@pytest.mark.parametrize(
    ("work", "request_"),
    [
        (runs.list_page, RunList()),
        (runs.list_page, RunList(job_id="j")),
        (runs.list_page, RunList(host_id="h")),
        (runs.list_page, RunList(storage_id="s")),
        (runs.list_page, RunList(states=[RunState.FAILED])),
        (runs.list_page, RunList(states=[RunState.RUNNING])),
        (points.list_page, PointList()),
        (points.list_page, PointList(host_id="h")),
        (points.list_page, PointList(job_id="j")),
        (points.list_page, PointList(object_name="o")),
        (points.list_page, PointList(kind=ObjectKind.DISK)),
    ],
    ids=lambda value: getattr(value, "__name__", None) or repr(value)[:60],
)
def test_page_is_read_in_order_from_an_index(catalog: Catalog, work: object, request_: object) -> None:
    plans: list[str] = []

    def explain(connection: sqlite3.Connection) -> None:
        said: list[str] = []
        connection.set_trace_callback(said.append)
        try:
            work(connection, _TENANT, request_)  # type: ignore[operator]
        finally:
            connection.set_trace_callback(None)
        for statement in said:
            rows = connection.execute(f"EXPLAIN QUERY PLAN {statement}").fetchall()
            plans.extend(row["detail"] for row in rows)

    catalog.write_now(explain)
    assert plans
    for line in plans:
        assert "TEMP B-TREE" not in line, plans
        assert not line.startswith(("SCAN runs", "SCAN points")) or "USING INDEX" in line, plans
