"""kill -9 of agent, node and server in the middle of backups: no run hangs, no earlier point suffers, nothing
is sent twice."""

import random
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.storm.changing_disk import CHANGED_BYTES, change_half, make_disk, occupied_bytes
from vdrd.model.errors import ExitCode

Vdr = Callable[..., subprocess.CompletedProcess[str]]

SLACK_BYTES = 4 << 20
"""Records cut short, headers and tables of the packs of more than one attempt."""


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.parametrize("part", ["agent", "node", "server"])
@pytest.mark.timeout(3600)
def test_backup_survives_the_death_of(part: str, kills: int, suite: Any, vdr: Vdr, tmp_path: Path) -> None:
    disk = tmp_path / "disk.raw"
    make_disk(disk)
    job = suite.make_job("storm", "disk", disk, retry_count=3, retry_delay_seconds=1)
    assert suite.wait_run(suite.start_run(job, "full"))["state"] == "done", suite.words()
    change_half(disk, seed=1000)
    began = time.monotonic()
    assert suite.wait_run(suite.start_run(job))["state"] == "done", suite.words()
    usual_seconds = time.monotonic() - began
    key = ["--key-file", str(suite.key_file())]

    moments = random.Random(kills)
    for number in range(kills):
        change_half(disk, seed=number)
        before, before_bytes = suite.points(), occupied_bytes(suite.storage)
        run_id = suite.start_run(job)
        time.sleep(moments.uniform(0.0, 1.0) * usual_seconds)
        suite.kill(part)

        suite.wait_online()
        run = suite.wait_run(run_id)
        if run["state"] != "done":
            assert run["error"], run
            run = suite.wait_run(suite.start_run(job))
        assert run["state"] == "done", suite.words()

        assert suite.points()[: len(before)] == before
        added_bytes = occupied_bytes(suite.storage) - before_bytes
        assert CHANGED_BYTES <= added_bytes <= CHANGED_BYTES + SLACK_BYTES
        restored = tmp_path / "restored.raw"
        newest = suite.points()[-1]
        done = vdr("store", "restore", suite.storage, newest, restored, "--overwrite", *key)
        assert done.returncode == ExitCode.DONE, done.stderr
        assert restored.read_bytes() == disk.read_bytes()
    verified = vdr("store", "verify", suite.storage, "--read-data", *key)
    assert verified.returncode == ExitCode.DONE, verified.stderr
