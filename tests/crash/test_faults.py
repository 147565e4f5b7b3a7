"""A storage's disk that is full, or breaks, at each step of each operation in turn: a clear refusal, nothing
lost, and the next run works."""

import errno
import random
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.crash.disk import CrashDisk
from tests.crash.replay import CUT, Replay
from tests.vdrd.store.conftest import KEY, image_bytes
from vdrd.cli.main import main
from vdrd.model.errors import ExitCode
from vdrd.store import Storage

STEPS_MAX = 60

Fault = tuple[str, int, str]
FULL: Fault = (CrashDisk.WRITES, errno.ENOSPC, "on")
FULL_HALF_WAY: Fault = (CrashDisk.WRITES, errno.ENOSPC, "half")
FAILED_WRITE: Fault = ("w", errno.EIO, "once")
FAILED_SYNC: Fault = ("sd", errno.EIO, "once")
FAILED_NAME: Fault = ("cru", errno.EIO, "once")
FAULTS = {
    "full": FULL,
    "full-half-way": FULL_HALF_WAY,
    "write": FAILED_WRITE,
    "sync": FAILED_SYNC,
    "name": FAILED_NAME,
}


class Bench:
    """A storage on a disk that fails on request, and what is worth backing up."""

    def __init__(self, disk: CrashDisk, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.disk = disk
        self.path = disk.path / "storage"
        self.image = folder / "disk.raw"
        self.tree = folder / "tree"
        self.tree.mkdir()
        self._capsys = capsys
        self._key_file = folder / "key"
        self._key_file.write_bytes(KEY.reveal())
        assert self.vdr("init") == (ExitCode.DONE, "")

    def vdr(self, command: str, *words: object) -> tuple[int, str]:
        """The program's exit code, and what it said last."""
        arguments = ["store", command, str(self.path), *map(str, words), "--key-file", str(self._key_file)]
        status = main(arguments)
        said = self._capsys.readouterr().err.strip().splitlines()
        return status, said[-1] if status else ""

    def change(self, number: int) -> None:
        """New content, partly as before."""
        self.image.write_bytes(image_bytes(number, 150_000) + image_bytes(-1, 150_000))
        for file in range(6):
            content = random.Random(f"{number} {file}" if file % 2 else file).randbytes(5000)
            self.tree.joinpath(f"{file}").write_bytes(content)

    def points(self) -> set[str]:
        """All there are, after all of them were found to be good."""
        with Storage.open(self.disk.backing / "storage", key=KEY) as storage:
            assert storage.verify(read_data=True).damages == []
            return {point.point_id for point in storage.points()}


@pytest.fixture
def bench(crash_disk: CrashDisk, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Bench]:
    on_terminate = signal.getsignal(signal.SIGTERM)  # `main` takes it
    yield Bench(crash_disk, tmp_path, capsys)
    signal.signal(signal.SIGTERM, on_terminate)


Words = tuple[object, ...]
Operation = Callable[[Bench, int], Words]
"""Prepares what is to be done for the `number`th time, and says it."""


def back_up(bench: Bench, number: int) -> Words:
    bench.change(number)
    return "backup", "disk", bench.image, "--object", "disk"


def back_up_files(bench: Bench, number: int) -> Words:
    bench.change(number)
    return "backup", "files", bench.tree, "--object", "tree"


def collect(bench: Bench, number: int) -> Words:
    """A pack that is dead as a whole and one that is so by half."""
    noise = random.Random(number)
    alive, other, dead = (noise.randbytes(count << 16) for count in (1, 3, 2))
    for name, content in (("dead", dead), ("mixed", alive + other), ("alive", alive)):
        bench.image.write_bytes(content)
        assert bench.vdr("backup", "disk", bench.image, "--object", name)[0] == ExitCode.DONE
    assert bench.vdr("forget", "dead@latest", "mixed@latest")[0] == ExitCode.DONE
    return ("collect",)


OPERATIONS = (back_up, back_up_files, collect)


@pytest.mark.parametrize(
    ("operation", "fault", "stride"),
    [
        pytest.param(back_up, "full", 1, id="backup-full"),
        pytest.param(back_up, "sync", 1, id="backup-sync"),
        pytest.param(back_up_files, "full", 4, id="files-full"),
        pytest.param(collect, "full", 5, id="collect-full"),
        pytest.param(collect, "sync", 3, id="collect-sync"),
        *(
            pytest.param(
                operation, fault, 1, id=f"every-{operation.__name__}-{fault}", marks=pytest.mark.long
            )
            for operation in OPERATIONS
            for fault in FAULTS
        ),
    ],
)
def test_operation_on_a_disk_that_fails_at_any_step_loses_nothing_and_works_later(
    bench: Bench,
    operation: Operation,
    fault: str,
    stride: int,
    tiny_filesystem: Callable[[int], Path],
) -> None:
    kinds, number, mode = FAULTS[fault]
    bench.change(0)
    assert bench.vdr("backup", "disk", bench.image, "--object", "kept")[0] == ExitCode.DONE
    refusals = 0
    promised: dict[int, set[str]] = {}
    for nth in range(1, STEPS_MAX, stride):
        words = operation(bench, nth)
        before = bench.points()
        bench.disk.fail(kinds, nth, number, mode)
        status, said = bench.vdr(*words)
        was_hit = bench.disk.failing_count() >= nth
        bench.disk.heal()
        found = bench.points()
        assert before <= found
        promised[len(bench.disk.calls())] = before if status else found
        if not was_hit:
            assert status == ExitCode.DONE
            break
        if status:
            refusals += 1
            assert status == (ExitCode.NO_SPACE if number == errno.ENOSPC else ExitCode.FAILED), said
            assert said.startswith("vdr: ")
            assert str(bench.path) in said
        assert bench.vdr(*words)[0] == ExitCode.DONE
        assert bench.points() >= found
        promised[len(bench.disk.calls())] = bench.points()
    assert not was_hit
    assert refusals > 1
    assert_promises(bench, promised, tiny_filesystem(256))


def assert_promises(bench: Bench, promised: dict[int, set[str]], folder: Path) -> None:
    """Power lost at these moments: a sync that failed made nothing durable, and nothing was built on it."""
    replay = Replay(bench.disk.calls())
    for moment, points in promised.items():
        replay.advance(moment)
        replay.crash(CUT, random.Random(moment), folder)
        with Storage.open(folder / "storage", key=KEY) as storage:
            assert storage.verify(read_data=True).damages == []
            assert points <= {point.point_id for point in storage.points()}


def test_points_can_be_forgotten_and_dead_packs_collected_on_a_disk_that_is_full(bench: Bench) -> None:
    bench.change(1)
    assert bench.vdr("backup", "disk", bench.image, "--object", "gone")[0] == ExitCode.DONE
    bench.disk.fail(CrashDisk.WRITES, 1)
    assert bench.vdr("forget", "gone@latest") == (ExitCode.DONE, "")
    assert bench.points() == set()
    # Its figures cannot be kept; the space is free all the same.
    assert bench.vdr("collect")[0] == ExitCode.NO_SPACE
    assert list(bench.disk.backing.glob("storage/packs/*/*")) == []


def test_points_can_be_forgotten_on_a_full_disk_whose_index_was_lost(bench: Bench) -> None:
    bench.change(1)
    assert bench.vdr("backup", "disk", bench.image, "--object", "gone")[0] == ExitCode.DONE
    for segment in bench.path.glob("index/*"):
        segment.unlink()
    bench.disk.fail(CrashDisk.WRITES, 1)
    assert bench.vdr("forget", "gone@latest") == (ExitCode.DONE, "")
    assert bench.points() == set()
    assert bench.vdr("collect")[0] == ExitCode.NO_SPACE
    bench.disk.heal()
    assert bench.vdr("collect")[0] == ExitCode.DONE
    assert list(bench.disk.backing.glob("storage/packs/*/*")) == []


@pytest.mark.parametrize("kind", ["disk", "files"])
def test_restore_to_a_disk_that_is_full_at_any_step_leaves_nothing_behind(bench: Bench, kind: str) -> None:
    bench.change(1)
    source = bench.image if kind == "disk" else bench.tree
    assert bench.vdr("backup", kind, source, "--object", "x")[0] == ExitCode.DONE
    target = bench.disk.path / "target"
    for nth in range(1, STEPS_MAX):
        bench.disk.fail(CrashDisk.WRITES, nth)
        status, said = bench.vdr("restore", "x@latest", target)
        bench.disk.heal()
        if status == ExitCode.DONE:
            break
        assert status == ExitCode.NO_SPACE, said
        assert str(target) in said
        if kind == "disk":
            assert [one.name for one in bench.disk.path.iterdir()] == ["storage"]
        else:
            shutil.rmtree(target, ignore_errors=True)
    assert nth > 2
    if kind == "disk":
        assert target.read_bytes() == bench.image.read_bytes()


def test_file_whose_disk_is_broken_is_listed_and_the_run_ends_with_a_warning(
    crash_disk: CrashDisk, tmp_path: Path, vdr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    tree, storage = crash_disk.path / "tree", tmp_path / "storage"
    tree.mkdir()
    tree.joinpath("bad").write_bytes(bytes(range(256)) * 1000)
    assert vdr("store", "init", storage, "--encryption", "none").returncode == ExitCode.DONE
    crash_disk.fail("R", 1, errno.EIO)
    done = vdr("store", "backup", storage, "files", tree, "--object", "tree")
    crash_disk.heal()
    assert done.returncode == ExitCode.WARNINGS, done.stderr
    assert "cannot read bad: Input/output error" in done.stderr
    assert vdr("store", "verify", storage, "--read-data").returncode == ExitCode.DONE
