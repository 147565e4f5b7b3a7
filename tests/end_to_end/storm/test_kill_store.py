"""kill -9 of `vdr store backup` at random moments: every earlier point stays whole, and the rerun adds only
what was missing."""

import json
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from vdrd.model.errors import ExitCode

VDR = Path(sys.executable).with_name("vdr")
Vdr = Callable[..., subprocess.CompletedProcess[str]]

MEBIBYTES = 96
SLACK_BYTES = 3 << 20
"""What an interrupted run may cost in space: a record cut short, headers and tables of one more pack a
worker, an index segment."""


def occupied_bytes(storage: Path) -> int:
    return sum(path.stat().st_size for path in storage.joinpath("packs").rglob("*") if path.is_file())


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    path.write_bytes(random.Random(7).randbytes(MEBIBYTES << 20))
    return path


def change_half(disk: Path, seed: int) -> None:
    """Overwrite every second MiB with noise of `seed`."""
    # Not the seed alone: no change may repeat the disk's first content, which is known already.
    noise = random.Random(f"change {seed}")
    with disk.open("r+b") as file:
        for number in range(0, MEBIBYTES, 2):
            file.seek(number << 20)
            file.write(noise.randbytes(1 << 20))


@pytest.mark.parametrize("kills", [4, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.timeout(1800)
def test_backup_killed_at_random_moments_loses_nothing(
    vdr: Vdr, storage_dir: Path, disk: Path, tmp_path: Path, kills: int
) -> None:
    backup = ["store", "backup", str(storage_dir), "disk", str(disk), "--object", "disk", "--json"]
    assert vdr("store", "init", storage_dir, "--encryption", "none").returncode == ExitCode.DONE
    assert vdr(*backup).returncode == ExitCode.DONE
    change_half(disk, seed=1000)
    began = time.monotonic()
    assert vdr(*backup).returncode == ExitCode.DONE
    usual_seconds = time.monotonic() - began

    moments = random.Random(kills)
    for number in range(kills):
        change_half(disk, seed=number)
        before = json.loads(vdr("store", "points", storage_dir, "--json").stdout)
        before_bytes = occupied_bytes(storage_dir)
        run = subprocess.Popen([VDR, *backup], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        try:
            run.communicate(timeout=moments.uniform(0.1, 1.0) * usual_seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
            run.communicate()

        points = json.loads(vdr("store", "points", storage_dir, "--json").stdout)
        assert points[: len(before)] == before
        verified = vdr("store", "verify", storage_dir, "--read-data")
        assert verified.returncode == ExitCode.DONE, verified.stderr

        assert vdr(*backup).returncode == ExitCode.DONE
        added = occupied_bytes(storage_dir) - before_bytes
        changed = (MEBIBYTES // 2) << 20
        assert changed <= added <= changed + SLACK_BYTES

        restored = tmp_path / "restored.raw"
        assert (
            vdr("store", "restore", storage_dir, "disk@latest", restored, "--overwrite").returncode
            == ExitCode.DONE
        )
        assert restored.read_bytes() == disk.read_bytes()
