from datetime import UTC, datetime, timedelta

import pytest

from schemas.api import BackupType, JobOptions, ObjectKind, PointInfo
from vdrd.server.retention import expired

NOW = datetime(2026, 6, 1, tzinfo=UTC)


def point(age_days: int) -> PointInfo:
    return PointInfo(
        id=f"{age_days}",
        time=NOW - timedelta(days=age_days),
        object_name="o",
        kind=ObjectKind.FILES,
        backup_type=BackupType.INCREMENTAL,
        source="/",
        host_id=None,
        host_name="h",
        storage_id="s",
        storage_name="s",
        job_id=None,
        run_id=None,
        parent_id=None,
        logical_bytes=0,
        new_bytes=0,
        stored_bytes=0,
        duration_seconds=0,
        warning_count=0,
    )


@pytest.mark.parametrize(
    ("options", "gone"),
    [
        (JobOptions(), []),
        (JobOptions(keep_last=2), ["20", "30"]),
        (JobOptions(keep_days=15), ["20", "30"]),
        (JobOptions(keep_last=3, keep_days=5), ["30"]),
        (JobOptions(keep_last=1, keep_days=25), ["30"]),
        (JobOptions(keep_last=10), []),
    ],
    ids=["none", "count", "days", "count-keeps-more", "days-keep-more", "fewer-than-count"],
)
def test_expired_are_those_that_neither_limit_wants(options: JobOptions, gone: list[str]) -> None:
    assert expired([point(age) for age in (0, 10, 20, 30)], options, NOW) == gone


def test_expired_never_names_the_newest_however_old() -> None:
    assert expired([point(400), point(500)], JobOptions(keep_days=1), NOW) == ["500"]
