"""The model of a disk that loses power, and the recorder it reads: tried on calls whose outcome is known."""

import errno
import os
import random
from pathlib import Path

import pytest

from tests.crash.disk import CrashDisk, Kind
from tests.crash.replay import BYTES_FIRST, CUT, KILLED, MIXED, NAMES_FIRST, Loss, Replay


def left(disk: CrashDisk, loss: Loss, target: Path, seed: int = 0) -> dict[str, bytes]:
    """What the disk holds after power was lost now: content by path."""
    replay = Replay(disk.calls())
    replay.advance(len(disk.calls()))
    replay.crash(loss, random.Random(seed), target)
    return {str(one.relative_to(target)): one.read_bytes() for one in target.rglob("*") if one.is_file()}


def write(path: Path, data: bytes, *, sync: bool = False) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        if sync:
            os.fsync(file.fileno())


def sync_folder(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(fd)
    os.close(fd)


def test_synced_file_in_an_unsynced_folder_may_be_gone(crash_disk: CrashDisk, tmp_path: Path) -> None:
    write(crash_disk.path / "file", b"content", sync=True)
    assert left(crash_disk, CUT, tmp_path / "cut") == {}
    assert left(crash_disk, NAMES_FIRST, tmp_path / "names") == {"file": b"content"}
    sync_folder(crash_disk.path)
    assert left(crash_disk, CUT, tmp_path / "after") == {"file": b"content"}


def test_unsynced_bytes_are_zeros_torn_or_gone(crash_disk: CrashDisk, tmp_path: Path) -> None:
    write(crash_disk.path / "file", b"")
    sync_folder(crash_disk.path)
    write(crash_disk.path / "file", b"x" * 2048)
    assert left(crash_disk, CUT, tmp_path / "cut") == {"file": b""}
    assert left(crash_disk, NAMES_FIRST, tmp_path / "names") == {"file": bytes(2048)}
    assert left(crash_disk, BYTES_FIRST, tmp_path / "bytes") == {"file": b"x" * 2048}
    torn = {left(crash_disk, MIXED, tmp_path / "torn", seed)["file"] for seed in range(200)}
    assert b"x" * 512 + bytes(512) + b"x" * 1024 in torn
    assert b"x" * 512 in torn


def test_rename_over_a_file_leaves_the_old_or_the_new(crash_disk: CrashDisk, tmp_path: Path) -> None:
    write(crash_disk.path / "file", b"old", sync=True)
    sync_folder(crash_disk.path)
    write(crash_disk.path / "next", b"new", sync=True)
    (crash_disk.path / "next").rename(crash_disk.path / "file")
    assert left(crash_disk, CUT, tmp_path / "cut") == {"file": b"old"}
    assert left(crash_disk, KILLED, tmp_path / "killed") == {"file": b"new"}
    seen = [left(crash_disk, MIXED, tmp_path / "mixed", seed) for seed in range(50)]
    assert {one["file"] for one in seen} == {b"old", b"new"}
    assert {"file": b"old", "next": b"new"} in seen


def test_removed_file_may_come_back_until_the_folder_is_synced(crash_disk: CrashDisk, tmp_path: Path) -> None:
    write(crash_disk.path / "file", b"content", sync=True)
    sync_folder(crash_disk.path)
    (crash_disk.path / "file").unlink()
    assert left(crash_disk, CUT, tmp_path / "cut") == {"file": b"content"}
    sync_folder(crash_disk.path)
    assert left(crash_disk, CUT, tmp_path / "after") == {}


def test_sync_after_one_that_failed_promises_nothing_older(crash_disk: CrashDisk, tmp_path: Path) -> None:
    write(crash_disk.path / "file", b"", sync=True)
    sync_folder(crash_disk.path)
    crash_disk.fail("s", 1, errno.EIO, "once")
    with (crash_disk.path / "file").open("wb", buffering=0) as file:
        file.write(b"a" * 512)
        with pytest.raises(OSError, match="Input/output"):
            os.fsync(file.fileno())
        file.write(b"b" * 512)
        os.fsync(file.fileno())
    assert left(crash_disk, CUT, tmp_path / "cut") == {"file": bytes(512) + b"b" * 512}


@pytest.mark.parametrize(("mode", "written"), [("on", 2000), ("half", 2500)])
def test_full_disk_refuses_the_nth_write_and_all_after_it(
    crash_disk: CrashDisk, mode: str, written: int
) -> None:
    with (crash_disk.path / "file").open("wb", buffering=0) as file:
        crash_disk.fail(crash_disk.WRITES, 3, mode=mode)
        assert [file.write(bytes(1000)) for _ in range(2)] == [1000, 1000]
        if mode == "half":
            assert file.write(bytes(1000)) == 500
        for _ in range(2):
            with pytest.raises(OSError, match="No space"):
                file.write(bytes(1000))
        assert crash_disk.path.joinpath("file").stat().st_size == written
        crash_disk.heal()
        file.write(b"again")
    assert [call.kind for call in crash_disk.calls()][:2] == [Kind.CREATE, Kind.WRITE]
