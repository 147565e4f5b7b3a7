"""A writer that dies at any step, and a disk that is full at any step: what was committed stays, the next
run goes on."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.formats import pack as pack_format
from vdrd.model.errors import StorageFull
from vdrd.store import Encryption, Storage
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring
from vdrd.store.pack_file import PackFile, packs_on_disk

KILLS = 20
KILL_IMAGE_BYTES = 16 << 20


class Crash(BaseException):
    """The process is gone."""


class DyingDirectory(StorageDirectory):
    """Does `steps` steps; the next is done by half, and nothing after it."""

    def __init__(self, root: Path, steps: int) -> None:
        super().__init__(root)
        self.left = steps
        self.is_dead = False

    @contextmanager
    def step(self, operation: str, name: str) -> Iterator[None]:
        if self.is_dead or self.left == 0:
            self.is_dead = True
            raise Crash
        self.left -= 1
        with super().step(operation, name):
            yield

    def write(self, fd: int, data: bytes | bytearray | memoryview, offset: int, name: str) -> None:
        if self.left == 0 and not self.is_dead:
            os.pwrite(fd, memoryview(data)[: len(data) // 2], offset)
        super().write(fd, data, offset, name)


def run_until_dead(path: Path, steps: int, work: Callable[[Storage], None]) -> bool:
    """True if the work came to its end within so many steps."""
    directory = DyingDirectory(path, steps)
    storage = None
    try:
        storage = Storage.open(path, key=KEY, writable=True, directory=directory)
        work(storage)
    except Crash:
        return False
    finally:
        if storage is not None:
            # What a dead process lets go of, and no more.
            directory.is_dead = directory.is_dead or directory.left == 0
            _drop(storage)
    return True


def _drop(storage: Storage) -> None:
    try:
        storage.close()
    except Crash:
        storage._lock.close()


@pytest.fixture(params=[Encryption.NONE, Encryption.AES_256_GCM], ids=lambda encryption: encryption.value)
def encryption(request: pytest.FixtureRequest) -> Encryption:
    return request.param


@pytest.fixture
def storage_with_two_points(storage_path: Path, tmp_path: Path) -> Path:
    for name in ("a", "b"):
        image = tmp_path / f"{name}.img"
        image.write_bytes(image_bytes(ord(name), 400_000))
        with Storage.open(storage_path, key=KEY, writable=True) as storage:
            back_up(storage, image, name)
    return storage_path


def assert_whole(path: Path, tmp_path: Path, names: set[str]) -> None:
    with Storage.open(path, key=KEY) as storage:
        report = storage.verify(read_data=True)
        assert report.damages == []
        found = {point.draft.object_name for point in storage.points()}
        assert names <= found
        for point in storage.points():
            image = tmp_path / f"{point.draft.object_name}.img"
            assert disk_bytes(storage, point) == image.read_bytes()


def test_backup_that_dies_at_any_step_keeps_earlier_points_and_goes_on(
    storage_with_two_points: Path, tmp_path: Path
) -> None:
    path = storage_with_two_points
    image = tmp_path / "c.img"
    for steps in range(200):
        image.write_bytes(random.Random(steps).randbytes(70_000) + image_bytes(1000 + steps, 300_000))
        ended = run_until_dead(path, steps, lambda storage: (back_up(storage, image, "c"), None)[1])
        if ended:
            break
        with Storage.open(path, key=KEY) as storage:
            assert {point.draft.object_name for point in storage.points()} >= {"a", "b"}
            assert storage.verify(read_data=True).damages == []
        with Storage.open(path, key=KEY, writable=True) as storage:
            assert list((path / "tmp").iterdir()) == []
            storage.forget([point.point_id for point in storage.points("c")])
    assert ended
    assert steps > 15
    assert_whole(path, tmp_path, {"a", "b", "c"})


def test_collection_that_dies_at_any_step_loses_nothing(
    storage_with_two_points: Path, tmp_path: Path
) -> None:
    path = storage_with_two_points
    mixed = tmp_path / "mixed.img"
    for steps in range(200):
        # One pack that is mostly dead once `mixed` is forgotten, one wholly so.
        a = (tmp_path / "a.img").read_bytes()
        image = tmp_path / "d.img"
        image.write_bytes(image_bytes(steps, 131_072))
        mixed.write_bytes(image_bytes(2000 + steps, 600_000 // 65536 * 65536) + image.read_bytes() + a)
        with Storage.open(path, key=KEY, writable=True) as storage:
            first = back_up(storage, mixed, "mixed")
            storage.forget([point.point_id for point in storage.points("d")])
            back_up(storage, image, "d")
            storage.forget([first.point_id])
        ended = run_until_dead(path, steps, lambda storage: (storage.collect(), None)[1])
        assert_whole(path, tmp_path, {"a", "b", "d"})
        if ended:
            break
    assert ended
    assert steps > 5
    with Storage.open(path, key=KEY, writable=True) as storage:
        storage.collect()
        alive = sum(point.draft.logical_bytes for point in storage.points())
        assert storage.statistics().stored_bytes < alive + 200_000


def _present_bytes(path: Path, keyring: Keyring) -> int:
    """Plain bytes of all distinct chunks in packs."""
    chunks = {}
    for pack_id in packs_on_disk(path):
        for row in pack_format.ROW.iter_unpack(PackFile(path, pack_id, keyring).rows()):
            chunks[row[0]] = row[3]
    return sum(chunks.values())


@pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM], ids=["aes"], indirect=True)
def test_backup_killed_at_random_moments_goes_on_with_what_was_missing(
    storage_path: Path, tmp_path: Path
) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY.reveal())
    first = tmp_path / "a.img"
    first.write_bytes(image_bytes(5, 300_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        back_up(storage, first, "a")
    source = random.Random(1)
    image = tmp_path / "k.img"
    command = [
        sys.executable,
        "-c",
        "from vdrd.cli.main import main; raise SystemExit(main())",
        "store",
        "backup",
    ]
    command += [str(storage_path), "disk", str(image), "--object", "k", "--key-file", str(key_file)]
    for kill in range(KILLS):
        image.write_bytes(random.Random(kill).randbytes(KILL_IMAGE_BYTES // 4) * 4)
        threshold = source.randrange(KILL_IMAGE_BYTES // 4)
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        while _written(storage_path / "tmp") < threshold:
            try:
                process.wait(0.002)
                break  # it ended first: a kill at the very end
            except subprocess.TimeoutExpired:
                continue
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        with Storage.open(storage_path, key=KEY) as storage:
            assert storage.verify().damages == []
            assert disk_bytes(storage, storage.point("a@latest")) == first.read_bytes()
        with Storage.open(storage_path, key=KEY, writable=True) as storage:
            before = _present_bytes(storage_path, storage.keyring)
            storage.forget([point.point_id for point in storage.points("k")])
            point = back_up(storage, image, "k")
            assert point.draft.new_bytes == _present_bytes(storage_path, storage.keyring) - before
            assert disk_bytes(storage, point) == image.read_bytes()
            if kill % 5 == 4:
                storage.forget([point.point_id])
                storage.collect()
    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.verify(read_data=True).damages == []


def _written(folder: Path) -> int:
    total = 0
    for entry in os.scandir(folder):
        try:
            total += entry.stat().st_size
        except FileNotFoundError:
            continue
    return total


def test_backup_onto_a_full_disk_fails_cleanly_and_the_next_run_works(
    tiny_filesystem: Callable[[int], Path], tmp_path: Path, encryption: Encryption
) -> None:
    path = tiny_filesystem(24) / "storage"
    Storage.create(path, encryption=encryption, compression=1, key=KEY)
    small, medium, large = tmp_path / "small.img", tmp_path / "medium.img", tmp_path / "large.img"
    small.write_bytes(random.Random(1).randbytes(4 << 20))
    large.write_bytes(random.Random(2).randbytes(40 << 20))
    with Storage.open(path, key=KEY, writable=True) as storage:
        back_up(storage, small, "small")
        with pytest.raises(StorageFull, match=str(path)):
            back_up(storage, large, "large")
        assert [point.draft.object_name for point in storage.points()] == ["small"]
    for _ in range(2):
        with pytest.raises(StorageFull), Storage.open(path, key=KEY, writable=True) as storage:
            back_up(storage, large, "large")
    with Storage.open(path, key=KEY, writable=True) as storage:
        with pytest.raises(StorageFull):
            back_up(storage, large, "large")
        # The same open storage works again as soon as there is room.
        storage.collect()
        medium.write_bytes(random.Random(4).randbytes(6 << 20))
        point = back_up(storage, medium, "medium")
        assert disk_bytes(storage, point) == medium.read_bytes()
        storage.forget([point.point_id])
        assert storage.verify(read_data=True).damages == []
        storage.collect()
        small.write_bytes(random.Random(3).randbytes(4 << 20))
        point = back_up(storage, small, "small")
        assert disk_bytes(storage, point) == small.read_bytes()
        assert storage.verify(read_data=True).damages == []
