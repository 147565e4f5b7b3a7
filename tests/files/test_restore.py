import os
import random
import subprocess
from pathlib import Path

import pytest

from tests.files.memory_store import MemoryStore
from tests.files.walker import differences, walk
from vdrd.files.backup import backup_files
from vdrd.files.restore import restore_files
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import BadInput, Cancelled, Damaged, NotFound, StorageFull, TargetRefused
from vdrd.model.points import FilesRoot
from vdrd.model.progress import Cancel


class Backed:
    """A tree, and a point of it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        rng = random.Random(8)
        for number in range(400):
            folder = root / f"folder {number % 4}" / "below"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"file {number:03}").write_bytes(rng.randbytes(4000))
        (root / "large").write_bytes(rng.randbytes(6_000_000))
        os.link(root / "folder 0" / "below" / "file 000", root / "folder 3" / "other name")
        (root / "folder 1").chmod(0o751)
        self.store = MemoryStore()
        draft = backup_files(root, self.store, object_name="t")
        assert isinstance(draft.root, FilesRoot)
        self.point = draft.root


@pytest.fixture
def backed(tmp_path: Path) -> Backed:
    return Backed(tmp_path / "source")


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


def test_one_file_is_restored_with_its_directories_only(backed: Backed, tmp_path: Path) -> None:
    backed.store.fetched.clear()
    target = tmp_path / "target"
    report = restore_files(backed.point, backed.store, target, paths=["/folder 1/below/file 201"])
    assert report.file_count == 1
    left, right = walk(backed.root), walk(target)
    assert set(right) == {b"", b"folder 1", b"folder 1/below", b"folder 1/below/file 201"}
    assert differences({p: left[p] for p in right if p}, {p: right[p] for p in right if p}) == []
    data = [i for i in backed.store.fetched if backed.store.kinds[i] is ChunkKind.DATA]
    assert len(data) == 1


def test_several_paths_are_restored_once_each(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "target"
    paths = ["large", "folder 2", "folder 2/below/file 002", "folder 3/other name", "folder 0/below/file 000"]
    restore_files(backed.point, backed.store, target, paths=paths)
    expected = {
        path: data
        for path, data in contents(backed.root).items()
        if path.startswith("folder 2/") or path in paths
    }
    assert contents(target) == expected
    first, second = target / "folder 0" / "below" / "file 000", target / "folder 3" / "other name"
    assert first.stat().st_ino == second.stat().st_ino


def test_missing_path_leaves_no_target(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "target"
    with pytest.raises(NotFound):
        restore_files(backed.point, backed.store, target, paths=["large", "not there"])
    with pytest.raises(BadInput):
        restore_files(backed.point, backed.store, target, paths=["../large"])
    assert not target.exists()


def test_target_that_is_not_empty_is_refused_and_unchanged(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "mine").write_text("mine")
    before = walk(target)
    with pytest.raises(TargetRefused, match="not empty"):
        restore_files(backed.point, backed.store, target)
    with pytest.raises(TargetRefused, match="not empty"):
        restore_files(backed.point, backed.store, target, paths=["large"])
    assert walk(target) == before


def test_target_that_is_a_file_is_refused(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    with pytest.raises(TargetRefused, match="not a directory"):
        restore_files(backed.point, backed.store, target, overwrite=True)
    assert target.read_text() == "mine"


def test_overwrite_replaces_what_is_in_the_way_and_leaves_the_rest(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "large").mkdir(parents=True)
    (target / "folder 1").write_text("a file in the way")
    (target / "folder 2" / "below" / "file 002" / "full").mkdir(parents=True)
    (target / "mine").write_text("mine")
    report = restore_files(backed.point, backed.store, target, overwrite=True)
    assert report.warnings == ("cannot write folder 2/below/file 002: Directory not empty",)
    left = contents(backed.root)
    del left["folder 2/below/file 002"]
    assert contents(target) == left | {"mine": b"mine"}


def test_overwriting_one_file_touches_nothing_else(backed: Backed) -> None:
    path = backed.root / "folder 1" / "below" / "file 001"
    good = path.read_bytes()
    path.write_bytes(b"damaged by its user")
    (backed.root / "folder 1").chmod(0o700)
    before = walk(backed.root)
    restore_files(backed.point, backed.store, backed.root, paths=["folder 1/below/file 001"], overwrite=True)
    assert path.read_bytes() == good
    after = walk(backed.root)
    changed = {p for p in before if before[p] != after[p]}
    assert changed <= {b"folder 1/below/file 001", b"folder 1/below"}


def test_no_temporary_name_is_left(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "target"
    restore_files(backed.point, backed.store, target)
    restore_files(backed.point, backed.store, target, overwrite=True)
    assert differences(walk(backed.root), walk(target)) == []


def test_missing_chunk_is_damage_and_never_a_wrong_file(backed: Backed, tmp_path: Path) -> None:
    data = [i for i, kind in backed.store.kinds.items() if kind is ChunkKind.DATA]
    del backed.store.chunks[data[len(data) // 2]]
    target = tmp_path / "target"
    with pytest.raises(Damaged):
        restore_files(backed.point, backed.store, target)
    good = contents(backed.root)
    assert all(data == good[path] for path, data in contents(target).items())


def test_full_target_is_no_space(backed: Backed, tmp_path: Path) -> None:
    target = tmp_path / "small"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", target], check=True)
    try:
        with pytest.raises(StorageFull):
            restore_files(backed.point, backed.store, target)
        assert not list(target.rglob(".vdr-*"))
    finally:
        subprocess.run(["umount", target], check=True)


def test_cancel_ends_a_restore(backed: Backed, tmp_path: Path) -> None:
    cancel = Cancel()
    cancel.request()
    with pytest.raises(Cancelled):
        restore_files(backed.point, backed.store, tmp_path / "target", cancel=cancel)


def test_device_without_the_right_is_a_warning(tmp_path: Path) -> None:
    """On a file system mounted without devices' rights a node is still a node; a refused one is listed."""
    source = tmp_path / "source"
    source.mkdir()
    os.setxattr(source, "user.note", b"x")
    (source / "file").write_text("x")
    os.setxattr(source / "file", "user.note", b"x" * 3000)
    store = MemoryStore()
    draft = backup_files(source, store, object_name="t")
    target = tmp_path / "target"
    target.mkdir()
    subprocess.run(["mount", "-t", "ramfs", "ramfs", target], check=True)
    try:
        assert isinstance(draft.root, FilesRoot)
        report = restore_files(draft.root, store, target)
        assert set(report.warnings) == {
            "cannot set extended attributes of .: Operation not supported",
            "cannot set extended attributes of file: Operation not supported",
        }
        assert (target / "file").read_text() == "x"
    finally:
        subprocess.run(["umount", target], check=True)
