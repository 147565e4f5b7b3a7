"""Restoring disks: holes stay holes, refusals change nothing, damage is never written as data."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from vdrd.disk.backup import backup_disk
from vdrd.disk.restore import restore_disk
from vdrd.model.errors import Cancelled, Damaged, StorageFull, TargetRefused
from vdrd.model.points import DiskRoot
from vdrd.model.progress import Cancel, Progress
from vdrd.model.reports import RestoreReport
from vdrd.store import Storage


@pytest.fixture
def image(disk_image: Callable[..., Path]) -> Path:
    return disk_image(24)


@pytest.fixture
def root(storage: Storage, image: Path) -> DiskRoot:
    with storage.session() as session:
        draft = backup_disk(image, session, object_name="x", progress=lambda _: None, cancel=Cancel())
        session.commit(draft)
    assert isinstance(draft.root, DiskRoot)
    return draft.root


def restore(root: DiskRoot, storage: Storage, target: Path, *, overwrite: bool = False) -> RestoreReport:
    return restore_disk(
        root, storage.reader, target, overwrite=overwrite, progress=lambda _: None, cancel=Cancel()
    )


def test_restored_file_is_identical_and_as_sparse(
    storage: Storage, root: DiskRoot, image: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.raw"
    report = restore(root, storage, target)
    assert target.read_bytes() == image.read_bytes()
    assert report.logical_bytes == 24 << 20
    assert report.written_bytes == 12 << 20
    assert target.stat().st_blocks * 512 <= (12 << 20) + 65536
    assert not list(tmp_path.glob("*.partial"))


@pytest.mark.parametrize("says_at_once", [True, False], ids=["told at once", "told by the first write"])
def test_disk_is_restored_where_nothing_can_be_written_past_the_page_cache(
    storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says_at_once: bool
) -> None:
    image, target = tmp_path / "odd.raw", tmp_path / "out.raw"
    image.write_bytes(bytes(70_000) + os.urandom(300_001))
    with storage.session() as session:
        draft = backup_disk(image, session, object_name="x", progress=lambda _: None, cancel=Cancel())
        session.commit(draft)
    assert isinstance(draft.root, DiskRoot)
    control, write, refused = fcntl.fcntl, os.pwrite, []

    def refuse() -> NoReturn:
        refused.append(True)
        raise OSError(errno.EINVAL, "Invalid argument")

    def refusing_control(fd: int, command: int, value: int = 0) -> int:
        is_wanted = command == fcntl.F_SETFL and value & os.O_DIRECT
        return refuse() if is_wanted else control(fd, command, value)

    def refusing_write(fd: int, data: memoryview, offset: int) -> int:
        is_direct = control(fd, fcntl.F_GETFL) & os.O_DIRECT
        return refuse() if is_direct else write(fd, data, offset)

    if says_at_once:
        monkeypatch.setattr(fcntl, "fcntl", refusing_control)
    else:
        monkeypatch.setattr(os, "pwrite", refusing_write)
    restore(draft.root, storage, target)
    assert refused
    assert target.read_bytes() == image.read_bytes()


def test_existing_target_is_refused_and_left_alone(storage: Storage, root: DiskRoot, tmp_path: Path) -> None:
    target = tmp_path / "out.raw"
    target.write_text("precious")
    with pytest.raises(TargetRefused, match="exists"):
        restore(root, storage, target)
    assert target.read_text() == "precious"


def test_existing_target_is_replaced_with_overwrite(
    storage: Storage, root: DiskRoot, image: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out.raw"
    target.write_bytes(b"x" * (30 << 20))
    restore(root, storage, target, overwrite=True)
    assert target.read_bytes() == image.read_bytes()


def test_target_that_cannot_be_a_disk_is_refused(storage: Storage, root: DiskRoot, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "fifo", tmp_path / "no" / "such" / "out.raw"):
        with pytest.raises(TargetRefused):
            restore(root, storage, target)


def test_device_gets_zeros_where_the_point_has_them(
    storage: Storage, root: DiskRoot, image: Path, tmp_path: Path, loop_device: Callable[[Path], Path]
) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xff" * (26 << 20))
    device = loop_device(backing)
    with pytest.raises(TargetRefused, match="not blank"):
        restore(root, storage, device)
    assert backing.read_bytes() == b"\xff" * (26 << 20)
    restore(root, storage, device, overwrite=True)
    os.sync()
    with device.open("rb") as file:
        assert file.read(24 << 20) == image.read_bytes()
        assert file.read() == b"\xff" * (2 << 20)


def test_device_that_is_too_small_is_refused_and_left_alone(
    storage: Storage, root: DiskRoot, tmp_path: Path, loop_device: Callable[[Path], Path]
) -> None:
    backing = tmp_path / "backing"
    backing.write_bytes(b"\xff" * (8 << 20))
    with pytest.raises(TargetRefused, match=f"{8 << 20} bytes, the point {24 << 20}"):
        restore(root, storage, loop_device(backing))
    assert backing.read_bytes() == b"\xff" * (8 << 20)


def test_damaged_chunk_leaves_no_file(storage: Storage, root: DiskRoot, tmp_path: Path) -> None:
    pack = next(storage.path.glob("packs/*/*.pack"))
    data = bytearray(pack.read_bytes())
    data[len(data) // 2] ^= 1
    pack.write_bytes(data)
    with pytest.raises(Damaged, match="chunk"):
        restore(root, storage, tmp_path / "out.raw")
    assert not list(tmp_path.glob("out*"))


def test_full_target_leaves_no_file(
    storage: Storage, root: DiskRoot, tiny_filesystem: Callable[[int], Path]
) -> None:
    tiny = tiny_filesystem(4)
    with pytest.raises(StorageFull, match=str(tiny)):
        restore(root, storage, tiny / "out.raw")
    assert list(tiny.iterdir()) == []


def test_cancelled_restore_leaves_the_old_file(storage: Storage, root: DiskRoot, tmp_path: Path) -> None:
    target = tmp_path / "out.raw"
    target.write_text("old")
    cancel = Cancel()

    def report(_: Progress) -> None:
        cancel.request()

    with pytest.raises(Cancelled):
        restore_disk(root, storage.reader, target, overwrite=True, progress=report, cancel=cancel)
    assert target.read_text() == "old"
    assert not list(tmp_path.glob("*.partial"))


def test_file_of_the_user_beside_the_target_is_left_alone(
    storage: Storage, root: DiskRoot, image: Path, tmp_path: Path
) -> None:
    beside = tmp_path / "out.raw.partial"
    beside.write_text("precious")
    restore(root, storage, tmp_path / "out.raw")
    assert beside.read_text() == "precious"
    assert (tmp_path / "out.raw").read_bytes() == image.read_bytes()


def test_two_restores_to_one_target_at_once_leave_one_of_them_whole(
    storage: Storage, root: DiskRoot, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(b"another disk" * 1000)
    with storage.session() as session:
        draft = backup_disk(other, session, object_name="o", progress=lambda _: None, cancel=Cancel())
        session.commit(draft)
    target = tmp_path / "out.raw"
    begun = False

    def restore_other(_: Progress) -> None:
        nonlocal begun
        if not begun:
            begun = True
            assert isinstance(draft.root, DiskRoot)
            restore(draft.root, storage, target)

    restore_disk(root, storage.reader, target, overwrite=True, progress=restore_other, cancel=Cancel())
    assert begun
    assert target.read_bytes() == image.read_bytes()


def test_target_with_the_longest_name_is_restored(
    storage: Storage, root: DiskRoot, image: Path, tmp_path: Path
) -> None:
    target = tmp_path / ("n" * 255)
    restore(root, storage, target)
    assert target.read_bytes() == image.read_bytes()
