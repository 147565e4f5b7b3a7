"""Every cell of the matrix in docs/formats/store.md: two kinds of work on one storage at once, each in a
thread of its own; and what a second process may do beside a writer."""

import random
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import combinations_with_replacement
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.model.errors import ExitCode, NotFound
from vdrd.store import Encryption, Storage

pytestmark = pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM], ids=["aes"], indirect=True)

ROUNDS = 3


class Shop:
    """A storage at work: points that stay, and kinds of work to do beside each other."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        self.storage = storage
        self._folder = folder
        self._numbers = iter(range(1000))
        self._lock = threading.Lock()
        self.images: dict[str, bytes] = {}
        self.parts = [image_bytes(number, 70_000) for number in range(8)]
        self.backup()
        self.backup()

    def backup(self) -> None:
        """A new point that shares much with the others."""
        with self._lock:
            number = next(self._numbers)
        image = self._folder / f"{number}.img"
        image.write_bytes(b"".join(random.Random(number).choices(self.parts, k=4)))
        point = back_up(self.storage, image, str(number))
        self.images[point.point_id] = image.read_bytes()

    def restore(self) -> None:
        for point in self.storage.points():
            try:
                with self.storage.hold(point):
                    found = disk_bytes(self.storage, point)
            except NotFound:
                continue
            expected = self.images.get(point.point_id)
            assert expected is None or found == expected  # None: its backup has yet to say so

    def verify(self) -> None:
        assert self.storage.verify(read_data=True).damages == []

    def stats(self) -> None:
        self.storage.census()

    def forget(self) -> None:
        with self._lock:
            gone = min(self.images) if len(self.images) > 1 else None
            if gone is not None:
                del self.images[gone]
        if gone is not None:
            self.storage.put_hold(gone, is_held=True)
            self.storage.put_hold(gone, is_held=False)
            assert self.storage.forget([gone]) == [gone]

    def collect(self) -> None:
        self.storage.collect()

    def rotate(self) -> None:
        self.storage.rotate_key([KEY])


WORK: dict[str, Callable[[Shop], None]] = {
    "backup": Shop.backup,
    "restore": Shop.restore,
    "verify": Shop.verify,
    "stats": Shop.stats,
    "forget": Shop.forget,
    "collect": Shop.collect,
    "rotate": Shop.rotate,
}


@pytest.mark.parametrize(("left", "right"), list(combinations_with_replacement(WORK, 2)))
def test_two_kinds_of_work_at_once_leave_the_storage_whole(
    storage_path: Path, tmp_path: Path, left: str, right: str
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        shop = Shop(storage, tmp_path)

        def work(kind: str) -> None:
            for _ in range(ROUNDS):
                WORK[kind](shop)

        with ThreadPoolExecutor(2) as pool:
            for _ in pool.map(work, (left, right)):
                pass
        storage.collect()
    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.verify(read_data=True).damages == []
        assert {point.point_id for point in storage.points()} == shop.images.keys()
        for point in storage.points():
            assert disk_bytes(storage, point) == shop.images[point.point_id]


WRITING = [
    ["forget", "d@latest"],
    ["collect"],
    ["key", "rotate"],
    ["retain", "--object", "d", "--keep-last", "1"],
]
READING = [["points"], ["verify", "--read-data"], ["stats"]]


@pytest.mark.parametrize("words", WRITING + READING, ids=lambda words: "-".join(words[:2]).replace("--", ""))
def test_second_process_beside_a_writer_may_read_and_is_refused_to_write(
    storage_path: Path, tmp_path: Path, words: list[str]
) -> None:
    image, key_file = tmp_path / "d.img", tmp_path / "key"
    image.write_bytes(image_bytes(1, 100_000))
    key_file.write_bytes(KEY.reveal())
    acts, rest = (words[:2], words[2:]) if words[0] == "key" else (words[:1], words[1:])
    command = [
        Path(sys.executable).with_name("vdr"),
        "store",
        *acts,
        storage_path,
        *rest,
        "--key-file",
        key_file,
    ]
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image, "d")
        done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
        if words in WRITING:
            assert (done.returncode, "is in use" in done.stderr or "locked" in done.stderr) == (
                ExitCode.REFUSED,
                True,
            )
            assert [one.point_id for one in storage.points()] == [point.point_id]
        else:
            assert done.returncode == ExitCode.DONE, done.stderr
        assert disk_bytes(storage, point) == image.read_bytes()
