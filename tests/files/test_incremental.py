import os
import random
from pathlib import Path

import pytest

from tests.files.memory_store import MemoryStore
from tests.files.walker import differences, walk
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree
from vdrd.files.restore import restore_files
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import Cancelled
from vdrd.model.points import BackupType, FilesRoot, PointDraft
from vdrd.model.progress import Cancel, Progress


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """2,000 small files in 20 directories and one large one."""
    rng = random.Random(3)
    root = tmp_path / "tree"
    for number in range(2000):
        folder = root / f"folder {number // 100:02}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"file {number:04}").write_bytes(rng.randbytes(rng.randrange(6000)))
    (root / "large").write_bytes(rng.randbytes(3_000_000))
    return root


class Runs:
    """Backs up into one store, each run on the one before, and proves each point by restoring it."""

    def __init__(self, root: Path, work: Path) -> None:
        self.root = root
        self.work = work
        self.store = MemoryStore()
        self.last: FilesRoot | None = None
        self.count = 0

    def run(self, *, full: bool = False, include: tuple[str, ...] = ()) -> PointDraft:
        draft = backup_files(
            self.root,
            self.store,
            object_name="tree",
            include=include,
            parent=self.last,
            parent_source=self.store,
            full=full,
        )
        assert draft.warnings == ()
        assert isinstance(draft.root, FilesRoot)
        self.last = draft.root
        self.count += 1
        return draft

    def prove(self) -> None:
        assert self.last is not None
        target = self.work / f"restored {self.count}"
        restore_files(self.last, self.store, target)
        assert differences(walk(self.root), walk(target)) == []

    def data_bytes(self) -> int:
        return sum(len(p) for i, p in self.store.chunks.items() if self.store.kinds[i] is ChunkKind.DATA)


@pytest.fixture
def runs(tree: Path, tmp_path: Path) -> Runs:
    made = Runs(tree, tmp_path)
    assert made.run().backup_type is BackupType.FULL
    return made


def test_unchanged_tree_reads_and_adds_nothing(runs: Runs) -> None:
    before = runs.last
    draft = runs.run()
    assert draft.backup_type is BackupType.INCREMENTAL
    assert (draft.read_bytes, draft.new_bytes, draft.stored_bytes) == (0, 0, 0)
    assert runs.last == before


def test_full_run_on_an_unchanged_tree_reads_all_and_adds_nothing(runs: Runs) -> None:
    draft = runs.run(full=True)
    assert draft.backup_type is BackupType.FULL
    assert draft.read_bytes >= draft.logical_bytes - 2_000_000
    assert draft.new_bytes == 0


def test_touched_files_are_compared_and_add_no_data(runs: Runs) -> None:
    for number in range(0, 2000, 10):
        path = runs.root / f"folder {number // 100:02}" / f"file {number:04}"
        path.touch()
        path.chmod(0o640)
    before = runs.data_bytes()
    runs.run()
    assert runs.data_bytes() == before
    runs.prove()


def test_content_changed_with_size_and_mtime_restored_is_caught(runs: Runs) -> None:
    for path in (runs.root / "folder 03" / "file 0333", runs.root / "large"):
        info = path.stat()
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        with path.open("r+b") as file:
            file.write(content)
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        assert (path.stat().st_size, path.stat().st_mtime_ns) == (info.st_size, info.st_mtime_ns)
    draft = runs.run()
    assert 0 < draft.new_bytes < 700_000
    runs.prove()


def test_added_deleted_and_replaced_entries_are_seen(runs: Runs) -> None:
    (runs.root / "folder 05" / "file 0505").unlink()
    (runs.root / "folder 05" / "file 0506").unlink()
    (runs.root / "folder 05" / "file 0506").symlink_to("file 0507")
    (runs.root / "folder 05" / "file 0508").unlink()
    (runs.root / "folder 05" / "file 0508").mkdir()
    (runs.root / "folder 05" / "file 0508" / "within").write_text("new")
    (runs.root / "0 first").write_text("first of all")
    (runs.root / "zz last").write_text("last of all")
    for path in sorted((runs.root / "folder 07").iterdir()):
        path.unlink()
    (runs.root / "folder 07").rmdir()
    draft = runs.run()
    assert draft.new_bytes < 500_000
    runs.prove()


def test_renamed_directory_adds_little_data(runs: Runs) -> None:
    before = runs.data_bytes()
    (runs.root / "folder 10").rename(runs.root / "a new name")
    runs.run()
    moved = sum(path.stat().st_size for path in (runs.root / "a new name").iterdir())
    assert moved > 200_000
    # Its first and last packs were shared with the neighbours.
    assert runs.data_bytes() - before < 3 * moved
    runs.prove()
    again = runs.data_bytes()
    (runs.root / "a new name").rename(runs.root / "folder 10")
    runs.run()
    assert runs.data_bytes() - again < 3 * moved


