"""The index comes back from the packs alone, whatever has become of it, and of them."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from tests.vdrd.store.test_heal import first_chunk, flip, rot, verified
from vdrd.model.points import Point
from vdrd.store import Encryption, Storage


@pytest.fixture
def encryption() -> Encryption:
    return Encryption.AES_256_GCM


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(image_bytes(5, 1_500_000))
    return path


@pytest.fixture
def point(storage_path: Path, image: Path) -> Point:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        return back_up(storage, image)


def reindex(storage_path: Path) -> int | None:
    with Storage.open(storage_path, key=KEY, writable=True, reindex=True) as storage:
        return storage.recount()


def foreign_index(storage_path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    Storage.create(other, encryption=Encryption.NONE)
    image = tmp_path / "other.img"
    image.write_bytes(b"other" * 100_000)
    with Storage.open(other, writable=True) as storage:
        back_up(storage, image)
    shutil.rmtree(storage_path / "index")
    shutil.copytree(other / "index", storage_path / "index")


def lost_index(storage_path: Path, _: Path) -> None:
    for path in (storage_path / "index").iterdir():
        path.unlink()


def rotten_index(storage_path: Path, _: Path) -> None:
    for path in (storage_path / "index").iterdir():
        flip(path, path.stat().st_size // 2)


@pytest.mark.parametrize("spoil", [foreign_index, lost_index, rotten_index])
def test_index_and_counts_are_made_again(
    storage_path: Path, point: Point, image: Path, tmp_path: Path, spoil: Callable[[Path, Path], None]
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        before = storage.recount()
    spoil(storage_path, tmp_path)
    assert reindex(storage_path) == before
    assert verified(storage_path) == []
    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.damages_at_open() == []
        assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.live_counts() is not None


def test_command_tells_what_it_has_found(
    storage_path: Path, point: Point, tmp_path: Path, vdr: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY.reveal())
    foreign_index(storage_path, tmp_path)
    done = vdr("store", "reindex", storage_path, "--json", "--key-file", key_file)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["points"], report["damages"]) == (1, [])
    assert 0 < report["live_bytes"] < report["stored_bytes"]


@pytest.mark.parametrize("part", ["pack header", "table", "trailer", "record header", "payload"])
def test_lost_index_over_a_damaged_pack_costs_the_damaged_record_at_most(
    storage_path: Path, point: Point, image: Path, part: str
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, point)
    pack = rot(storage_path, chunk_id, part)
    if part in ("record header", "payload"):
        flip(pack, pack.stat().st_size - 30)  # and the table is lost too: only the records can tell
    lost_index(storage_path, image)
    reindex(storage_path)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        report = storage.verify(read_data=True)
        is_framed = part in ("pack header", "table", "trailer")
        assert report.affected_points == (() if is_framed else (point.point_id,))
        lost = {damage.chunk_id for damage in report.damages if damage.chunk_id}
        assert lost == (set() if is_framed else {chunk_id.hex()})
        back_up(storage, image)
        assert disk_bytes(storage, point) == image.read_bytes()
    assert verified(storage_path) == []


def test_of_two_copies_the_newer_is_found(
    storage_path: Path, point: Point, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, point)
    rot(storage_path, chunk_id, "payload")
    verified(storage_path)
    with monkeypatch.context() as later, Storage.open(storage_path, key=KEY, writable=True) as storage:
        later.setattr("vdrd.store.packs.time.time", lambda: 4e9)
        back_up(storage, image)
    for marks in storage_path.glob("index/*.damage"):
        marks.unlink()
    with Storage.open(storage_path, key=KEY, writable=True, reindex=True) as storage:
        assert disk_bytes(storage, point) == image.read_bytes()
