"""Damage anywhere is found, named, and never served as data; what does not use the damaged part stays
whole."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.disk.restore import restore_disk
from vdrd.model.errors import Damaged, VdrError
from vdrd.model.points import Point
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, Storage

FLIPS = 10


@pytest.fixture
def images(tmp_path: Path) -> dict[str, Path]:
    """Two disks with nothing in common, and a third that shares all but a block with the second."""
    texts = {"a": image_bytes(1, 700_000), "b": image_bytes(2, 900_000)}
    texts["c"] = texts["b"][:65536] + bytes(reversed(texts["b"][65536:131072])) + texts["b"][131072:]
    paths = {}
    for name, content in texts.items():
        paths[name] = tmp_path / f"{name}.img"
        paths[name].write_bytes(content)
    return paths


@pytest.fixture
def points(storage_path: Path, images: dict[str, Path]) -> dict[str, Point]:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        return {name: back_up(storage, path, name) for name, path in images.items()}


def flipped(path: Path, seed: int) -> Iterator[int]:
    """Flip one bit after the other, each time for one turn of the loop; both ends of the file among them."""
    data = path.read_bytes()
    source = random.Random(seed)
    places = {0, 7, 40, 63, 64, 90, len(data) - 1, len(data) - 40, len(data) - 64, len(data) // 2}
    places |= {source.randrange(len(data)) for _ in range(FLIPS)}
    for place in sorted(place for place in places if 0 <= place < len(data)):
        bad = bytearray(data)
        bad[place] ^= 1 << source.randrange(8)
        path.write_bytes(bad)
        yield place
    path.write_bytes(data)


def assert_never_wrong(path: Path, points: dict[str, Point], images: dict[str, Path]) -> set[str]:
    """Every point reads as it was or raises; returns those that raise."""
    failed = set()
    try:
        storage = Storage.open(path, key=KEY)
    except VdrError:
        return set(points)
    with storage:
        for name, point in points.items():
            try:
                again = storage.point(point.point_id)
                target = path.parent / "restored"
                restore_disk(
                    again.draft.root,
                    storage.reader,
                    target,
                    overwrite=True,
                    progress=lambda _: None,
                    cancel=Cancel(),
                )
                assert target.read_bytes() == images[name].read_bytes()
            except VdrError:
                failed.add(name)
    return failed


def damages(path: Path) -> list[str]:
    with Storage.open(path, key=KEY) as storage:
        return [damage.what for damage in storage.verify(read_data=True).damages]


def test_flipped_bit_in_a_pack_is_found_and_named(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    packs = sorted(storage_path.glob("packs/*/*.pack"))
    for pack in packs:
        for place in flipped(pack, 1):
            found = damages(storage_path)
            assert found, f"byte {place} of {pack.name}"
            assert all(what.startswith(("chunk ", f"pack {pack.stem}")) for what in found)
            assert_never_wrong(storage_path, points, images)
    assert damages(storage_path) == []


def test_flipped_bit_in_an_index_segment_is_found_and_costs_nothing(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    for segment in sorted(storage_path.glob("index/*.idx")):
        for place in flipped(segment, 2):
            assert damages(storage_path) == [f"index segment {segment.name}"], f"byte {place}"
            assert assert_never_wrong(storage_path, points, images) == set()
    assert damages(storage_path) == []


def test_flipped_bit_in_a_point_is_found_and_costs_only_it(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    victim = points["a"]
    for place in flipped(storage_path / "points" / f"{victim.point_id}.point", 3):
        assert damages(storage_path) == [f"point {victim.point_id}"], f"byte {place}"
        assert assert_never_wrong(storage_path, points, images) == {"a"}
        with Storage.open(storage_path, key=KEY) as storage:
            assert [point.draft.object_name for point in storage.points()] == ["b", "c"]
            assert len(storage.damaged_points()) == 1


def test_flipped_bit_in_storage_json_stops_the_open(storage_path: Path) -> None:
    for _ in flipped(storage_path / "storage.json", 4):
        with pytest.raises(VdrError):
            Storage.open(storage_path, key=KEY)


def test_damaged_map_node_is_named_with_the_points_that_need_it(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    root_id = points["b"].draft.root.root_id
    assert root_id is not None
    for pack in storage_path.glob("packs/*/*.pack"):
        data = bytearray(pack.read_bytes())
        at = data.find(root_id)
        if at > 0:
            data[at + 45] ^= 1  # in the payload of the node's record
            pack.write_bytes(data)
            break
    with Storage.open(storage_path, key=KEY) as storage:
        report = storage.verify()
        assert report.affected_points == (points["b"].point_id,)
        assert [damage.what for damage in report.damages] == [f"chunk {root_id.hex()}"]
        assert report.damages[0].points == (points["b"].point_id,)
    assert assert_never_wrong(storage_path, points, images) == {"b"}


def test_lost_index_is_rebuilt_from_the_packs(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    for segment in storage_path.glob("index/*"):
        segment.unlink()
    assert assert_never_wrong(storage_path, points, images) == set()
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert back_up(storage, images["a"], "a").draft.new_bytes == 0
    assert list(storage_path.glob("index/*.idx"))
    assert damages(storage_path) == []


def test_damaged_index_is_replaced_by_the_next_writer(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    for number, segment in enumerate(sorted(storage_path.glob("index/*.idx"))):
        data = bytearray(segment.read_bytes())
        data[number * 100 % len(data)] ^= 1
        segment.write_bytes(data)
    Storage.open(storage_path, key=KEY, writable=True).close()
    assert damages(storage_path) == []
    assert assert_never_wrong(storage_path, points, images) == set()


@pytest.mark.parametrize("keep", [0, 10, 64, 5000])
def test_truncated_pack_costs_only_the_points_that_used_it(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path], keep: int
) -> None:
    # The pack with the first backup's chunks.
    node_id = points["a"].draft.root.root_id
    assert node_id is not None
    pack = next(p for p in storage_path.glob("packs/*/*.pack") if node_id in p.read_bytes())
    os.truncate(pack, keep)
    assert assert_never_wrong(storage_path, points, images) == {"a"}
    with Storage.open(storage_path, key=KEY) as storage:
        report = storage.verify(read_data=True)
        assert report.affected_points == (points["a"].point_id,)
        assert f"pack {pack.stem}" in {damage.what for damage in report.damages}


def test_missing_pack_is_named_and_costs_only_the_points_that_used_it(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    node_id = points["a"].draft.root.root_id
    assert node_id is not None
    pack = next(p for p in storage_path.glob("packs/*/*.pack") if node_id in p.read_bytes())
    pack.unlink()
    assert assert_never_wrong(storage_path, points, images) == {"a"}
    with Storage.open(storage_path, key=KEY) as storage:
        report = storage.verify()
        assert report.affected_points == (points["a"].point_id,)


def test_backup_after_damage_stores_the_lost_chunks_again(
    storage_path: Path, points: dict[str, Point], images: dict[str, Path]
) -> None:
    node_id = points["a"].draft.root.root_id
    assert node_id is not None
    pack = next(p for p in storage_path.glob("packs/*/*.pack") if node_id in p.read_bytes())
    os.truncate(pack, 70)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, images["a"], "a")
        assert disk_bytes(storage, point) == images["a"].read_bytes()
    assert assert_never_wrong(storage_path, points, images) == set()


def test_collect_with_a_damaged_point_is_refused_and_removes_nothing(
    storage_path: Path, points: dict[str, Point]
) -> None:
    victim = storage_path / "points" / f"{points['a'].point_id}.point"
    data = bytearray(victim.read_bytes())
    data[100] ^= 1
    victim.write_bytes(data)
    packs = sorted(storage_path.glob("packs/*/*.pack"))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        with pytest.raises(Damaged, match=points["a"].point_id):
            storage.collect()
        assert sorted(storage_path.glob("packs/*/*.pack")) == packs
        storage.forget([points["a"].point_id])
        assert storage.collect().removed_packs > 0


def test_pack_moved_to_another_name_is_not_believed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    Storage.create(path, encryption=Encryption.NONE)
    image = tmp_path / "disk"
    image.write_bytes(image_bytes(7, 200_000))
    with Storage.open(path, writable=True) as storage:
        back_up(storage, image)
    pack = next(path.glob("packs/*/*.pack"))
    other = pack.parent / f"{pack.stem[:-2]}00.pack"
    pack.rename(other)
    with Storage.open(path) as storage:
        found = {damage.what for damage in storage.verify(read_data=True).damages}
    assert f"pack {other.stem}" in found
