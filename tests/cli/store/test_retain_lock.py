"""`vdr store retain` and `vdr store lock` as a user meets them."""

import json
import random
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

Vdr = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def points(vdr: Vdr, storage_dir: Path, tmp_path: Path) -> list[str]:
    """Ids of three points of one object, oldest first."""
    assert vdr("store", "init", storage_dir).returncode == 0
    image = tmp_path / "disk.img"
    ids = []
    for seed in range(3):
        image.write_bytes(random.Random(seed).randbytes(100_000))
        backup = vdr("store", "backup", storage_dir, "disk", image, "--object", "d", "--json")
        ids.append(json.loads(backup.stdout)["id"])
    return ids


def test_retain_tells_what_stays_and_why_and_stops_at_a_lock(
    vdr: Vdr, storage_dir: Path, points: list[str]
) -> None:
    until = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    locked = vdr("store", "lock", storage_dir, points[0], "--until", until, "--json")
    assert locked.returncode == 0, locked.stderr
    end = f"{(datetime.fromisoformat(until) + timedelta(days=1)).date()}T00:00:00Z"
    assert json.loads(locked.stdout)["locked_until"] == end

    rules = ("--object", "d", "--keep-last", "1", "--json")
    dry = vdr("store", "retain", storage_dir, *rules, "--dry-run")
    assert dry.returncode == 0, dry.stderr
    report = json.loads(dry.stdout)
    assert [row["id"] for row in report["kept"]] == [points[2]]
    assert report["kept"][0]["reasons"] == ["newest", "last 1"]
    assert [row["id"] for row in report["removed"]] == [points[1]]
    assert [(row["id"], row["reason"]) for row in report["blocked"]] == [
        (points[0], f"is locked until {end}")
    ]
    listed = json.loads(vdr("store", "points", storage_dir, "--json").stdout)
    assert [row["id"] for row in listed] == points
    assert [row["locked_until"] for row in listed] == [end, None, None]

    assert vdr("store", "retain", storage_dir, *rules).returncode == 0
    assert [row["id"] for row in json.loads(vdr("store", "points", storage_dir, "--json").stdout)] == [
        points[0],
        points[2],
    ]
    refused = vdr("store", "forget", storage_dir, points[0])
    assert refused.returncode == 5
    assert f"is locked until {end}" in refused.stderr
    shorter = vdr("store", "lock", storage_dir, points[0], "--until", f"{until}T00:00:00Z")
    assert shorter.returncode == 5
    assert "never shortened" in shorter.stderr


def test_hold_keeps_a_point_until_it_is_released(vdr: Vdr, storage_dir: Path, points: list[str]) -> None:
    assert "legal hold" in vdr("store", "lock", storage_dir, points[1], "--hold").stdout
    listed = json.loads(vdr("store", "lock", storage_dir, "--json").stdout)
    assert [(row["id"], row["is_held"]) for row in listed["locks"]] == [(points[1], True)]
    refused = vdr("store", "forget", storage_dir, points[1], "--json")
    assert refused.returncode == 5
    assert json.loads(refused.stdout)["error"]["code"] == "point-locked"
    assert vdr("store", "lock", storage_dir, points[1], "--release-hold").returncode == 0
    assert vdr("store", "forget", storage_dir, points[1]).returncode == 0


def test_lock_with_a_value_that_cannot_be_used_changes_nothing(
    vdr: Vdr, storage_dir: Path, points: list[str]
) -> None:
    before = {path.name for path in (storage_dir / "points").iterdir()}
    for arguments in (
        ("--until", "2001-01-01"),
        ("--until", "tomorrow"),
        ("--until", "2999-01-01T00:00:00"),  # of which zone?
        (),
        ("--accept-clock",),  # about the storage, not a point
    ):
        assert vdr("store", "lock", storage_dir, points[0], *arguments).returncode == 2, arguments
    assert {path.name for path in (storage_dir / "points").iterdir()} == before


def test_retain_without_rules_keeps_all_and_refuses_what_is_no_rule(
    vdr: Vdr, storage_dir: Path, points: list[str]
) -> None:
    report = json.loads(vdr("store", "retain", storage_dir, "--object", "d", "--json").stdout)
    assert [row["id"] for row in report["kept"]] == points[::-1]
    assert vdr("store", "retain", storage_dir, "--object", "d", "--keep-last", "0").returncode == 2
    assert vdr("store", "retain", storage_dir, "--object", "none", "--keep-last", "1").returncode == 4
