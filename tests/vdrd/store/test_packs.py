"""Packs while they are written: what is still in memory, and what a write that fails costs."""

import errno
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from native import blake3, direct
from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.formats.batch import raw_batch
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import StorageUnwritable
from vdrd.store import Encryption, Storage, WriteSession
from vdrd.store.directory import StorageDirectory
from vdrd.store.packs import OpenPack


class FailingDirectory(StorageDirectory):
    """Fails the next `failures` writes to packs."""

    def __init__(self, root: Path, error: int) -> None:
        super().__init__(root)
        self.error = error
        self.failures = 0

    @contextmanager
    def step(self, operation: str, name: str) -> Iterator[None]:
        with super().step(operation, name):
            if operation == "write" and name.endswith(".pack") and self.failures:
                self.failures -= 1
                raise OSError(self.error, os.strerror(self.error))
            yield


def put(session: WriteSession, seed: int, length_bytes: int) -> bytes:
    """Put one chunk; its id."""
    plain = random.Random(seed).randbytes(length_bytes)
    chunk_id = blake3.keyed(session.keys.id_keys[ChunkKind.DATA], plain)
    assert session.claim(chunk_id) == b"\1"
    session.put(raw_batch(chunk_id, plain, ChunkKind.DATA))
    return chunk_id


@pytest.mark.parametrize("length_bytes", [1, 5000, 3 << 20])
def test_chunk_just_put_can_be_read(storage_path: Path, length_bytes: int) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage, storage.session() as session:
        chunk_ids = [put(session, seed, length_bytes) for seed in range(3)]
        fetched = storage.reader.fetch(b"".join(chunk_ids))
        assert fetched == [random.Random(seed).randbytes(length_bytes) for seed in range(3)]
        after = put(session, 3, 100)
        assert storage.reader.fetch(after) == [random.Random(3).randbytes(100)]
        assert not storage.is_doubtful
        assert session.claim(b"".join([*chunk_ids, after])) == bytes(4)


def test_write_that_fails_once_fails_its_put_and_loses_nothing(storage_path: Path) -> None:
    directory = FailingDirectory(storage_path, errno.EIO)
    with Storage.open(storage_path, key=KEY, writable=True, directory=directory) as storage:
        with storage.session() as first:
            early = put(first, 1, 70_000)
            directory.failures = 1
            with storage.session() as second, pytest.raises(StorageUnwritable):
                put(second, 2, 2 << 20)
            assert storage.reader.fetch(early) == [random.Random(1).randbytes(70_000)]
            put(first, 3, 70_000)
        assert not storage.is_doubtful
        assert storage.verify(read_data=True).damages == []
    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.reader.fetch(early) == [random.Random(1).randbytes(70_000)]


def test_file_system_that_refuses_direct_writes_is_written_to_all_the_same(
    storage_path: Path, tmp_path: Path
) -> None:
    directory = FailingDirectory(storage_path, errno.EINVAL)
    image = tmp_path / "image"
    image.write_bytes(image_bytes(1, 5_000_000))
    with Storage.open(storage_path, key=KEY, writable=True, directory=directory) as storage:
        directory.failures = 1
        point = back_up(storage, image)
        assert directory.failures == 0
        assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.verify(read_data=True).damages == []


def test_file_system_without_direct_writes_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(direct, "begin", lambda _: False)
    image = tmp_path / "image"
    image.write_bytes(image_bytes(2, 5_000_000))
    Storage.create(tmp_path / "storage", encryption=Encryption.NONE)
    with Storage.open(tmp_path / "storage", writable=True) as storage:
        assert disk_bytes(storage, back_up(storage, image)) == image.read_bytes()
        assert storage.verify(read_data=True).damages == []


class WatchedLock:
    """A lock that lets somebody look each time it is let go of, before anybody else can have it."""

    def __init__(self, look: Callable[[], None]) -> None:
        self._lock = threading.Lock()
        self._look = look

    def acquire(self, blocking: bool = True) -> bool:
        return self._lock.acquire(blocking)

    def release(self) -> None:
        self._look()
        self._lock.release()

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


def test_pack_that_can_be_taken_is_none_that_somebody_has(
    storage_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        pool = storage.pool
        both: list[object] = []
        looks: list[int] = []

        def look() -> None:
            looks.append(len(pool._idle))
            both.extend(pool._busy.intersection(pool._idle))

        with monkeypatch.context() as patch, storage.session() as session:
            lock = WatchedLock(look)
            patch.setattr(pool, "_lock", lock)
            patch.setattr(pool, "_released", threading.Condition(lock))  # type: ignore[arg-type]
            for seed in range(3):
                put(session, seed, 5000)
        assert 1 in looks
        assert both == []


def test_pack_that_is_full_is_nobodys_afterwards(storage_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vdrd.store.packs.PACK_BYTES", 4096)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        pool = storage.pool
        seal = pool._seal

        def seal_beside_a_flush(pack: OpenPack) -> None:
            pool._closing |= pool._busy  # as a flush does that begins now
            seal(pack)

        monkeypatch.setattr(pool, "_seal", seal_beside_a_flush)
        with storage.session() as session:
            chunk_id = put(session, 1, 5000)
        assert (pool._idle, pool._busy, pool._closing) == ([], set(), set())
        monkeypatch.setattr(pool, "_seal", seal)
        storage.settle()
        assert storage.reader.fetch(chunk_id) == [random.Random(1).randbytes(5000)]
