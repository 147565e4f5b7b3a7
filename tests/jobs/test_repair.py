"""A storage is mended out of another: a copy of it, or one of its own keys that holds the same contents."""

import random
import shutil
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from tests.vdrd.store.test_heal import PARTS, first_chunk, flip, records, rot, verified
from vdrd.disk.backup import backup_disk
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree
from vdrd.jobs.repair import Repair, RepairReport
from vdrd.model.points import FilesRoot, Point
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, KeyMaterial, Storage

OTHER_KEY = KeyMaterial(b"another key of another storage")


@pytest.fixture
def encryption() -> Encryption:
    return Encryption.AES_256_GCM


@pytest.fixture
def storage_path(tmp_path: Path, encryption: Encryption) -> Path:
    path = tmp_path / "storage"
    Storage.create(path, encryption=encryption, compression=1, key=KEY)
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(image_bytes(5, 2_000_000))
    return path


@pytest.fixture
def point(storage_path: Path, image: Path) -> Point:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        return back_up(storage, image)


def mend(
    storage_path: Path, other: Path | None, *, read_data: bool = True, key: KeyMaterial = KEY
) -> RepairReport:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        if other is None:
            return _run(storage, None, read_data=read_data)
        with Storage.open(other, key=key) as source:
            return _run(storage, source, read_data=read_data)


def _run(storage: Storage, other: Storage | None, *, read_data: bool) -> RepairReport:
    return Repair(storage, other, progress=lambda _: None, cancel=Cancel()).run(read_data=read_data)


def rot_everything(storage_path: Path) -> int:
    """Flip a bit in every record of every pack."""
    count = 0
    for pack in storage_path.glob("packs/*/*.pack"):
        data = bytearray(pack.read_bytes())
        at = 64
        while data[at : at + 4] == b"VCHK":
            stored_bytes = int.from_bytes(data[at + 12 : at + 16], "little")
            data[at + 60] ^= 1
            at += 56 + stored_bytes
            count += 1
        pack.write_bytes(data)
    return count


@pytest.mark.parametrize("part", PARTS)
def test_any_damage_is_mended_out_of_a_copy(
    storage_path: Path, point: Point, image: Path, tmp_path: Path, part: str
) -> None:
    shutil.copytree(storage_path, tmp_path / "copy")
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, point)
    pack = rot(storage_path, chunk_id, part)
    report = mend(storage_path, tmp_path / "copy")
    assert len(report.before.damages) == 1
    assert report.after.damages == []
    assert report.removed_packs == 1
    assert not pack.exists()
    assert verified(storage_path) == []
    with Storage.open(storage_path, key=KEY) as storage:
        assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.damage.marks() == []


@pytest.mark.parametrize("part", ["pack header", "table", "trailer"])
def test_lost_frame_of_a_pack_needs_no_other_storage(
    storage_path: Path, point: Point, image: Path, part: str
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, point)
    rot(storage_path, chunk_id, part)
    report = mend(storage_path, None)
    assert (len(report.before.damages), report.mended_chunks, report.after.damages) == (1, 0, [])
    assert verified(storage_path) == []
    with Storage.open(storage_path, key=KEY) as storage:
        assert disk_bytes(storage, point) == image.read_bytes()


def test_storage_with_nothing_whole_is_mended_out_of_a_copy(
    storage_path: Path, point: Point, image: Path, tmp_path: Path
) -> None:
    shutil.copytree(storage_path, tmp_path / "copy")
    count = rot_everything(storage_path)
    flip(next(storage_path.glob("points/*.point")), 90)
    report = mend(storage_path, tmp_path / "copy")
    assert (report.mended_chunks, report.mended_points, report.after.damages) == (count, 1, [])
    with Storage.open(storage_path, key=KEY) as storage:
        assert disk_bytes(storage, storage.point("disk@latest")) == image.read_bytes()