def test_renamed_large_file_adds_no_data(runs: Runs) -> None:
    before = runs.data_bytes()
    (runs.root / "large").rename(runs.root / "folder 01" / "moved")
    runs.run()
    assert runs.data_bytes() == before
    runs.prove()


def test_new_name_of_a_known_file_joins_its_group(runs: Runs) -> None:
    before = runs.data_bytes()
    os.link(runs.root / "folder 02" / "file 0200", runs.root / "second name")
    os.link(runs.root / "large", runs.root / "second large")
    runs.run()
    assert runs.data_bytes() == before
    runs.prove()


def test_appended_large_file_adds_its_end_only(runs: Runs) -> None:
    with (runs.root / "large").open("ab") as file:
        file.write(bytes(1000))
    assert runs.run().new_bytes < 600_000
    runs.prove()


def test_many_small_changes_over_many_runs_restore_identically(runs: Runs) -> None:
    rng = random.Random(11)
    for _ in range(5):
        for number in rng.sample(range(2000), 40):
            path = runs.root / f"folder {number // 100:02}" / f"file {number:04}"
            if path.exists() and rng.random() < 0.3:
                path.unlink()
            else:
                path.parent.mkdir(exist_ok=True)
                path.write_bytes(rng.randbytes(rng.randrange(9000)))
        runs.run()
    runs.prove()


def test_damaged_parent_is_read_around(runs: Runs) -> None:
    segments = [i for i, kind in runs.store.kinds.items() if kind is ChunkKind.MANIFEST_SEGMENT]
    plain = runs.store.chunks[segments[3]]
    runs.store.chunks[segments[3]] = plain[:40] + bytes([plain[40] ^ 1]) + plain[41:-8] + b"\xff" * 8
    draft = backup_files(runs.root, runs.store, object_name="t", parent=runs.last, parent_source=runs.store)
    runs.store.chunks[segments[3]] = plain
    assert draft.warning_count == 1
    assert "damaged" in draft.warnings[0]
    assert isinstance(draft.root, FilesRoot)
    runs.last = draft.root
    runs.prove()


def test_point_before_without_its_head_is_read_around(runs: Runs) -> None:
    assert runs.last is not None
    assert runs.last.root_id is not None
    plain = runs.store.chunks.pop(runs.last.root_id)
    draft = backup_files(
        runs.root, runs.store, object_name="t", parent=runs.last, parent_source=runs.store, parent_id="x"
    )
    assert (draft.warning_count, draft.backup_type, draft.parent_id) == (1, BackupType.FULL, None)
    assert draft.read_bytes == draft.logical_bytes
    runs.store.chunks[runs.last.root_id] = plain


def test_full_run_stores_again_what_a_storage_lost(runs: Runs) -> None:
    (runs.root / "folder 04" / "file 0400").write_bytes(b"so that packs are not simply made again")
    runs.run()
    lost = [i for i, kind in runs.store.kinds.items() if kind is ChunkKind.DATA][::3]
    for chunk_id in lost:
        runs.store.lose(chunk_id)
    assert runs.run().new_bytes == 0
    draft = runs.run(full=True)
    assert draft.new_bytes > 0
    runs.prove()


def test_include_narrows_and_keeps_the_directories_above(runs: Runs) -> None:
    runs.run(include=("file 01*", "/folder 03/"))
    assert runs.last is not None
    paths = {entry.path.decode() for entry in FileTree(runs.last, runs.store).entries_from(b"")}
    everything = {str(path.relative_to(runs.root)) for path in runs.root.rglob("*")}
    expected = {p for p in everything if p.startswith(("folder 01/file 01", "folder 03/"))}
    assert paths == expected | {"", "folder 01", "folder 03"}


def test_cancel_ends_the_run(runs: Runs) -> None:
    cancel = Cancel()
    cancel.request()
    with pytest.raises(Cancelled):
        backup_files(runs.root, runs.store, object_name="t", cancel=cancel)


def test_progress_ends_with_all_files_and_bytes(tree: Path) -> None:
    seen: list[Progress] = []
    draft = backup_files(tree, MemoryStore(), object_name="t", progress=seen.append)
    assert seen[-1].done_files == seen[-1].total_files == draft.root.entry_count  # type: ignore[union-attr]
    assert seen[-1].done_bytes == draft.read_bytes == draft.logical_bytes
    assert seen[-1].new_bytes <= draft.new_bytes
