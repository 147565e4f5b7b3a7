"""Locks, legal holds and retention of a storage, under clocks that a test can set."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY
from vdrd.model.errors import (
    BadInput,
    Damaged,
    GuardDamaged,
    LockShortened,
    NotFound,
    PointLocked,
    StorageUnwritable,
)
from vdrd.model.points import BackupType, DiskRoot, ObjectKind, PointDraft
from vdrd.model.retention import RetentionPolicy
from vdrd.model.storage_time import ClockReading
from vdrd.store import Encryption, Storage, guard
from vdrd.store.directory import StorageDirectory

pytestmark = pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM], ids=["aes"], indirect=True)

T = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOUR, DAY, YEAR = timedelta(hours=1), timedelta(days=1), timedelta(days=365)


class Clocks:
    """The clocks of a machine, set by hand."""

    def __init__(self) -> None:
        self.reading = ClockReading(T, b"boot-one", 0)

    def __call__(self) -> ClockReading:
        return self.reading

    def pass_by(self, time: timedelta) -> None:
        """Time passes, for both clocks."""
        steady_ms = self.reading.steady_ms + time // timedelta(milliseconds=1)
        self.reading = replace(self.reading, wall=self.reading.wall + time, steady_ms=steady_ms)

    def set(self, wall: datetime) -> None:
        """Somebody sets the wall clock."""
        self.reading = replace(self.reading, wall=wall)

    def restart(self, wall: datetime) -> None:
        """The machine starts anew, and its wall clock says this."""
        self.reading = ClockReading(wall, b"boot-two", 0)


def draft(name: str = "disk") -> PointDraft:
    return PointDraft(
        object_name=name,
        kind=ObjectKind.DISK,
        backup_type=BackupType.FULL,
        root=DiskRoot(None, 1, 1 << 20, 65536),
        source="/dev/sdb",
        host="host",
        logical_bytes=1 << 20,
        new_bytes=0,
        stored_bytes=0,
        started_at=T,
    )


def commit(storage: Storage, name: str = "disk") -> str:
    with storage.session() as session:
        return session.commit(draft(name)).point_id


@pytest.fixture
def clocks() -> Clocks:
    return Clocks()


@pytest.fixture
def storage(storage_path: Path, clocks: Clocks) -> Iterator[Storage]:
    with Storage.open(storage_path, key=KEY, writable=True, clocks=clocks) as opened:
        yield opened


def files(storage: Storage) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (storage.path / "points").iterdir()}


def test_locked_point_is_not_forgotten_before_its_time(storage: Storage, clocks: Clocks) -> None:
    first, second = commit(storage), commit(storage)
    storage.lock(first, T + 10 * DAY)
    before = files(storage)
    with pytest.raises(PointLocked, match=r"is locked until 2026-12-03T12:00:00Z") as refused:
        storage.forget([second, first])
    assert refused.value.exit_code == 5
    assert files(storage) == before
    clocks.pass_by(10 * DAY)
    assert storage.forget([first]) == [first]
    assert set(files(storage)) == {f"{second}.point"}
    assert storage.guard.locks().locks == {}


def test_lock_outlives_the_process(storage_path: Path, clocks: Clocks) -> None:
    with Storage.open(storage_path, key=KEY, writable=True, clocks=clocks) as storage:
        point = commit(storage)
        storage.lock(point, T + DAY)
    with Storage.open(storage_path, key=KEY, writable=True, clocks=clocks) as again:
        with suppress(PointLocked):
            again.forget([point])
        assert again.book.names() == [point]


def test_lock_is_extended_and_never_shortened(storage: Storage, clocks: Clocks) -> None:
    point = commit(storage)
    storage.lock(point, T + 10 * DAY)
    with pytest.raises(LockShortened, match="2026-12-03"):
        storage.lock(point, T + 9 * DAY)
    clocks.pass_by(2 * DAY)
    with pytest.raises(BadInput, match="has passed"):
        storage.lock(point, T + DAY)
    assert storage.guard.locks().of(point).until == T + 10 * DAY
    assert storage.lock(point, T + 11 * DAY).until == T + 11 * DAY


def test_hold_has_no_end_and_its_release_leaves_the_lock(storage: Storage, clocks: Clocks) -> None:
    point = commit(storage)
    storage.lock(point, T + DAY)
    storage.put_hold(point, True)
    clocks.pass_by(1000 * DAY)
    with pytest.raises(PointLocked, match="legal hold"):
        storage.forget([point])
    storage.lock(point, T + 1001 * DAY)
    storage.put_hold(point, False)
    with pytest.raises(PointLocked, match="is locked until"):
        storage.forget([point])
    clocks.pass_by(DAY)
    storage.forget([point])


def test_lock_of_a_point_that_is_not_there_is_refused(storage: Storage) -> None:
    with pytest.raises(NotFound):
        storage.lock("0" * 32, T + DAY)


def test_lock_on_a_storage_opened_for_reading_is_refused(storage_path: Path, clocks: Clocks) -> None:
    with Storage.open(storage_path, key=KEY, writable=True, clocks=clocks) as storage:
        point = commit(storage)
    with Storage.open(storage_path, key=KEY, clocks=clocks) as reader, pytest.raises(StorageUnwritable):
        reader.lock(point, T + DAY)


@pytest.mark.parametrize("damage", ["removed", "emptied", "one bit", "of another point"])
def test_damaged_lock_record_frees_nothing(storage: Storage, damage: str) -> None:
    point, other = commit(storage), commit(storage)
    storage.lock(point, T + DAY)
    storage.put_hold(other, False)
    record = storage.path / "points" / f"{point}.lock"
    data = bytearray(record.read_bytes())
    if damage == "removed":
        record.unlink()
    elif damage == "emptied":
        record.write_bytes(b"")
    elif damage == "one bit":
        data[50] ^= 1
        record.write_bytes(data)
    else:
        record.write_bytes(record.with_name(f"{other}.lock").read_bytes())
    with pytest.raises(PointLocked):
        storage.forget([point])
    assert [str(error) for error in storage.guard.locks().damages] != []
    storage.lock(point, T + 2 * DAY)
    assert storage.guard.locks().damages == ()


def test_damaged_lock_record_that_the_guard_file_does_not_know_counts_as_locked(
    storage: Storage, clocks: Clocks
) -> None:
    point = commit(storage)
    (storage.path / "points" / f"{point}.lock").write_bytes(b"no lock record")
    clocks.pass_by(1000 * DAY)
    with pytest.raises(PointLocked, match=r"counts as locked: lock record of point .* is damaged"):
        storage.forget([point])
    storage.put_hold(point, False)
    storage.forget([point])


def test_damaged_guard_file_stops_every_removal_until_it_is_mended(storage: Storage) -> None:
    point, free = commit(storage), commit(storage)
    storage.lock(point, T + DAY)
    guard = storage.path / "guard.bin"
    data = bytearray(guard.read_bytes())
    data[30] ^= 1
    guard.write_bytes(data)
    before = files(storage)
    for act in (
        lambda: storage.forget([free]),
        lambda: storage.retain("disk", RetentionPolicy(keep_last=1)),
        storage.collect,
    ):
        with pytest.raises(GuardDamaged, match="accept-clock") as refused:
            raise_message(act)
        assert refused.value.exit_code == 7
    assert files(storage) == before
    commit(storage)  # a backup goes on
    storage.accept_clock()
    storage.forget([free])
    with pytest.raises(PointLocked):
        storage.forget([point])


def raise_message(act: object) -> None:
    """Let the hint be part of what is matched."""
    try:
        act()  # type: ignore[operator]
    except GuardDamaged as error:
        raise GuardDamaged(what=error.message, reason=error.fields["reason"]) from error


def test_lost_guard_file_leaves_the_records_beside_the_points(storage: Storage) -> None:
    point = commit(storage)
    storage.lock(point, T + DAY)
    (storage.path / "guard.bin").unlink()
    with pytest.raises(PointLocked):
        storage.forget([point])


class Failing(StorageDirectory):
    """Fails at the nth change from the moment it is armed."""

    left = -1

    def step(self, operation: str, name: str):  # type: ignore[no-untyped-def]
        if self.left == 0:
            raise StorageUnwritable(path=self.path(name), reason="it was pulled out")
        self.left -= 1
        return super().step(operation, name)


def test_lock_cut_off_at_any_step_is_whole_or_not_there(storage_path: Path, clocks: Clocks) -> None:
    directory = Failing(storage_path)
    with Storage.open(storage_path, key=KEY, writable=True, clocks=clocks, directory=directory) as storage:
        point = commit(storage)
        until, at, is_done = T, 0, False
        while not is_done:
            before, until = storage.guard.locks().of(point).until, until + DAY
            directory.left = at
            try:
                storage.lock(point, until)
                is_done = True
            except StorageUnwritable:
                at += 1
            directory.left = -1
            found = storage.guard.locks()
            assert found.of(point).until in ([until] if is_done else [before, until])
            assert found.damages == ()
        assert at > 5


def test_clock_set_forward_frees_no_lock(storage: Storage, clocks: Clocks) -> None:
    point = commit(storage)
    storage.lock(point, T + 10 * DAY)
    clocks.set(T + YEAR)
    with pytest.raises(PointLocked):
        storage.forget([point])
    assert storage.guard.time().is_doubtful
    clocks.restart(T + YEAR)
    with pytest.raises(PointLocked):
        storage.forget([point])
    assert storage.accept_clock() == T + YEAR
    storage.forget([point])


def test_clock_set_back_neither_stops_nor_prolongs(storage: Storage, clocks: Clocks) -> None:
    point = commit(storage)
    storage.lock(point, T + 10 * DAY)
    clocks.set(T - YEAR)
    clocks.pass_by(9 * DAY)
    with pytest.raises(PointLocked):
        storage.forget([point])
    newer = storage.book.read(commit(storage))
    assert abs(newer.time - (T + 9 * DAY)) < HOUR
    clocks.pass_by(DAY + HOUR)
    storage.forget([point])


def test_retention_goes_by_the_time_of_the_storage(storage: Storage, clocks: Clocks) -> None:
    policy = RetentionPolicy(keep_days=30)
    points = [commit(storage)]
    clocks.pass_by(DAY)
    points.append(commit(storage))
    clocks.set(T + YEAR)
    report = storage.retain("disk", policy)
    assert (report.removed, report.is_clock_doubtful) == ([], True)
    clocks.set(T + DAY)
    clocks.pass_by(30 * DAY)
    points.append(commit(storage))
    report = storage.retain("disk", policy)
    assert (report.removed, report.is_clock_doubtful) == ([points[1], points[0]], False)
    assert [point.point_id for point in storage.points()] == [points[2]]


def test_retention_waits_until_both_clocks_agree(storage: Storage, clocks: Clocks) -> None:
    old = commit(storage)
    clocks.pass_by(40 * DAY)
    commit(storage)
    policy = RetentionPolicy(keep_days=30)
    assert storage.retain("disk", policy, not_after=T + DAY).removed == []
    assert storage.retain("disk", policy, not_after=T + YEAR).removed == [old]


def test_retention_tells_why_and_stops_at_locks_and_at_what_is_in_use(storage: Storage) -> None:
    points = [commit(storage) for _ in range(5)]
    other = commit(storage, "other")
    storage.lock(points[0], T + DAY)
    policy = RetentionPolicy(keep_last=2)
    dry = storage.retain("disk", policy, dry_run=True, keep=[points[1]])
    assert [point.point_id for point in storage.points("disk")] == points
    report = storage.retain("disk", policy, keep=[points[1]])
    assert dry == report
    assert report.kept == {points[4]: ("newest", "last 1"), points[3]: ("last 2",)}
    assert report.removed == [points[2]]
    assert report.blocked == {points[0]: "is locked until 2026-11-24T12:00:00Z", points[1]: "is in use"}
    assert [point.point_id for point in storage.points()] == [*points[:2], *points[3:], other]


def test_retention_never_leaves_only_a_broken_point(storage: Storage) -> None:
    whole, broken = commit(storage), commit(storage)
    assert storage.retain("disk", RetentionPolicy(keep_last=1), broken=[broken]).removed == []
    assert storage.retain("disk", RetentionPolicy(keep_last=1)).removed == [whole]


def test_point_that_cannot_be_read_is_left_alone_by_retention(storage: Storage) -> None:
    points = [commit(storage) for _ in range(3)]
    path = storage.path / "points" / f"{points[0]}.point"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged):
        storage.book.read(points[0], afresh=True)
    with Storage.open(storage.path, key=KEY) as reader:
        assert [point.point_id for point in reader.points("disk")] == points[1:]


def test_restarted_service_that_cannot_see_the_boot_id_knows_its_machine_by_its_unit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, encryption: Encryption
) -> None:
    text = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii")
    monkeypatch.delenv(guard.BOOT_ID_VARIABLE, raising=False)
    seen = guard._boot.__wrapped__()
    assert seen == bytes.fromhex(text.replace("-", "")[:16])
    monkeypatch.setattr(guard, "_BOOT_ID_PATH", tmp_path / "hidden")
    assert guard._boot.__wrapped__() != seen
    monkeypatch.setenv(guard.BOOT_ID_VARIABLE, text.replace("-", "").strip())
    assert guard._boot.__wrapped__() == seen
    monkeypatch.setenv(guard.BOOT_ID_VARIABLE, "%b")
    assert guard._boot.__wrapped__() != seen
