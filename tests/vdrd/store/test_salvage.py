"""What is written again out of packs that are not whole, and what becomes of a commit while that fails."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from tests.vdrd.store.test_heal import first_chunk, rot
from vdrd.model.errors import StorageFull
from vdrd.model.points import Point
from vdrd.store import Encryption, Storage
from vdrd.store.directory import StorageDirectory


class FullDirectory(StorageDirectory):
    """Has no room for packs from when `is_full`, if the operation is `operation`."""

    is_full = False
    operation = "write"

    @contextmanager
    def step(self, operation: str, name: str) -> Iterator[None]:
        with super().step(operation, name):
            if self.is_full and operation == self.operation and name.endswith(".pack"):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            yield


@pytest.fixture
def encryption() -> Encryption:
    return Encryption.AES_256_GCM


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(image_bytes(7, 1_000_000))
    return path


@pytest.fixture
def point(storage_path: Path, image: Path) -> Point:
    """Its only pack has no trailer, and that is known."""
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        made = back_up(storage, image)
        chunk_id = first_chunk(storage, made)
    rot(storage_path, chunk_id, "trailer")
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert len(storage.verify().damages) == 1
        assert len(storage.damage.framed_packs()) == 1
    return made


@pytest.mark.parametrize("operation", ["write", "sync"])
def test_commit_stands_though_the_disk_is_too_full_to_mend(
    storage_path: Path, point: Point, image: Path, operation: str
) -> None:
    directory = FullDirectory(storage_path)
    directory.operation = operation
    with Storage.open(storage_path, key=KEY, writable=True, directory=directory) as storage:
        directory.is_full = True
        for _ in range(2):  # nothing is new: there is nothing to write but what is mended
            back_up(storage, image)
        assert not storage.damage.mended
        assert disk_bytes(storage, point) == image.read_bytes()
        directory.is_full = False
        last = back_up(storage, image)
        assert storage.damage.mended
        assert disk_bytes(storage, last) == image.read_bytes()
    with Storage.open(storage_path, key=KEY) as storage:
        assert len(storage.points()) == 4


def test_commit_stands_though_a_damaged_pack_is_gone(
    storage_path: Path, point: Point, tmp_path: Path
) -> None:
    other = tmp_path / "other.img"
    other.write_bytes(image_bytes(8, 500_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        (path,) = storage_path.glob("packs/*/*.pack")
        path.unlink()
        assert disk_bytes(storage, back_up(storage, other, "other")) == other.read_bytes()


def test_what_is_mended_is_durable_before_a_collection_may_look(
    storage_path: Path, point: Point, image: Path
) -> None:
    directory = FullDirectory(storage_path)
    directory.operation = "sync"
    with Storage.open(storage_path, key=KEY, writable=True, directory=directory) as storage:
        directory.is_full = True
        with pytest.raises(StorageFull):
            storage.mend_frames()
        storage.collect()
        directory.is_full = False
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.mend_frames() > 0
        assert storage.collect().removed_packs == 1
    with Storage.open(storage_path, key=KEY) as storage:
        assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.verify(read_data=True).damages == []


def test_commit_beside_a_walk_leaves_mending_to_the_next(
    storage_path: Path, point: Point, image: Path
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        with storage._walk_lock:
            back_up(storage, image)
        assert not storage.damage.mended
        back_up(storage, image)
        assert storage.damage.mended
