"""Many points: what stands for their files, and when it does not."""

from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY
from tests.vdrd.store.test_locks import draft
from vdrd.model.errors import Damaged
from vdrd.store import Encryption, Storage
from vdrd.store.points import BOOK_NAME

pytestmark = pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM], ids=["aes"], indirect=True)


@pytest.fixture
def points(storage_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Ids of 20 points; more than that many would be worth a `points.bin`."""
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        ids = [storage.book.write(draft(f"disk {number % 3}")).point_id for number in range(20)]
    monkeypatch.setattr("vdrd.store.points.UNLISTED_MAX", 10)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert [point.point_id for point in storage.points()] == ids
    return ids


def opened_files(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the points that are read one by one from here on."""
    read: list[str] = []
    from vdrd.store import points as module

    original = module._read
    monkeypatch.setattr(module, "_read", lambda path, name: read.append(name) or original(path, name))
    return read


def test_listing_reads_one_file_for_many_points(
    storage_path: Path, points: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Storage.open(storage_path, key=KEY) as reader:
        read = opened_files(reader, monkeypatch)
        listed = reader.points()
        assert read == []
        assert [point.point_id for point in listed] == points
        assert [point.draft.object_name for point in listed[:3]] == ["disk 0", "disk 1", "disk 2"]
        assert [reader.book.read(point.point_id, afresh=True) for point in listed] == listed


def test_point_that_was_touched_is_read_itself(
    storage_path: Path, points: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = storage_path / "points" / f"{points[4]}.point"
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    (storage_path / "points" / f"{points[5]}.point").unlink()
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        read = opened_files(storage, monkeypatch)
        new = storage.book.write(draft()).point_id
        listed = [point.point_id for point in storage.points()]
        assert listed == [*points[:4], *points[6:], new]
        assert read == [points[4]]
        assert len(storage.damaged_points()) == 1
        with pytest.raises(Damaged):
            storage.book.read(points[4])


@pytest.mark.parametrize("damage", ["one bit", "emptied", "of another storage"])
def test_points_are_read_themselves_when_their_book_does_not_hold(
    storage_path: Path, points: list[str], damage: str, tmp_path: Path
) -> None:
    path = storage_path / BOOK_NAME
    data = bytearray(path.read_bytes())
    if damage == "one bit":
        data[len(data) // 2] ^= 1
    elif damage == "of another storage":
        data[16:32] = bytes(16)
    path.write_bytes(b"" if damage == "emptied" else data)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert [point.point_id for point in storage.points()] == points
    assert path.read_bytes()[:8] == b"VDRBOOK1"
    assert len(path.read_bytes()) == len(data)
