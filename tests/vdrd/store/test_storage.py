"""A storage as its users see it: what was put comes back, and refusals change nothing."""

import json
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.disk.backup import backup_disk
from vdrd.model.errors import (
    KeyMissing,
    NotFound,
    StorageFull,
    StorageLocked,
    StorageNewer,
    StorageNotFound,
    StorageUnwritable,
    TargetRefused,
    WrongKey,
)
from vdrd.model.progress import Cancel
from vdrd.model.storage_time import ClockReading
from vdrd.store import Encryption, KeyMaterial, Storage
from vdrd.store.directory import StorageDirectory
from vdrd.store.guard import machine_clocks

SIZES = [1, 65536, 65537, 3_000_001, (16 << 20) + 5]


@pytest.mark.parametrize("size_bytes", SIZES)
def test_disk_backed_up_and_read_back_is_identical(
    storage_path: Path, tmp_path: Path, size_bytes: int
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(size_bytes, size_bytes))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        assert disk_bytes(storage, point) == image.read_bytes()
    with Storage.open(storage_path, key=KEY) as storage:
        again = storage.point("disk@latest")
        assert again == point
        assert disk_bytes(storage, again) == image.read_bytes()


def test_second_backup_of_same_disk_adds_nothing_and_shares_the_root(
    storage_path: Path, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(1, 5_000_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first = back_up(storage, image)
        second = back_up(storage, image)
    assert first.draft.new_bytes > 4_000_000 * 2 // 3
    assert second.draft.new_bytes == 0
    assert second.draft.root == first.draft.root


def test_point_reference_by_prefix_and_latest_finds_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Storage.create(path, encryption=Encryption.NONE)
    image = tmp_path / "disk.img"
    image.write_bytes(b"x" * 100)
    with Storage.open(path, writable=True) as storage:
        a = back_up(storage, image, "a")
        b = back_up(storage, image, "b")
        assert storage.point(a.point_id) == a
        assert storage.point("b@latest") == b
        assert [point.point_id for point in storage.points()] == [a.point_id, b.point_id]
        assert storage.points("a") == [a]
        with pytest.raises(NotFound, match="2 points"):
            storage.point(a.point_id[:2])
        for reference in ("c@latest", "ffffffff", "", "../../etc"):
            with pytest.raises(NotFound):
                storage.point(reference)


def test_create_in_a_directory_that_is_not_empty_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(TargetRefused, match="not empty"):
        Storage.create(tmp_path, encryption=Encryption.NONE)
    assert [path.name for path in tmp_path.iterdir()] == ["precious"]


def test_create_encrypted_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(KeyMissing):
        Storage.create(tmp_path / "s", encryption=Encryption.AES_256_GCM)
    assert not (tmp_path / "s").exists()


def test_open_of_what_is_no_storage_says_so(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StorageNotFound):
            Storage.open(path)


def test_open_with_wrong_or_no_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Storage.create(path, encryption=Encryption.AES_256_GCM, key=KEY)
    with pytest.raises(WrongKey):
        Storage.open(path, key=KeyMaterial(bytes(32)))
    with pytest.raises(KeyMissing):
        Storage.open(path)


@pytest.mark.parametrize(
    "material",
    [
        KeyMaterial(b"0123456789abcdef" * 4 + b"\n"),
        KeyMaterial(b"some other file's content"),
        KeyMaterial("parola Łódź".encode(), is_passphrase=True),
    ],
    ids=["hex", "any-file", "passphrase"],
)
def test_key_of_each_shape_opens_what_it_made(tmp_path: Path, material: KeyMaterial) -> None:
    Storage.create(tmp_path / "s", encryption=Encryption.AES_256_GCM, key=material)
    Storage.open(tmp_path / "s", key=material).close()
    assert "parola" not in repr(material)


def test_open_of_a_newer_format_is_refused_and_changes_nothing(storage_path: Path) -> None:
    header = storage_path / "storage.json"
    text = json.loads(header.read_text())
    header.write_text(json.dumps({**text, "format": 2}))
    before = {path: path.stat().st_mtime_ns for path in storage_path.rglob("*")}
    with pytest.raises(StorageNewer):
        Storage.open(storage_path, key=KEY, writable=True)
    assert {path: path.stat().st_mtime_ns for path in storage_path.rglob("*")} == before


def test_second_writer_is_refused_and_readers_are_admitted(storage_path: Path) -> None:
    with Storage.open(storage_path, key=KEY, writable=True):
        with pytest.raises(StorageLocked, match="process"):
            Storage.open(storage_path, key=KEY, writable=True)
        Storage.open(storage_path, key=KEY).close()
    Storage.open(storage_path, key=KEY, writable=True).close()


def test_session_of_a_storage_opened_for_reading_is_refused(storage_path: Path) -> None:
    with Storage.open(storage_path, key=KEY) as storage, pytest.raises(StorageUnwritable):
        storage.session()


def test_commit_with_a_claimed_chunk_that_was_not_sent_is_refused(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"x" * 100)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        draft = back_up(storage, image).draft
        with storage.session() as session:
            assert session.claim(bytes(64)) == b"\x01\x00"
            with pytest.raises(StorageUnwritable, match="never sent"):
                session.commit(draft)
        assert len(storage.points()) == 1


def test_create_that_fails_leaves_an_empty_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encryption: Encryption
) -> None:
    path = tmp_path / "s"
    for step in (3, 100, 265, 270, 273):
        left = iter(range(step))

        @contextmanager
        def full(
            self: StorageDirectory, operation: str, name: str, left: Iterator[int] = left
        ) -> Iterator[None]:
            if next(left, None) is None:
                raise StorageFull(path=self.root)
            yield

        monkeypatch.setattr(StorageDirectory, "step", full)
        with pytest.raises(StorageFull):
            Storage.create(path, encryption=encryption, key=KEY)
        assert list(path.iterdir()) == []
    monkeypatch.undo()
    Storage.create(path, encryption=encryption, key=KEY)
    Storage.open(path, key=KEY).close()


def test_chunks_past_the_limit_are_indexed_before_the_commit(
    storage_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vdrd.store.index._UNINDEXED_CHUNKS_MAX", 20)
    monkeypatch.setattr("vdrd.store.packs.PACK_BYTES", 1 << 18)
    image = tmp_path / "disk.img"
    image.write_bytes(random.Random(1).randbytes(8 << 20))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        with storage.session() as session:
            backup_disk(image, session, object_name="x", progress=lambda _: None, cancel=Cancel())
            storage.pool.flush(since=0)
            other = tmp_path / "other.img"
            other.write_bytes(b"one more chunk")
            backup_disk(other, session, object_name="x", progress=lambda _: None, cancel=Cancel())
            assert storage.statistics().index_segments > 0
        point = back_up(storage, image)
        assert point.draft.new_bytes == 0
        assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.verify(read_data=True).damages == []


def test_latest_point_after_the_clock_was_set_back_is_the_one_committed_last(
    storage_path: Path, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"old")
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first = back_up(storage, image)
    image.write_bytes(b"new")

    def yesterday() -> ClockReading:
        reading = machine_clocks()
        return replace(reading, wall=reading.wall - timedelta(days=1))

    with Storage.open(storage_path, key=KEY, writable=True, clocks=yesterday) as storage:
        second = back_up(storage, image)
        assert disk_bytes(storage, storage.point("disk@latest")) == b"new"
        assert storage.points("disk") == [first, second]
    assert first.time - timedelta(seconds=1) < second.time < first.time + timedelta(hours=1)


def test_point_file_with_the_greatest_name_does_not_hinder_a_commit(
    storage_path: Path, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"content")
    (storage_path / "points" / f"{'f' * 32}.point").write_bytes(b"not a point")
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        assert storage.points("disk") == [point]


def test_point_forgotten_by_two_names_is_told_once(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(b"content")
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        assert storage.forget(["disk@latest", point.point_id]) == [point.point_id]
