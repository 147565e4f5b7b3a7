"""kill -9 of `vdr store` at random moments: of a backup, after which every earlier point stays whole and the
rerun adds only what was missing; of retention, of a rotation of the key and of a collection, after which
nothing that was to stay is gone and the rerun ends the work."""

import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end.storm.changing_disk import CHANGED_BYTES, change_half, make_disk, occupied_bytes
from vdrd.model.errors import ExitCode

VDR = Path(sys.executable).with_name("vdr")
Vdr = Callable[..., subprocess.CompletedProcess[str]]

SLACK_BYTES = 3 << 20
"""What an interrupted run may cost in space: a record cut short, headers and tables of one more pack a
worker, an index segment."""
KEPT = 3
"""Points that retention leaves: a storage that grows through the whole storm takes ever longer to verify."""


class Storm:
    """A storage, its disk, and a hand that kills."""

    def __init__(self, vdr: Vdr, storage: Path, disk: Path, key_file: Path, seed: int) -> None:
        self._vdr = vdr
        self.storage = storage
        self.disk = disk
        self._key = ["--key-file", str(key_file)]
        self._moments = random.Random(seed)
        self._usual_seconds: dict[str, float] = {}

    def words(self, command: str, *words: object) -> list[str]:
        return ["store", *command.split(), str(self.storage), *map(str, words), *self._key]

    def run(self, command: str, *words: object) -> str:
        """One run to its end; its answer."""
        began = time.monotonic()
        done = self._vdr(*self.words(command, *words))
        assert done.returncode == ExitCode.DONE, done.stderr
        self._usual_seconds[command] = time.monotonic() - began
        return done.stdout

    def kill(self, command: str, *words: object) -> None:
        """One run, killed at a moment before its usual end. It may have ended before."""
        run = subprocess.Popen(
            [VDR, *self.words(command, *words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            run.communicate(timeout=self._moments.uniform(0.1, 1.0) * self._usual_seconds[command])
        except subprocess.TimeoutExpired:
            run.kill()
            run.communicate()

    def points(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.run("points", "--json"))
        return found

    def check(self) -> None:
        """Everything stored is as it was written."""
        self.run("verify", "--read-data")

    def back_up(self) -> None:
        self.run("backup", "disk", self.disk, "--object", "disk")

    def assert_restores(self, target: Path) -> None:
        self.run("restore", "disk@latest", target, "--overwrite")
        assert target.read_bytes() == self.disk.read_bytes()


@pytest.fixture
def storm(vdr: Vdr, storage_dir: Path, tmp_path: Path) -> Storm:
    disk, key_file = tmp_path / "disk.raw", tmp_path / "key"
    make_disk(disk)
    key_file.write_bytes(bytes(range(32)))
    made = Storm(vdr, storage_dir, disk, key_file, 50)
    made.run("init")
    return made


def upkeep_under_fire(storm: Storm) -> None:
    """Each kind of upkeep is killed and then run to its end."""
    before = storm.points()
    for command, words in (
        ("retain", ("--object", "disk", "--keep-last", KEPT)),
        ("key rotate", ()),
        ("collect", ()),
    ):
        storm.kill(command, *words)
        storm.check()
        assert storm.points()[-KEPT:] == before[-KEPT:]
        storm.run(command, *words)
    assert storm.points() == before[-KEPT:]
    storm.check()


@pytest.mark.parametrize("kills", [3, pytest.param(50, marks=pytest.mark.long)])
@pytest.mark.timeout(3600)
def test_work_killed_at_random_moments_loses_nothing(storm: Storm, tmp_path: Path, kills: int) -> None:
    storm.back_up()
    for command, words in (
        ("retain", ("--object", "disk", "--keep-last", 1)),
        ("key rotate", ()),
        ("collect", ()),
    ):
        storm.run(command, *words)
    for number in range(kills):
        change_half(storm.disk, seed=number)
        before, before_bytes = storm.points(), occupied_bytes(storm.storage)
        storm.kill("backup", "disk", storm.disk, "--object", "disk")
        assert storm.points()[: len(before)] == before
        storm.check()

        storm.back_up()
        added_bytes = occupied_bytes(storm.storage) - before_bytes
        assert CHANGED_BYTES <= added_bytes <= CHANGED_BYTES + SLACK_BYTES
        storm.assert_restores(tmp_path / "restored.raw")
        if number % 5 == 2:
            upkeep_under_fire(storm)
    storm.run("forget", *(point["id"] for point in storm.points()))
    storm.run("collect")
    assert occupied_bytes(storm.storage) == 0