def test_what_the_copy_lacks_too_stays_named_and_the_rest_is_mended(
    storage_path: Path, point: Point, tmp_path: Path
) -> None:
    shutil.copytree(storage_path, tmp_path / "copy")
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, point)
    rot(tmp_path / "copy", chunk_id, "payload")
    count = rot_everything(storage_path)
    report = mend(storage_path, tmp_path / "copy")
    assert report.mended_chunks == count - 1
    assert [damage.chunk_id for damage in report.after.damages] == [chunk_id.hex()]
    assert report.after.affected_points == (point.point_id,)


def test_disk_is_mended_out_of_a_storage_with_other_keys(
    storage_path: Path, point: Point, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    Storage.create(other, encryption=Encryption.SM4_GCM, compression=2, key=OTHER_KEY)
    with Storage.open(other, key=OTHER_KEY, writable=True) as storage:
        back_up(storage, image)
    count = rot_everything(storage_path)
    report = mend(storage_path, other, key=OTHER_KEY)
    assert (report.mended_chunks, report.after.damages) == (count, [])
    with Storage.open(storage_path, key=KEY) as storage:
        assert disk_bytes(storage, point) == image.read_bytes()


def test_content_that_differs_in_the_other_storage_is_not_taken(
    storage_path: Path, point: Point, image: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    Storage.create(other, encryption=Encryption.NONE, compression=None)
    changed = bytearray(image.read_bytes())
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, point)
        (plain,) = storage.reader.fetch(chunk_id)
    changed[changed.find(plain)] ^= 1
    image.write_bytes(changed)
    with Storage.open(other, writable=True) as storage:
        back_up(storage, image)
    rot(storage_path, chunk_id, "payload")
    report = mend(storage_path, other)
    assert report.mended_chunks == 0
    assert [damage.chunk_id for damage in report.after.damages] == [chunk_id.hex()]


def test_files_are_mended_out_of_a_storage_with_other_keys(storage_path: Path, tmp_path: Path) -> None:
    source = random.Random(8)
    tree = tmp_path / "tree"
    tree.mkdir()
    for number in range(20):
        (tree / f"{number:02}").write_bytes(source.randbytes(9_000))
    (tree / "large").write_bytes(source.randbytes(400_000))
    other = tmp_path / "other"
    Storage.create(other, encryption=Encryption.NONE, compression=None)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = _files(storage, tree)
    with Storage.open(other, writable=True) as storage:
        _files(storage, tree)
    with Storage.open(storage_path, key=KEY) as storage:
        root = point.draft.root
        assert isinstance(root, FilesRoot)
        found = FileTree(root, storage.reader)
        ids = {extent.chunk_id for name in ("00", "large") for extent in found.find(name).extents}
    for chunk_id in ids:
        assert chunk_id is not None
        rot(storage_path, chunk_id, "payload")
    report = mend(storage_path, other)
    assert (report.mended_chunks, report.after.damages) == (len(ids), [])
    with Storage.open(storage_path, key=KEY) as storage:
        found = FileTree(root, storage.reader)
        for path in tree.iterdir():
            assert found.open_file(found.find(path.name)).read(0, 1 << 20) == path.read_bytes()


def _files(storage: Storage, tree: Path) -> Point:
    with storage.session() as session:
        return session.commit(backup_files(tree, session, object_name="tree"))


def test_repair_beside_a_backup_leaves_both_whole(
    storage_path: Path, point: Point, image: Path, tmp_path: Path
) -> None:
    shutil.copytree(storage_path, tmp_path / "copy")
    rot_everything(storage_path)
    with (
        Storage.open(storage_path, key=KEY, writable=True) as storage,
        Storage.open(tmp_path / "copy", key=KEY) as other,
        storage.session() as session,
    ):
        draft = backup_disk(image, session, object_name="disk", progress=lambda _: None, cancel=Cancel())
        assert _run(storage, other, read_data=True).after.damages == []
        second = session.commit(draft)
        assert disk_bytes(storage, second) == image.read_bytes()
    assert verified(storage_path) == []
    assert records(storage_path, point.draft.root.root_id or b"")
