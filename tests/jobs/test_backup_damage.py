"""What a node has lost of a parent is made again by the agent, which is told of it with the parent."""

import random
from pathlib import Path

import pytest

from agent.work import _lacking
from schemas.api import BackupType, RunKind
from schemas.control import BackupItem
from tests.jobs.test_plans import spec
from tests.vdrd.store.test_heal import flip, records
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree
from vdrd.jobs import backup
from vdrd.jobs.backup import BackupService
from vdrd.model.points import FilesRoot, Point
from vdrd.store import Encryption, Storage

NAME = "web1:/tree"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    source = random.Random(2)
    root = tmp_path / "tree"
    root.mkdir()
    for number in range(30):
        (root / f"{number:02}").write_bytes(source.randbytes(8_000))
    return root


def run(storage: Storage, tree: Path, parent: Point | None, backup_type: BackupType) -> Point:
    """A run as node and agent do it together, without the wire between them."""
    item = BackupItem(object_name=NAME, path=str(tree), parent_id=parent.point_id if parent else None)
    wanted = spec(RunKind.BACKUP_FILES, items=[item], backup_type=backup_type)
    service = BackupService(storage, wanted, lambda _: None)
    try:
        told = service.parents(backup.plan(wanted, storage.point))
        record = told[0] if told else None
        is_full = backup_type is BackupType.FULL
        root = FilesRoot(record.root_id, record.levels, record.entry_count) if record else None
        draft = backup_files(
            tree,
            service.sink,
            object_name=NAME,
            parent=None if is_full else root,
            parent_source=None if is_full or root is None else service.source,
            full=is_full,
            lacking=lambda: _lacking(record),
        )
        return service.commit(draft)
    finally:
        service.close()


@pytest.mark.parametrize(
    ("backup_type", "is_known"), [(BackupType.INCREMENTAL, True), (BackupType.FULL, False)], ids=str
)
def test_lost_chunk_of_unchanged_files_comes_back_with_the_next_run(
    tmp_path: Path, tree: Path, backup_type: BackupType, is_known: bool
) -> None:
    Storage.create(tmp_path / "s", encryption=Encryption.NONE)
    with Storage.open(tmp_path / "s", writable=True) as storage:
        first = run(storage, tree, None, BackupType.FULL)
        root = first.draft.root
        assert isinstance(root, FilesRoot)
        (extent,) = FileTree(root, storage.reader).find("07").extents
        assert extent.chunk_id is not None
        ((pack, at),) = records(tmp_path / "s", extent.chunk_id)
        flip(pack, at + 60)
        if is_known:
            assert storage.verify(read_data=True).affected_points == (first.point_id,)
            assert storage.lacking(first) == {extent.chunk_id}
        run(storage, tree, first, backup_type)
        assert storage.lacking(first) == frozenset()
        report = storage.verify(read_data=True)
        assert (report.damages, report.affected_points) == ([], ())
        found = FileTree(root, storage.reader)
        for path in tree.iterdir():
            assert found.open_file(found.find(path.name)).read(0, 1 << 20) == path.read_bytes()
