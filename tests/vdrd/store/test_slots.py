"""Key slots and rotation: who can open a storage afterwards, what is sealed under which key, and a writer
that dies at any step."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.formats import pack as pack_format
from vdrd.formats import point as point_format
from vdrd.model.errors import BadInput, Conflict, Damaged, KeyMissing, NotFound, StorageLocked, WrongKey
from vdrd.model.storage import SlotKind
from vdrd.store import Encryption, KeyMaterial, Storage
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring
from vdrd.store.pack_file import PackFile, packs_on_disk
from vdrd.store.slots import KeySlots, read_header

OTHER = KeyMaterial(bytes(range(100, 132)))
THIRD = KeyMaterial(bytes(range(200, 232)))
WORDS = KeyMaterial(b"correct horse battery", is_passphrase=True)


@pytest.fixture
def encryption() -> Encryption:
    return Encryption.AES_256_GCM


@pytest.fixture
def slots(storage_path: Path) -> KeySlots:
    return KeySlots(StorageDirectory(storage_path))


def only_slot(slots: KeySlots) -> str:
    (name,) = slots.read()[0]
    return name


def files_of(path: Path) -> dict[Path, bytes]:
    """Every file with its content; the locks, which say who holds them, left out."""
    found = (file for file in path.rglob("*") if file.is_file() and not file.name.startswith("lock"))
    return {file: file.read_bytes() for file in found}


def opens(path: Path, key: KeyMaterial) -> bool:
    try:
        Storage.open(path, key=key).close()
    except WrongKey:
        return False
    return True


def test_added_secrets_open_and_a_removed_one_does_not(storage_path: Path, slots: KeySlots) -> None:
    first = only_slot(slots)
    words = slots.add(KEY, WORDS)
    recovery, text = slots.add_recovery(WORDS)
    typed = KeyMaterial(text.lower().encode(), is_passphrase=True)
    kept_in_a_file = KeyMaterial(text.encode() + b"\n")
    kinds = {name: slot.kind for name, slot in slots.read()[0].items()}
    assert kinds == {first: SlotKind.KEY_FILE, words: SlotKind.PASSPHRASE, recovery: SlotKind.RECOVERY}
    assert all(opens(storage_path, key) for key in (KEY, WORDS, typed, kept_in_a_file))
    assert not opens(storage_path, OTHER)

    slots.remove(typed, first)
    assert not opens(storage_path, KEY)
    assert opens(storage_path, WORDS)


def test_secret_that_opens_already_and_a_wrong_one_add_nothing(storage_path: Path, slots: KeySlots) -> None:
    before = files_of(storage_path)
    with pytest.raises(Conflict, match=only_slot(slots)):
        slots.add(KEY, KEY)
    with pytest.raises(WrongKey):
        slots.add(OTHER, WORDS)
    with pytest.raises(KeyMissing):
        slots.add(None, WORDS)
    with pytest.raises(BadInput, match="shorter"):
        slots.add(KEY, KeyMaterial(b"short", is_passphrase=True))
    assert files_of(storage_path) == before


def test_remove_of_the_last_slot_or_the_own_one_is_refused(storage_path: Path, slots: KeySlots) -> None:
    first = only_slot(slots)
    with pytest.raises(Conflict, match="only one that this key opens"):
        slots.remove(KEY, first)
    other = slots.add(KEY, OTHER)
    before = files_of(storage_path)
    with pytest.raises(Conflict, match="only one that this key opens"):
        slots.remove(KEY, first)
    with pytest.raises(NotFound):
        slots.remove(KEY, "00000000")
    assert files_of(storage_path) == before
    slots.remove(KEY, other)
    assert only_slot(slots) == first


def test_storage_without_encryption_has_no_keys_to_change(tmp_path: Path) -> None:
    path = tmp_path / "clear"
    Storage.create(path, encryption=Encryption.NONE)
    slots = KeySlots(StorageDirectory(path))
    before = files_of(path)
    for change in (
        lambda: slots.add(None, OTHER),
        lambda: slots.remove(None, only_slot(slots)),
        lambda: slots.rotate([]),
    ):
        with pytest.raises(BadInput, match="not encrypted"):
            change()
    assert files_of(path) == before


def test_rotation_seals_what_is_new_under_a_key_that_the_old_one_does_not_give(
    storage_path: Path, tmp_path: Path, slots: KeySlots
) -> None:
    image = tmp_path / "disk.img"
    content = bytearray(image_bytes(1, 3_000_000))
    image.write_bytes(content)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first = back_up(storage, image)
    stolen = slots.unlock(KEY)
    old_packs = set(packs_on_disk(storage_path))

    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        session = storage.session()  # open across the rotation
        rotation = storage.rotate_key([KEY])
        assert rotation.slots == (only_slot(slots),)
        content[1_000_000:1_000_100] = os.urandom(100)
        image.write_bytes(content)
        second = back_up(storage, image)
        assert 0 < second.draft.new_bytes < 200_000
        assert disk_bytes(storage, second) == content
        session.abort()
    new_packs = set(packs_on_disk(storage_path)) - old_packs

    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.keyring.epoch_count == 2
        assert [point.point_id for point in storage.points()] == [first.point_id, second.point_id]
        assert disk_bytes(storage, storage.point(second.point_id)) == content
        assert storage.verify(read_data=True).damages == []
        epochs = {pack: PackFile(storage_path, pack, storage.keyring).header.epoch for pack in new_packs}
        assert set(epochs.values()) == {1}

    # With the root key of before, and the right to read every file, nothing of this opens.
    thief = Keyring(stolen.header, stolen.roots)
    name = second.point_id
    data = (storage_path / "points" / f"{name}.point").read_bytes()
    with pytest.raises(Damaged, match="key epoch 1"):
        thief.point_keys(point_format.point_epoch(data, name))
    forced = data[:11] + b"\0" + data[12:]
    with pytest.raises(Damaged):
        point_format.decode_point(forced, name, thief.storage_id, thief.point_keys(0))
    for pack in new_packs:
        head = PackFile(storage_path, pack, thief)
        with pytest.raises(Damaged, match="key epoch 1"):
            head.rows()
        file = pack_format.decode_header(head.head, "pack")
        mine, theirs = (
            roots.domain(0, epoch).pack_key(file.pack_id, thief.algorithm)
            for roots, epoch in ((slots.unlock(KEY).roots, 1), (thief._roots, 0))
        )
        assert mine != theirs
    with pytest.raises(WrongKey):
        slots.unlock(KeyMaterial(stolen.roots.epochs[0]))


def test_increment_after_a_rotation_shares_what_the_old_packs_hold(
    storage_path: Path, tmp_path: Path
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(2, 2_000_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first = back_up(storage, image)
        storage.rotate_key([KEY])
        second = back_up(storage, image)
    assert second.draft.new_bytes == 0
    assert second.draft.root == first.draft.root


def test_rotation_leaves_no_slot_behind_unless_it_is_said(storage_path: Path, slots: KeySlots) -> None:
    first = only_slot(slots)
    words = slots.add(KEY, WORDS)
    recovery, text = slots.add_recovery(KEY)
    before = files_of(storage_path)
    with pytest.raises(Conflict, match=rf"{words} \(passphrase\)"):
        slots.rotate([KEY], renew_recovery=True)
    with pytest.raises(Conflict, match=rf"{recovery} \(recovery\)"):
        slots.rotate([KEY, WORDS])
    with pytest.raises(NotFound):
        slots.rotate([KEY], drop=["ffffffff"])
    with pytest.raises(Conflict, match="no slot"):
        slots.rotate([KEY], drop=[first, words, recovery])
    with pytest.raises(WrongKey):
        slots.rotate([OTHER], drop=[words, recovery])
    assert files_of(storage_path) == before

    rotation = slots.rotate([KEY], drop=[words], renew_recovery=True)
    assert set(rotation.dropped) == {words, recovery}
    assert rotation.recovery_key is not None
    assert opens(storage_path, KeyMaterial(rotation.recovery_key.encode(), is_passphrase=True))
    assert opens(storage_path, KEY)
    assert not opens(storage_path, WORDS)
    assert not opens(storage_path, KeyMaterial(text.encode(), is_passphrase=True))
    assert read_header(storage_path).epoch_count == 2


def test_slot_put_back_from_before_a_rotation_is_told_from_a_wrong_key(
    storage_path: Path, slots: KeySlots
) -> None:
    words = slots.add(KEY, WORDS)
    file = storage_path / "keys" / f"{words}.json"
    old = file.read_bytes()
    slots.rotate([KEY], drop=[words])
    file.write_bytes(old)
    with pytest.raises(Damaged, match="older than the last rotation"):
        slots.unlock(WORDS)
    slots.remove(KEY, words)
    assert opens(storage_path, KEY)


def test_keys_of_a_storage_in_use_are_added_and_removed_but_two_changes_at_once_are_refused(
    storage_path: Path, slots: KeySlots
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True):
        words = slots.add(KEY, WORDS)
        with slots._alone(), pytest.raises(StorageLocked, match="change of its keys"):
            slots.remove(KEY, words)
        slots.remove(KEY, words)
    assert opens(storage_path, KEY)


class Crash(BaseException):
    """The process is gone."""


class DyingDirectory(StorageDirectory):
    """Does `left` steps and nothing after."""

    def __init__(self, root: Path, left: int) -> None:
        super().__init__(root)
        self.left = left

    @contextmanager
    def step(self, operation: str, name: str) -> Iterator[None]:
        if self.left == 0:
            raise Crash
        self.left -= 1
        with super().step(operation, name):
            yield


def test_rotation_that_dies_at_any_step_leaves_a_storage_that_all_its_secrets_open(
    storage_path: Path, tmp_path: Path, slots: KeySlots
) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(3, 200_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
    slots.add(KEY, THIRD)
    for steps in range(200):
        dropped = slots.add(KEY, OTHER)
        ended = False
        try:
            KeySlots(DyingDirectory(storage_path, steps)).rotate([KEY, THIRD], drop=[dropped])
            ended = True
        except Crash:
            pass
        before = read_header(storage_path).epoch_count
        for key in (KEY, THIRD):
            with Storage.open(storage_path, key=key) as storage:
                assert storage.keyring.epoch_count == before
                assert disk_bytes(storage, storage.point(point.point_id)) == image.read_bytes()
        # A writer ends what was as good as done, and both secrets have its key.
        for key in (KEY, THIRD):
            with Storage.open(storage_path, key=key, writable=True) as storage:
                after = storage.keyring.epoch_count
                assert after in (before, before + 1)
                back_up(storage, image, f"after {steps}")
        assert read_header(storage_path).epoch_count == after
        if dropped in slots.read()[0]:
            assert after == before
            slots.remove(KEY, dropped)
        if ended:
            break
    assert ended
    assert steps > 10
    assert opens(storage_path, KEY)
    assert opens(storage_path, THIRD)
    assert not opens(storage_path, OTHER)


def test_rotation_that_broke_off_is_not_mixed_with_the_next_one(storage_path: Path, slots: KeySlots) -> None:
    """Two attempts that each reached other slots: no key comes into force that a slot lacks."""
    slots.add(KEY, THIRD)
    slots.add(KEY, OTHER)
    for steps in (8, 9, 10, 11, 12, 13, 14, 15, 16):
        with pytest.raises(Crash):
            KeySlots(DyingDirectory(storage_path, steps)).rotate([KEY, THIRD, OTHER])
        count = read_header(storage_path).epoch_count
        for key in (THIRD, OTHER, KEY):
            Storage.open(storage_path, key=key, writable=True).close()
            assert read_header(storage_path).epoch_count == count
    rotation = slots.rotate([KEY, THIRD, OTHER])
    assert len(rotation.slots) == 3
    assert all(opens(storage_path, key) for key in (KEY, THIRD, OTHER))


def test_forged_header_with_fewer_keys_opens_nothing_new(storage_path: Path, slots: KeySlots) -> None:
    """storage.json of before a rotation, put back: the slots tell, and a writer puts the key in force."""
    old = (storage_path / "storage.json").read_bytes()
    slots.rotate([KEY])
    (storage_path / "storage.json").write_bytes(old)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert storage.keyring.epoch == 1
    changed = old.replace(b'"compression": 1', b'"compression": 2')
    (storage_path / "storage.json").write_bytes(changed)
    with pytest.raises(Damaged, match="MAC"):
        Storage.open(storage_path, key=KEY)
