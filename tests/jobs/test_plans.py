"""Plans of the node's workflows on a real storage."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from schemas.api import BackupType, RunKind
from schemas.control import BackupItem, RestoreItem, RunSpec
from vdrd.jobs import backup, restore, verify
from vdrd.model.errors import BadInput, NotAuthorised, NotFound
from vdrd.model.points import BackupType as ModelType
from vdrd.model.points import DiskRoot, FilesRoot, ObjectKind, Point, PointDraft
from vdrd.model.progress import Cancel
from vdrd.model.storage import Encryption
from vdrd.store.storage import Storage


def draft(object_name: str, root: DiskRoot | FilesRoot, **more: object) -> PointDraft:
    kind = ObjectKind.DISK if isinstance(root, DiskRoot) else ObjectKind.FILES
    fields: dict[str, object] = {
        "object_name": object_name,
        "kind": kind,
        "backup_type": ModelType.FULL,
        "root": root,
        "source": "/forged",
        "host": "forged",
        "logical_bytes": 0,
        "new_bytes": 0,
        "stored_bytes": 0,
        "started_at": datetime.now(UTC),
        "labels": {"run-id": "forged"},
    }
    return PointDraft(**{**fields, **more})  # type: ignore[arg-type]


EMPTY_DISK = DiskRoot(None, 1, 1 << 20, 65536)
EMPTY_FILES = FilesRoot(None, 0, 0)


def spec(kind: RunKind, **more: object) -> RunSpec:
    fields: dict[str, object] = {
        "run_id": "run",
        "attempt": 1,
        "kind": kind,
        "storage_id": "s",
        "host_id": "host",
        "host_name": "web1",
        "job_id": "job",
        "backup_type": BackupType.INCREMENTAL,
    }
    return RunSpec(**{**fields, **more})  # type: ignore[arg-type]


@pytest.fixture
def storage(storage_dir: Path) -> Iterator[Storage]:
    Storage.create(storage_dir, encryption=Encryption.NONE)
    with Storage.open(storage_dir, writable=True) as opened:
        yield opened


def put(storage: Storage, object_name: str, root: DiskRoot | FilesRoot) -> Point:
    return storage.session().commit(draft(object_name, root))


def test_backup_plan_offers_only_parents_of_the_same_object_and_kind(storage: Storage) -> None:
    good = put(storage, "web1:/a", EMPTY_FILES)
    other = put(storage, "web1:/b", EMPTY_FILES)
    disk = put(storage, "web1:/d", EMPTY_DISK)
    items = [
        BackupItem(object_name="web1:/a", path="/a", parent_id=good.point_id),
        BackupItem(object_name="web1:/c", path="/c", parent_id=other.point_id),
        BackupItem(object_name="web1:/d", path="/d", parent_id=disk.point_id),
        BackupItem(object_name="web1:/e", path="/e", parent_id="0" * 32),
        BackupItem(object_name="web1:/f", path="/f"),
    ]
    found = backup.plan(spec(RunKind.BACKUP_FILES, items=items), storage.point)
    assert [point.point_id for point in found] == [good.point_id]


def test_backup_of_a_key_domain_reaches_that_domain_only(storage: Storage) -> None:
    own = storage.session(domain=3).commit(draft("web1:/a", EMPTY_FILES))
    other = put(storage, "web1:/a", EMPTY_FILES)
    items = [BackupItem(object_name="web1:/a", path="/a", parent_id=point.point_id) for point in (own, other)]
    wanted = spec(RunKind.BACKUP_FILES, items=items)
    assert [point.point_id for point in backup.plan(wanted, storage.point, 3)] == [own.point_id]
    service = backup.BackupService(storage, wanted, lambda _: None, 3)
    assert service.sink.keys == storage.keyring.domain(3).chunk_keys != storage.keyring.domain(0).chunk_keys
    assert service.source is storage.reader_of(3)
    assert service.commit(draft("web1:/a", EMPTY_FILES)).draft.domain == 3
    service.close()
    back = spec(RunKind.RESTORE_FILES, restore=RestoreItem(point_id=own.point_id, target_path="/a"))
    offered = restore.offer(back, storage, Cancel())
    assert offered.service.source is storage.reader_of(3)
    offered.service.close()


def test_backup_commit_replaces_what_the_agent_says_about_itself(storage: Storage) -> None:
    seen: list[Point] = []
    item = BackupItem(object_name="web1:/a", path="/a")
    service = backup.BackupService(storage, spec(RunKind.BACKUP_FILES, items=[item]), seen.append)
    point = service.commit(draft("web1:/a", EMPTY_FILES))
    kept = storage.point(point.point_id).draft
    assert (kept.host, kept.source) == ("web1", "/a")
    assert kept.labels == {"run-id": "run", "host-id": "host", "job-id": "job"}
    assert [one.point_id for one in seen] == [point.point_id]
    service.close()


@pytest.mark.parametrize(
    "forged",
    [draft("somebody-else:/a", EMPTY_FILES), draft("web1:/a", EMPTY_DISK)],
    ids=["other-object", "other-kind"],
)
def test_backup_commit_of_what_is_not_part_of_the_run_is_refused(
    storage: Storage, forged: PointDraft
) -> None:
    item = BackupItem(object_name="web1:/a", path="/a")
    service = backup.BackupService(storage, spec(RunKind.BACKUP_FILES, items=[item]), lambda _: None)
    with pytest.raises(NotAuthorised):
        service.commit(forged)
    service.close()
    assert storage.points() == []


def test_backup_parent_forgotten_meanwhile_is_no_parent_any_more(storage: Storage) -> None:
    kept, gone = put(storage, "web1:/a", EMPTY_FILES), put(storage, "web1:/b", EMPTY_FILES)
    service = backup.BackupService(storage, spec(RunKind.BACKUP_FILES), lambda _: None)
    storage.forget([gone.point_id])
    assert service.hold([kept, gone]) == [kept]
    service.close()


def test_backup_service_after_its_release_takes_nothing(storage: Storage) -> None:
    item = BackupItem(object_name="web1:/a", path="/a")
    service = backup.BackupService(storage, spec(RunKind.BACKUP_FILES, items=[item]), lambda _: None)
    assert service.sink.claim(b"x" * 32) == b"\x01"
    service.close()
    with pytest.raises(NotFound):
        service.commit(draft("web1:/a", EMPTY_FILES))
    assert storage.points() == []


def test_restore_plan_gives_the_root_and_refuses_another_kind(storage: Storage) -> None:
    disk = put(storage, "web1:/d", EMPTY_DISK)
    wanted = RestoreItem(point_id=disk.point_id, target_path="/t")
    root = restore.plan(spec(RunKind.RESTORE_DISK, restore=wanted), storage.point)
    assert (root.root_id, root.size_bytes, root.block_bytes) == (None, 1 << 20, 65536)
    with pytest.raises(BadInput):
        restore.plan(spec(RunKind.RESTORE_FILES, restore=wanted), storage.point)
    missing = RestoreItem(point_id="0" * 32, target_path="/t")
    with pytest.raises(NotFound):
        restore.plan(spec(RunKind.RESTORE_DISK, restore=missing), storage.point)


def test_verify_reports_a_flipped_byte_as_a_result(storage: Storage) -> None:
    point = put(storage, "web1:/d", EMPTY_DISK)
    everything = verify.plan(spec(RunKind.VERIFY, read_data=True))
    assert verify.run(everything, storage, lambda _: None, Cancel()).damages == []
    path = next(path for path in (storage.path / "points").rglob("*") if path.is_file())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    found = verify.run(everything, storage, lambda _: None, Cancel())
    assert found.damages
    assert found.damaged_point_ids == [point.point_id]
