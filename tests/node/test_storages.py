from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.api import Encryption
from schemas.control import StorageAssigned, StorageKeyRotate, StorageOpen
from vdrd.model.errors import BadInput, Conflict, NotFound, StorageNotFound, TargetRefused, WrongKey
from vdrd.model.storage import KeyMaterial
from vdrd.node.storages import StorageKeeper
from vdrd.store.directory import StorageDirectory
from vdrd.store.slots import KeySlots


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[StorageKeeper]:
    made = StorageKeeper(tmp_path / "keys")
    yield made
    made.close()


def wanted(path: Path, storage_id: str = "one", **more: object) -> StorageOpen:
    fields: dict[str, object] = {
        "storage_id": storage_id,
        "name": storage_id,
        "path": str(path),
        "create": True,
    }
    return StorageOpen(**{**fields, **more})  # type: ignore[arg-type]


def test_open_makes_an_encrypted_storage_with_a_key_only_root_reads(
    keeper: StorageKeeper, tmp_path: Path
) -> None:
    answer = keeper.open(wanted(tmp_path / "s"))
    assert answer.key_file is not None
    assert Path(answer.key_file).stat().st_mode & 0o777 == 0o600
    assert (answer.storage.encryption, answer.storage.is_online) == (Encryption.AES_256_GCM, True)
    assert answer.storage.capacity_bytes >= answer.storage.free_bytes > 0
    assert keeper.open_ids() == ["one"]


def test_key_of_an_open_storage_is_rotated_with_its_key_file(keeper: StorageKeeper, tmp_path: Path) -> None:
    answer = keeper.open(wanted(tmp_path / "s"))
    slots = KeySlots(StorageDirectory(tmp_path / "s"))
    assert answer.key_file is not None
    key = KeyMaterial(Path(answer.key_file).read_bytes())
    recovery, _ = slots.add_recovery(key)
    with pytest.raises(Conflict, match=recovery):
        keeper.rotate_key(StorageKeyRotate(storage_id="one"))
    rotated = keeper.rotate_key(StorageKeyRotate(storage_id="one", drop_slots=[recovery]))
    assert (rotated.epoch_count, rotated.dropped_slots) == (2, [recovery])
    assert rotated.slots == list(slots.read()[0])
    assert keeper.storage("one").keyring.epoch == 1
    keeper.drop("one")
    assert keeper.open(wanted(tmp_path / "s", create=False, key_file=answer.key_file)).storage.is_online


def test_open_in_a_directory_that_is_not_empty_is_refused_and_leaves_nothing(
    keeper: StorageKeeper, tmp_path: Path
) -> None:
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "file").write_text("mine")
    with pytest.raises(TargetRefused):
        keeper.open(wanted(tmp_path / "s"))
    assert keeper.open_ids() == []
    assert list((tmp_path / "keys").iterdir()) == []
    assert [path.name for path in (tmp_path / "s").iterdir()] == ["file"]


@pytest.mark.parametrize("path", ["relative/path", ""], ids=["relative", "empty"])
def test_open_of_a_path_that_is_not_absolute_is_refused(keeper: StorageKeeper, path: str) -> None:
    with pytest.raises(BadInput, match="absolute"):
        keeper.open(wanted(Path(path)))


def test_open_of_a_directory_twice_is_refused(keeper: StorageKeeper, tmp_path: Path) -> None:
    keeper.open(wanted(tmp_path / "s"))
    with pytest.raises(Conflict):
        keeper.open(wanted(tmp_path / "s", "two"))


def test_attach_of_nothing_or_with_the_wrong_key_says_so(keeper: StorageKeeper, tmp_path: Path) -> None:
    with pytest.raises(StorageNotFound):
        keeper.open(wanted(tmp_path / "nowhere", create=False))
    keeper.open(wanted(tmp_path / "s"))
    keeper.drop("one")
    (tmp_path / "other.key").write_text("another key")
    with pytest.raises(WrongKey):
        keeper.open(wanted(tmp_path / "s", create=False, key_file=str(tmp_path / "other.key")))
    (tmp_path / "empty.key").write_text("\n")
    with pytest.raises(BadInput, match="empty"):
        keeper.open(wanted(tmp_path / "s", create=False, key_file=str(tmp_path / "empty.key")))
    assert keeper.open_ids() == []


def test_assign_opens_what_is_said_and_closes_the_rest(keeper: StorageKeeper, tmp_path: Path) -> None:
    key_files = {name: keeper.open(wanted(tmp_path / name, name)).key_file for name in ("a", "b")}
    assigned = [StorageAssigned(storage_id="b", name="b", path=str(tmp_path / "b"), key_file=key_files["b"])]
    keeper.assign(assigned)
    assert keeper.open_ids() == ["b"]
    with pytest.raises(NotFound):
        keeper.storage("a")


def test_assign_of_a_storage_that_is_away_holds_it_with_its_problem_until_it_is_back(
    keeper: StorageKeeper, tmp_path: Path
) -> None:
    key_file = keeper.open(wanted(tmp_path / "s")).key_file
    keeper.drop("one")
    (tmp_path / "s").rename(tmp_path / "away")
    assigned = [StorageAssigned(storage_id="one", name="one", path=str(tmp_path / "s"), key_file=key_file)]
    keeper.assign(assigned)
    (announced,) = keeper.announcements()
    assert not announced.is_online
    assert "no storage" in announced.problem
    with pytest.raises(Conflict, match="no storage"):
        keeper.storage("one")
    (tmp_path / "away").rename(tmp_path / "s")
    assert keeper.open_missing() == ["one"]
    assert keeper.announcements()[0].is_online
    assert keeper.open_missing() == []
