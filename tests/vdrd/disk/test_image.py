import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.disk import Disk
from vdrd.disk.image import ImageDisk
from vdrd.model.errors import SourceUnreadable
from vdrd.model.extents import Extent, ExtentKind

MIB = 1 << 20


@pytest.fixture
def sparse_image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(8 * MIB)
        file.seek(2 * MIB)
        file.write(os.urandom(MIB))
    return path


@pytest.fixture
def loop_device(sparse_image: Path) -> Iterator[Path]:
    name = subprocess.run(
        ["losetup", "--find", "--show", sparse_image], check=True, capture_output=True, text=True
    ).stdout.strip()
    yield Path(name)
    subprocess.run(["losetup", "--detach", name], check=True)


def test_image_sparse_file_extents_follow_holes(sparse_image: Path) -> None:
    with ImageDisk.open(sparse_image) as disk:
        assert list(disk.extents(0, disk.size_bytes)) == [
            Extent(0, 2 * MIB, ExtentKind.HOLE),
            Extent(2 * MIB, MIB, ExtentKind.DATA),
            Extent(3 * MIB, 5 * MIB, ExtentKind.HOLE),
        ]


def test_image_read_into_gives_the_files_bytes(sparse_image: Path) -> None:
    buffer = bytearray(2 * MIB)
    with ImageDisk.open(sparse_image) as disk:
        disk.read_into(MIB + 512, buffer)
    assert buffer == sparse_image.read_bytes()[MIB + 512 : 3 * MIB + 512]


def test_image_block_device_has_its_size_and_is_all_data(loop_device: Path, sparse_image: Path) -> None:
    with ImageDisk.open(loop_device) as disk:
        assert disk.size_bytes == 8 * MIB
        assert list(disk.extents(0, 8 * MIB)) == [Extent(0, 8 * MIB)]
        assert disk.native.read(2 * MIB, 4096) == sparse_image.read_bytes()[2 * MIB : 2 * MIB + 4096]


@pytest.mark.parametrize("offset_bytes", [0, 100])
def test_image_block_device_zero_reads_as_zero(loop_device: Path, offset_bytes: int) -> None:
    with ImageDisk.open(loop_device, writable=True) as disk:
        disk.zero(2 * MIB + offset_bytes, 65536)
        disk.flush()
        assert disk.native.read(2 * MIB + offset_bytes, 65536) == bytes(65536)
        assert disk.native.read(2 * MIB + offset_bytes + 65536, 512) != bytes(512)


def test_image_read_only_write_is_refused_and_changes_nothing(sparse_image: Path) -> None:
    before = sparse_image.read_bytes()
    with ImageDisk.open(sparse_image) as disk, pytest.raises(OSError, match="Read-only"):
        disk.write(0, b"x")
    assert sparse_image.read_bytes() == before


@pytest.mark.parametrize("kind", ["missing", "directory", "fifo"])
def test_image_open_of_something_else_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "thing"
    if kind == "directory":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    with pytest.raises(SourceUnreadable, match="thing"):
        ImageDisk.open(path)


def test_native_disk_closed_refuses_use_instead_of_crashing() -> None:
    disk = Disk.open_memory(4096)
    disk.close()
    disk.close()
    with pytest.raises(ValueError, match="closed"):
        disk.read(0, 1)
