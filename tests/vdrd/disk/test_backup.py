"""Backing up disks: what is read, what is sent, what the map shares, and what a bad source does."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vdrd.disk.backup import LEAF_BYTES, backup_disk
from vdrd.disk.map_writer import MapReader
from vdrd.formats.storage import BLOCK_BYTES
from vdrd.model.chunks import ChunkKeys, ChunkSource, EncodedBatch
from vdrd.model.errors import BadInput, Cancelled, Damaged, NotFound, SourceUnreadable
from vdrd.model.extents import Extent
from vdrd.model.points import BackupType, DiskRoot, Point, PointDraft
from vdrd.model.progress import Cancel, Progress
from vdrd.store import Encryption, Storage, WriteSession

Restored = Callable[[DiskRoot], bytes]


def run(storage: Storage, path: Path, **options: Any) -> Point:
    with storage.session() as session:
        return session.commit(draft_of(session, path, **options))


def draft_of(sink: Any, path: Path, **options: Any) -> PointDraft:
    options = {"progress": lambda _: None, "cancel": Cancel(), **options}
    return backup_disk(path, sink, object_name="disk", **options)


def changed_run(storage: Storage, path: Path, parent: Point, changed: list[Extent]) -> Point:
    root = parent.draft.root
    assert isinstance(root, DiskRoot)
    return run(storage, path, changed=changed, parent=root, parent_source=storage.reader)


class Without:
    """A chunk source that has lost a chunk."""

    def __init__(self, source: ChunkSource, lost: bytes | None) -> None:
        self._source = source
        self._lost = lost

    def fetch(self, ids: bytes) -> list[bytes]:
        if ids == self._lost:
            raise Damaged(what=f"chunk {ids.hex()}", reason="it is in no pack")
        return self._source.fetch(ids)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    blocks=st.lists(st.sampled_from("0tn-"), min_size=0, max_size=40),
    tail=st.integers(0, BLOCK_BYTES - 1),
    seed=st.integers(0, 1000),
)
def test_random_sparse_disk_comes_back_identical(
    storage: Storage, restored: Restored, tmp_path: Path, blocks: list[str], tail: int, seed: int
) -> None:
    path = tmp_path / "disk.img"
    source = random.Random(seed)
    with path.open("wb") as image:
        for block in [*blocks, "n" if tail else ""]:
            length = BLOCK_BYTES if block else 0
            match block:
                case "0":
                    image.write(bytes(length))
                case "t":
                    image.write((b"%d text " % source.randrange(10) * length)[:length])
                case "n":
                    image.write(source.randbytes(length))
                case _:
                    image.seek(length, os.SEEK_CUR)
        image.truncate(len(blocks) * BLOCK_BYTES + tail)
    point = run(storage, path)
    root = point.draft.root
    assert isinstance(root, DiskRoot)
    assert root.size_bytes == path.stat().st_size
    assert restored(root) == path.read_bytes()
    with storage.reader.open_disk(root) as disk:
        for _ in range(5):
            start = source.randrange(root.size_bytes + 1)
            length = source.randrange(min(root.size_bytes - start, 300_000) + 1)
            assert disk.read(start, length) == path.read_bytes()[start : start + length]


def test_holes_are_not_read_and_zeros_not_stored(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    with path.open("wb") as image:
        image.truncate(1 << 40)
        image.seek(5 << 30)
        image.write(b"x" * 100)
        image.seek(700 << 30)
        image.write(bytes(1 << 20))
    draft = run(storage, path).draft
    assert draft.logical_bytes == 1 << 40
    assert draft.read_bytes < 2 << 20
    assert draft.new_bytes < 3 * BLOCK_BYTES
    root = draft.root
    assert isinstance(root, DiskRoot)
    assert root.levels == 3
    with storage.reader.open_disk(root) as disk:
        assert disk.read(5 << 30, 101) == b"x" * 100 + b"\0"
        assert disk.read((1 << 40) - 10, 10) == bytes(10)
        data = [extent for extent in disk.extents(0, 1 << 40) if extent[2] == 0]
        assert data == [(5 << 30, BLOCK_BYTES, 0)]


def test_disk_of_zeros_has_no_root(storage: Storage, restored: Restored, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(200_000))
    root = run(storage, path).draft.root
    assert root.root_id is None
    assert isinstance(root, DiskRoot)
    assert restored(root) == bytes(200_000)


def test_increment_sends_the_changed_blocks_only(
    storage: Storage, restored: Restored, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(48)
    run(storage, path)
    with path.open("r+b") as image:
        for at in (0, 17 << 20, (33 << 20) + 5):
            image.seek(at)
            image.write(b"changed")
    draft = run(storage, path).draft
    assert draft.new_bytes < 3 * BLOCK_BYTES + 4 * 8232
    assert isinstance(draft.root, DiskRoot)
    assert restored(draft.root) == path.read_bytes()


def test_list_of_changed_blocks_is_all_that_is_read(
    storage: Storage, restored: Restored, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(80)
    parent = run(storage, path)
    with path.open("r+b") as image:
        for at in (100, LEAF_BYTES - 3, 70 << 20):
            image.seek(at)
            image.write(b"changed")
        image.seek(20 << 20)
        image.write(bytes(4 << 20))
    changed = [Extent(70 << 20, 7), Extent(LEAF_BYTES - 3, 7), Extent(100, 7), Extent(20 << 20, 4 << 20)]
    point = changed_run(storage, path, parent, changed)
    assert point.draft.read_bytes <= 4 * BLOCK_BYTES + (4 << 20)
    assert point.draft.backup_type is BackupType.INCREMENTAL
    assert isinstance(point.draft.root, DiskRoot)
    assert restored(point.draft.root) == path.read_bytes()
    assert point.draft.root == run(storage, path).draft.root


def test_empty_list_of_changed_blocks_gives_the_parents_root(
    storage: Storage, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(20)
    parent = run(storage, path)
    point = changed_run(storage, path, parent, [])
    assert point.draft.root == parent.draft.root
    assert point.draft.read_bytes == 0


def test_changed_blocks_that_became_zero_everywhere_leave_no_root(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * 200_000)
    parent = run(storage, path)
    path.write_bytes(bytes(200_000))
    point = changed_run(storage, path, parent, [Extent(0, 200_000)])
    assert point.draft.root.root_id is None


def test_list_of_changed_blocks_is_not_believed_when_the_size_changed(
    storage: Storage, restored: Restored, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(20)
    parent = run(storage, path)
    with path.open("ab") as image:
        image.write(b"grown" * 1000)
    point = changed_run(storage, path, parent, [])
    assert isinstance(point.draft.root, DiskRoot)
    assert restored(point.draft.root) == path.read_bytes()


def test_list_of_changed_blocks_without_a_parent_is_noted_and_all_is_read(
    storage: Storage, restored: Restored, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(20)
    notes: list[str] = []
    point = run(storage, path, changed=[Extent(0, 7)], on_note=notes.append)
    assert len(notes) == 1
    assert "no point" in notes[0]
    assert isinstance(point.draft.root, DiskRoot)
    assert restored(point.draft.root) == path.read_bytes()


def test_list_of_changed_blocks_of_another_disk_is_refused(
    storage: Storage, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(20)
    parent = run(storage, path)
    with pytest.raises(BadInput, match="of another disk"):
        changed_run(storage, path, parent, [Extent(0, 7), Extent(20 << 20, 7)])
    assert len(storage.points()) == 1


@pytest.mark.parametrize("level", [1, 2])
def test_list_of_changed_blocks_on_a_damaged_map_is_a_warning_and_all_is_read(
    storage: Storage, restored: Restored, disk_image: Callable[..., Path], level: int
) -> None:
    path = disk_image(40)
    parent = run(storage, path)
    root = parent.draft.root
    assert isinstance(root, DiskRoot)
    lost = root.root_id if level == 2 else MapReader(root, storage.reader).node_id(1, 0)
    with path.open("r+b") as image:
        image.write(b"changed")
    options = {"parent": root, "parent_source": Without(storage.reader, lost)}
    point = run(storage, path, changed=[Extent(0, 7)], **options)
    assert point.draft.warning_count == 1
    assert "damaged" in point.draft.warnings[0]
    assert isinstance(point.draft.root, DiskRoot)
    assert restored(point.draft.root) == path.read_bytes()


def test_block_device_is_backed_up_as_its_image(
    storage: Storage, restored: Restored, disk_image: Callable[..., Path], loop_device: Callable[[Path], Path]
) -> None:
    path = disk_image(20)
    from_file = run(storage, path)
    from_device = run(storage, loop_device(path))
    assert from_device.draft.root == from_file.draft.root
    assert from_device.draft.new_bytes == 0
    assert isinstance(from_device.draft.root, DiskRoot)
    assert restored(from_device.draft.root) == path.read_bytes()


@pytest.mark.parametrize("what", ["missing", "directory", "fifo"])
def test_source_that_is_no_disk_is_refused(storage: Storage, tmp_path: Path, what: str) -> None:
    path = tmp_path / what
    if what == "directory":
        path.mkdir()
    if what == "fifo":
        os.mkfifo(path)
    with storage.session() as session, pytest.raises((SourceUnreadable, NotFound), match=what):
        draft_of(session, path)
    assert storage.points() == []


class CuttingSink:
    """A session that shortens the source at the first claim."""

    def __init__(self, session: WriteSession, path: Path) -> None:
        self._session = session
        self._path = path

    @property
    def keys(self) -> ChunkKeys:
        return self._session.keys

    @property
    def compression_level(self) -> int | None:
        return self._session.compression_level

    def claim(self, ids: bytes) -> bytes:
        os.truncate(self._path, 1 << 20)
        return self._session.claim(ids)

    def put(self, batch: EncodedBatch) -> None:
        self._session.put(batch)


def test_source_cut_behind_what_was_read_fails_the_run(storage: Storage, tmp_path: Path) -> None:
    """What is cut off before the run looks for its holes reads as one great hole."""
    image = tmp_path / "disk.img"
    image.write_bytes(random.Random(5).randbytes(BLOCK_BYTES) + b"x" * (2 * LEAF_BYTES))

    class CutAtOnce(Cancel):
        def check(self) -> None:
            os.truncate(image, BLOCK_BYTES)

    with storage.session() as session, pytest.raises(SourceUnreadable, match="shorter"):
        draft_of(session, image, cancel=CutAtOnce())


def test_source_that_becomes_shorter_fails_the_run(storage: Storage, tmp_path: Path) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(random.Random(1).randbytes(1 << 20) * 60)
    with storage.session() as session, pytest.raises(SourceUnreadable, match="shorter"):
        draft_of(CuttingSink(session, path), path)


def test_read_error_of_a_device_names_the_byte(
    storage: Storage, tmp_path: Path, loop_device: Callable[[Path], Path]
) -> None:
    path = tmp_path / "disk.img"
    path.write_bytes(b"x" * (8 << 20))
    device = loop_device(path)
    os.truncate(path, 4 << 20)
    with (
        storage.session() as session,
        pytest.raises(SourceUnreadable, match=r"input/output error at byte \d+"),
    ):
        draft_of(session, device)


def test_cancelled_backup_stops_and_its_chunks_are_used_by_the_next(
    storage: Storage, disk_image: Callable[..., Path]
) -> None:
    path = disk_image(40)
    cancel = Cancel()

    def report(progress: Progress) -> None:
        if progress.done_bytes:
            cancel.request()

    with storage.session() as session, pytest.raises(Cancelled):
        draft_of(session, path, progress=report, cancel=cancel)
    assert storage.points() == []
    full = 40 << 19  # a quarter each of text and noise
    assert run(storage, path).draft.new_bytes < full


def test_progress_ends_at_the_size_of_the_disk(storage: Storage, disk_image: Callable[..., Path]) -> None:
    path = disk_image(33)
    seen: list[Progress] = []
    run(storage, path, progress=seen.append)
    assert [p.done_bytes for p in seen] == sorted(p.done_bytes for p in seen)
    assert seen[-1].done_bytes == seen[-1].total_bytes == 33 << 20
    assert seen[-1].new_bytes > 0


@pytest.mark.parametrize("compression", [None, 1, 2, 3, 4])
def test_every_compression_level_gives_the_same_disk(tmp_path: Path, compression: int | None) -> None:
    path = tmp_path / "disk.img"
    noise = random.Random(1).randbytes(100_000)
    path.write_bytes(b"compressible " * 50_000 + noise + b"\x01" * 65_536)
    Storage.create(tmp_path / "s", encryption=Encryption.NONE, compression=compression)
    with Storage.open(tmp_path / "s", writable=True) as storage:
        draft = run(storage, path).draft
        assert isinstance(draft.root, DiskRoot)
        with storage.reader.open_disk(draft.root) as disk:
            assert disk.read(0, disk.size_bytes) == path.read_bytes()
    if compression is None:
        assert draft.stored_bytes == draft.new_bytes
    else:
        assert draft.stored_bytes < 250_000
