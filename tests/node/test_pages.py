from datetime import UTC, datetime

import msgspec
import pytest

from schemas.api.words import BackupType, ObjectKind
from schemas.control import PointRecord
from schemas.link import CONTROL_BYTES_MAX
from vdrd.node.pages import POINTS_PER_MESSAGE, pages_of


def record(number: int, name: str) -> PointRecord:
    return PointRecord(
        point_id=f"{number:032x}",
        time=datetime.now(UTC),
        started_at=datetime.now(UTC),
        object_name=name,
        kind=ObjectKind.FILES,
        backup_type=BackupType.FULL,
        source="/",
        host_name="web1",
        parent_id=None,
        logical_bytes=0,
        new_bytes=0,
        stored_bytes=0,
        warning_count=0,
        labels={},
    )


@pytest.mark.parametrize(("name", "count"), [("x", 1201), ("\u00e9" * 20_000, 60)], ids=["many", "long"])
def test_pages_hold_every_point_once_in_order_and_each_fits_into_a_message(name: str, count: int) -> None:
    records = [record(number, name) for number in range(count)]
    pages = pages_of(records)
    assert [one for page in pages for one in page] == records
    assert len(pages) > 2
    for page in pages:
        assert len(page) <= POINTS_PER_MESSAGE
        assert len(msgspec.msgpack.encode(page)) < CONTROL_BYTES_MAX


def test_no_points_are_one_empty_page_and_a_giant_is_left_out(caplog: pytest.LogCaptureFixture) -> None:
    assert pages_of([]) == [[]]
    small = record(1, "x")
    assert pages_of([record(2, "x" * CONTROL_BYTES_MAX), small]) == [[small]]
    assert f"point={2:032x}" in caplog.text
