import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.files.corner_cases import make_corner_cases, remove_tree
from tests.files.memory_store import MemoryStore
from tests.files.walker import differences, walk
from vdrd.files.backup import backup_files
from vdrd.files.restore import restore_files
from vdrd.model.points import FilesRoot

REAL_FILES = 20_000


@pytest.fixture
def corner_cases(tmp_path: Path) -> Iterator[Path]:
    root = tmp_path / "corner cases"
    make_corner_cases(root)
    os.link(root / "links" / "outside", tmp_path / "outside")
    yield root
    remove_tree(tmp_path)


def back_up(root: Path, store: MemoryStore, parent: FilesRoot | None = None) -> FilesRoot:
    draft = backup_files(root, store, object_name="tree", parent=parent, parent_source=store)
    assert draft.warnings == ()
    assert isinstance(draft.root, FilesRoot)
    return draft.root


def test_corner_cases_restored_are_identical(corner_cases: Path, tmp_path: Path) -> None:
    store = MemoryStore()
    before = walk(corner_cases)
    root = back_up(corner_cases, store)
    assert root.entry_count == len(before)
    target = tmp_path / "restored"
    report = restore_files(root, store, target)
    assert report.warnings == ()
    assert differences(before, walk(target)) == []
    assert report.file_count == sum(1 for seen in before.values() if seen.type != 0o040000)


def test_corner_cases_restored_over_a_changed_tree_are_identical(corner_cases: Path) -> None:
    store = MemoryStore()
    before = walk(corner_cases)
    root = back_up(corner_cases, store)
    shutil.rmtree(corner_cases / "order")
    (corner_cases / "order").symlink_to("/etc")
    (corner_cases / "sizes" / "4096").write_bytes(b"changed")
    (corner_cases / "sizes" / "1").unlink()
    (corner_cases / "sizes" / "1").mkdir()
    (corner_cases / "links" / "other").chmod(0o7000)
    etc = set(Path("/etc").iterdir())
    report = restore_files(root, store, corner_cases, overwrite=True)
    assert report.warnings == ()
    assert set(Path("/etc").iterdir()) == etc
    assert differences(before, walk(corner_cases)) == []


def test_corner_cases_unchanged_add_no_bytes(corner_cases: Path) -> None:
    store = MemoryStore()
    first = back_up(corner_cases, store)
    chunks = len(store.chunks)
    assert back_up(corner_cases, store, first) == first
    assert back_up(corner_cases, store) == first
    assert len(store.chunks) == chunks


def test_real_files_restored_are_identical(tmp_path: Path) -> None:
    source = tmp_path / "source"
    copied = _copy_real_files(source)
    assert copied >= REAL_FILES
    before = walk(source)
    store = MemoryStore()
    root = back_up(source, store)
    target = tmp_path / "restored"
    assert restore_files(root, store, target).warnings == ()
    assert differences(before, walk(target)) == []


def _copy_real_files(target: Path) -> int:
    """The first files of /usr, below 200 KB each so that the test stays small; whole directories in their
    order."""
    copied = 0
    rng = random.Random(1)
    for folder, _, names in os.walk("/usr"):
        place = target / os.path.relpath(folder, "/usr")
        place.mkdir(parents=True, exist_ok=True)
        for name in names:
            path = Path(folder, name)
            if path.is_symlink() or path.stat().st_size < 200_000:
                shutil.copy2(path, place / name, follow_symlinks=False)
                if rng.random() < 0.01 and not path.is_symlink():
                    os.link(place / name, place / f"{name}.linked")
                copied += 1
        shutil.copystat(folder, place)
        if copied >= REAL_FILES:
            break
    return copied
