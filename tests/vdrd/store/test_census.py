"""Figures of space, against the same counted the slow way and against what a collection really frees."""

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, image_bytes
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import Cancelled
from vdrd.model.points import Point
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, Storage
from vdrd.store.walk import references, root_reference, split_ids

pytestmark = pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM], ids=["aes"], indirect=True)


def reached(storage: Storage, point: Point) -> dict[bytes, int]:
    """Every chunk a point reaches, with the bytes of its record."""
    found: dict[bytes, int] = {}
    root = root_reference(point)
    todo = [] if root is None else [root]
    while todo:
        kind, chunk_id = todo.pop()
        place = bytes(storage.index.native.find(chunk_id))
        found[chunk_id] = int.from_bytes(place[8:12], "little") + 56
        if kind is not ChunkKind.DATA:
            for child_kind, ids in references(kind, storage.reader.fetch(chunk_id)[0]):
                todo += [(child_kind, child) for child in split_ids(ids) if child not in found]
    return found


@pytest.fixture
def storage(storage_path: Path, tmp_path: Path) -> Iterator[Storage]:
    """Two disks that have much in common, four points of one and three of the other."""
    source = random.Random(7)
    with Storage.open(storage_path, key=KEY, writable=True) as opened:
        common = bytearray(image_bytes(1, 40 << 16))
        image = tmp_path / "disk.img"
        for name, count in (("one", 4), ("two", 3)):
            for _ in range(count):
                for _ in range(5):
                    at = source.randrange(40) << 16
                    common[at : at + 65536] = source.randbytes(65536)
                # twice the same within a point
                image.write_bytes(common + common[: 8 << 16])
                back_up(opened, image, name)
        yield opened


def test_figures_of_objects_are_those_of_the_slow_count(storage: Storage) -> None:
    by_object = {
        name: {k: v for point in storage.points(name) for k, v in reached(storage, point).items()}
        for name in ("one", "two")
    }
    both = by_object["one"] | by_object["two"]
    census = storage.census()
    assert [figures.name for figures in census.objects] == ["one", "two"]
    for figures, other in zip(census.objects, ("two", "one"), strict=True):
        mine, theirs = by_object[figures.name], by_object[other]
        assert figures.unique_bytes == sum(v for k, v in mine.items() if k not in theirs)
        assert figures.shared_bytes == sum(v for k, v in mine.items() if k in theirs)
        assert figures.shared_bytes > 0
    assert census.live_bytes == sum(both.values())
    assert (census.dead_bytes, census.damage_count, census.points) == (0, 0, ())
    assert census.stored_bytes == sum(path.stat().st_size for path in storage.path.glob("packs/*/*.pack"))


@pytest.mark.parametrize("name", ["one", "two"])
def test_bytes_that_forgetting_a_point_frees_are_those_only_it_reaches(storage: Storage, name: str) -> None:
    sets = {point.point_id: reached(storage, point) for point in storage.points()}
    census = storage.census(name)
    assert [figures.point for figures in census.points] == storage.points(name)
    for figures in census.points:
        others = {k for other, found in sets.items() if other != figures.point.point_id for k in found}
        mine = sets[figures.point.point_id]
        assert figures.freed_bytes == sum(v for k, v in mine.items() if k not in others)
    assert any(figures.freed_bytes for figures in census.points)


def test_forgetting_a_point_makes_as_much_dead_as_was_told(storage: Storage) -> None:
    figures = storage.census("one").points[1]
    storage.forget([figures.point.point_id])
    assert storage.census().dead_bytes == figures.freed_bytes > 0


def test_count_beside_a_lost_chunk_says_so(storage: Storage) -> None:
    victim = next(iter(storage.path.glob("packs/*/*.pack")))
    victim.unlink()
    with Storage.open(storage.path, key=KEY) as reader:
        assert reader.census("one").damage_count > 0


def test_count_can_be_cancelled(storage: Storage) -> None:
    cancel = Cancel()
    cancel.request()
    with pytest.raises(Cancelled):
        storage.census(cancel=cancel)
    assert storage.census().dead_bytes == 0
