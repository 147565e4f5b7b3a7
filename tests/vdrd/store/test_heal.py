"""What rots in place is stored again by the next backup, whatever kind of run it is, and every earlier point
that shares it is whole again."""

import argparse
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from native.chunk import RECORD_HEADER_BYTES
from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.cli.store.backup import _session
from vdrd.disk.backup import backup_disk
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, Storage

pytestmark = pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM, Encryption.NONE], indirect=True)

PARTS = ["pack header", "record header", "payload", "table", "trailer"]


def flip(path: Path, at: int) -> None:
    """Flip a bit of a file where it lies."""
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 4]))


def records(storage_path: Path, chunk_id: bytes) -> list[tuple[Path, int]]:
    """Packs that hold a chunk, and where its record stands in each."""
    found = []
    for pack in sorted(storage_path.glob("packs/*/*.pack")):
        data = pack.read_bytes()
        at = data.find(b"VCHK")
        while at >= 0 and data[at + 16 : at + 48] != chunk_id:
            at = data.find(b"VCHK", at + 1)
        if at >= 0:
            found.append((pack, at))
    return found


def rot(storage_path: Path, chunk_id: bytes, part: str) -> Path:
    """Damage a part of the pack that holds a chunk."""
    ((pack, at),) = records(storage_path, chunk_id)
    file_bytes = pack.stat().st_size
    place = {
        "pack header": 9,
        "record header": at + 9,
        "payload": at + RECORD_HEADER_BYTES + 3,
        "table": file_bytes - 64 - 30,
        "trailer": file_bytes - 30,
    }[part]
    flip(pack, place)
    return pack


def first_chunk(storage: Storage, point: Point) -> bytes:
    """Id of a data chunk of a disk point of one leaf."""
    root = point.draft.root.root_id
    assert root is not None
    return storage.reader.fetch(root)[0][40:72]


def full(storage: Storage, path: Path) -> Point:
    """A full run as the command line does it."""
    with _session(storage, argparse.Namespace(full=True, domain=0)) as session:
        draft = backup_disk(path, session, object_name="disk", progress=lambda _: None, cancel=Cancel())
        return session.commit(draft)


def verified(storage_path: Path) -> list[str]:
    """What a verification by another process finds, every byte read."""
    with Storage.open(storage_path, key=KEY) as storage:
        return [f"{damage.what}: {damage.reason}" for damage in storage.verify(read_data=True).damages]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(image_bytes(5, 1_500_000))
    return path


@pytest.fixture
def points(storage_path: Path, image: Path) -> list[Point]:
    """Two points that share all but the last block."""
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first = back_up(storage, image)
        data = bytearray(image.read_bytes())
        data[-1] ^= 1
        image.write_bytes(data)
        return [first, back_up(storage, image)]


@pytest.mark.parametrize("part", PARTS)
def test_damage_that_verify_found_is_mended_by_the_next_backup(
    storage_path: Path, points: list[Point], image: Path, part: str
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
        before = disk_bytes(storage, points[0])
    rot(storage_path, chunk_id, part)
    assert verified(storage_path)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        third = back_up(storage, image)
        assert disk_bytes(storage, third) == image.read_bytes()
    assert verified(storage_path) == []
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert disk_bytes(storage, points[0]) == before
        assert disk_bytes(storage, points[1]) == image.read_bytes()
        storage.collect()
        assert storage.damage.marks() == [] or part in ("record header", "payload")
    assert verified(storage_path) == []


@pytest.mark.parametrize("part", ["record header", "payload"])
def test_damage_that_nobody_knows_of_is_mended_by_a_full_run(
    storage_path: Path, points: list[Point], image: Path, part: str
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rot(storage_path, chunk_id, part)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = full(storage, image)
        assert point.draft.new_bytes == 65536
        assert disk_bytes(storage, point) == image.read_bytes()
    assert verified(storage_path) == []


def test_damage_that_a_read_met_is_known_to_the_next_process_and_mended(
    storage_path: Path, points: list[Point], image: Path
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rot(storage_path, chunk_id, "payload")
    with Storage.open(storage_path, key=KEY) as storage, pytest.raises(Damaged):
        storage.reader.fetch(chunk_id)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert [mark.chunk_id for mark in storage.damage.marks()] == [chunk_id]
        assert back_up(storage, image).draft.new_bytes == 65536
        assert len(storage.reader.fetch(chunk_id)[0]) == 65536
    assert verified(storage_path) == []


def test_mark_of_a_record_that_holds_after_all_goes_with_the_next_verification(
    storage_path: Path, points: list[Point]
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    pack = rot(storage_path, chunk_id, "payload")
    assert verified(storage_path)
    ((_, at),) = records(storage_path, chunk_id)
    flip(pack, at + RECORD_HEADER_BYTES + 3)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert len(storage.damage.marks()) == 1
        assert len(storage.reader.fetch(chunk_id)[0]) == 65536
        assert storage.verify(read_data=True).damages == []
        assert storage.damage.marks() == []
    assert list(storage_path.glob("index/*.damage")) == []


def test_damaged_marks_are_no_obstacle(storage_path: Path, points: list[Point], image: Path) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rot(storage_path, chunk_id, "payload")
    verified(storage_path)
    (marks,) = storage_path.glob("index/*.damage")
    for place in random.Random(1).sample(range(marks.stat().st_size), 12):
        flip(marks, place)
        with Storage.open(storage_path, key=KEY) as storage:
            (error,) = storage.damages_at_open()
            assert error.fields["what"] == f"damage marks {marks.name}"
        flip(marks, place)
    flip(marks, 70)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert back_up(storage, image).draft.new_bytes == 0
    assert list(storage_path.glob("index/*.damage")) == []


def test_merged_segments_keep_the_copy_that_is_whole(
    storage_path: Path, points: list[Point], image: Path
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rot(storage_path, chunk_id, "payload")
    verified(storage_path)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        back_up(storage, image)
        storage.index.rewrite(list(storage.index.segments))
        assert len(storage.index.segments) == 1
        assert len(storage.reader.fetch(chunk_id)[0]) == 65536
    assert verified(storage_path) == []


def test_copy_that_rots_unseen_is_passed_over_for_the_other(
    storage_path: Path, points: list[Point], image: Path, tmp_path: Path
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rotten = rot(storage_path, chunk_id, "payload")
    verified(storage_path)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        back_up(storage, image)
    # The first record is whole again and its mark gone; the second rots.
    ((first, at), (second, other)) = records(storage_path, chunk_id)
    if first != rotten:
        (first, at), (second, other) = (second, other), (first, at)
    flip(first, at + RECORD_HEADER_BYTES + 3)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        storage.verify(read_data=True)
        assert storage.damage.marks() == []
    flip(second, other + RECORD_HEADER_BYTES + 3)
    with Storage.open(storage_path, key=KEY) as storage:
        assert len(storage.reader.fetch(chunk_id)[0]) == 65536


def test_chunk_rotten_in_every_copy_is_told_and_never_served(
    storage_path: Path, points: list[Point], image: Path, seeded_bytes: Callable[..., bytes]
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rot(storage_path, chunk_id, "payload")
    verified(storage_path)
    image.write_bytes(seeded_bytes(200_000))  # the source has it no more
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        assert disk_bytes(storage, point) == image.read_bytes()
        report = storage.verify(read_data=True)
        assert set(report.affected_points) == {points[0].point_id, points[1].point_id}
        with pytest.raises(Damaged):
            storage.reader.fetch(chunk_id)
