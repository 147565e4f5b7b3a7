"""Verification goes on where it was stopped, reads samples, and tells exactly what suffers."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from tests.vdrd.store.test_heal import first_chunk, flip, records, rot
from vdrd.disk.affected import DiskAffected
from vdrd.files.affected import FilesAffected
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree
from vdrd.model.errors import Cancelled
from vdrd.model.points import DiskRoot, FilesRoot, Point
from vdrd.model.progress import Cancel, Progress
from vdrd.store import Encryption, Storage
from vdrd.store.verify import Verification, VerifyScope
from vdrd.store.verify_progress import NAME

PACKS = 12


@pytest.fixture
def encryption() -> Encryption:
    return Encryption.AES_256_GCM


@pytest.fixture
def points(storage_path: Path, tmp_path: Path) -> list[Point]:
    """As many points, and packs, as PACKS: each run closes its own."""
    made = []
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        for number in range(PACKS):
            image = tmp_path / "disk.img"
            image.write_bytes(random.Random(number).randbytes(300_000))
            made.append(back_up(storage, image, f"disk-{number}"))
    return made


class StopAfter:
    """Asks for the end of a verification when it has come so far."""

    def __init__(self, packs: int) -> None:
        self.cancel = Cancel()
        self.packs = packs
        self.seen = 0

    def __call__(self, progress: Progress) -> None:
        self.seen += 1
        if self.seen == self.packs:
            self.cancel.request()


def test_interrupted_verification_goes_on_where_it_was(storage_path: Path, points: list[Point]) -> None:
    stop = StopAfter(5)
    with Storage.open(storage_path, key=KEY) as storage:
        with pytest.raises(Cancelled):
            storage.verify(read_data=True, progress=stop, cancel=stop.cancel)
        report = storage.verify(read_data=True, resume=True)
    assert 5 <= report.resumed_packs < PACKS
    assert report.packs == PACKS - report.resumed_packs
    assert report.damages == []
    assert not (storage_path / NAME).exists()


def test_resumed_verification_finds_again_what_the_first_part_found(
    storage_path: Path, points: list[Point]
) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_ids = [first_chunk(storage, point) for point in points]
    for chunk_id in chunk_ids:
        rot(storage_path, chunk_id, "payload")
    stop = StopAfter(6)
    with Storage.open(storage_path, key=KEY) as storage, pytest.raises(Cancelled):
        storage.verify(read_data=True, progress=stop, cancel=stop.cancel)
    with Storage.open(storage_path, key=KEY) as storage:
        report = storage.verify(read_data=True, resume=True)
    assert {damage.chunk_id for damage in report.damages} == {chunk_id.hex() for chunk_id in chunk_ids}


@pytest.mark.parametrize("scope", [VerifyScope(), VerifyScope(read_data=True, sample=0.5)])
def test_verification_that_did_not_read_everything_is_none_to_go_on_with(
    storage_path: Path, points: list[Point], monkeypatch: pytest.MonkeyPatch, scope: VerifyScope
) -> None:
    monkeypatch.setattr("vdrd.store.verify_progress._SAVE_SECONDS", 0.0)
    with Storage.open(storage_path, key=KEY) as storage:
        rot(storage_path, first_chunk(storage, points[0]), "payload")
        Verification(storage, progress=lambda _: None, cancel=Cancel()).run(None, scope)
        assert not (storage_path / NAME).exists()
        report = storage.verify(read_data=True, resume=True)
    assert (report.resumed_packs, report.packs) == (0, PACKS)
    assert len(report.damages) == 1


@pytest.mark.parametrize("place", [3, 30, 70, -5])
def test_damaged_progress_means_to_begin_anew(storage_path: Path, points: list[Point], place: int) -> None:
    stop = StopAfter(5)
    with Storage.open(storage_path, key=KEY) as storage:
        with pytest.raises(Cancelled):
            storage.verify(read_data=True, progress=stop, cancel=stop.cancel)
        file = storage_path / NAME
        flip(file, place % file.stat().st_size)
        report = storage.verify(read_data=True, resume=True)
    assert (report.resumed_packs, report.packs) == (0, PACKS)


def test_sample_reads_its_share_and_finds_damage_there(storage_path: Path, points: list[Point]) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        for point in points:
            rot(storage_path, first_chunk(storage, point), "payload")
    total = sum(path.stat().st_size for path in storage_path.glob("packs/*/*.pack"))
    met: set[str] = set()
    for seed in range(3):
        with Storage.open(storage_path, key=KEY) as storage:
            run = Verification(storage, progress=lambda _: None, cancel=Cancel(), rng=random.Random(seed))
            report = run.run(None, VerifyScope(read_data=True, sample=0.25))
        assert report.packs == PACKS // 4
        assert report.read_bytes < total // 3
        met |= {damage.chunk_id for damage in report.damages}
        assert len(report.affected_points) == len(met)
    assert len(met) > PACKS // 4


def test_ranges_of_a_disk_that_suffer_are_exact(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    content = bytearray(image_bytes(2, 1_000_000))
    block = random.Random(1).randbytes(65536)
    content[131072:196608] = content[196608:262144] = content[524288:589824] = block
    image.write_bytes(content)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        root = back_up(storage, image).draft.root
        assert isinstance(root, DiskRoot)
        assert root.root_id is not None
        (node,) = storage.reader.fetch(root.root_id)
        ids = [node[at : at + 32] for at in range(40, len(node), 32)]
        (repeated,) = {chunk_id for chunk_id in ids if ids.count(chunk_id) == 3}
        found = DiskAffected(storage.reader, frozenset([repeated])).of(root)
        assert [(extent.offset_bytes, extent.length_bytes) for _, extent in found] == [
            (131072, 131072),
            (524288, 65536),
        ]
        whole = DiskAffected(storage.reader, frozenset([root.root_id])).of(root)
        assert [(extent.offset_bytes, extent.length_bytes) for _, extent in whole] == [(0, 1_000_000)]


def test_files_that_suffer_are_exact(storage_path: Path, tmp_path: Path) -> None:
    source = random.Random(4)
    tree = tmp_path / "tree"
    (tree / "d").mkdir(parents=True)
    for number in range(60):
        (tree / "d" / f"{number:02}").write_bytes(source.randbytes(20_000))
    (tree / "listed").write_bytes(source.randbytes(5_000_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage, storage.session() as session:
        root = session.commit(backup_files(tree, session, object_name="t")).draft.root
        assert isinstance(root, FilesRoot)
        found = FileTree(root, storage.reader)
        packed = {}
        for number in range(60):
            (extent,) = found.find(f"d/{number:02}").extents
            packed.setdefault(extent.chunk_id, []).append(f"d/{number:02}")
        # A pack of small files is at least 64 KiB and at most 1 MiB long.
        chunk_id, names = next(iter(packed.items()))
        assert 3 < len(names) < 60
        (list_root,) = found.find("listed").extents
        assert chunk_id is not None
        assert list_root.chunk_id is not None
        bad = frozenset([chunk_id, list_root.chunk_id])
        assert sorted(path for _, path in FilesAffected(storage.reader, bad).of(root)) == [*names, "listed"]
        assert root.root_id is not None
        everything = FilesAffected(storage.reader, frozenset([root.root_id])).of(root)
        assert everything == [(root.root_id, "(every file)")]


def test_verify_names_files_and_ranges_and_writes_nothing_on_read_only_media(
    storage_path: Path,
    points: list[Point],
    tmp_path: Path,
    vdr: Callable[..., subprocess.CompletedProcess[str]],
) -> None:
    key_file = tmp_path / "key"
    key_file.write_bytes(KEY.reveal())
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[3])
        whole = disk_bytes(storage, points[3])
    rot(storage_path, chunk_id, "payload")
    before = sorted((path, path.stat().st_mtime_ns) for path in storage_path.rglob("*"))
    mount = tmp_path / "read-only"
    mount.mkdir()
    subprocess.run(["mount", "--bind", storage_path, mount], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", mount], check=True)
        done = vdr("store", "verify", mount, "--read-data", "--json", "--key-file", key_file)
    finally:
        subprocess.run(["umount", "--lazy", mount], check=True)
    assert done.returncode == 7, done.stderr
    assert "the next backup will not know of this" in done.stderr
    assert before == sorted((path, path.stat().st_mtime_ns) for path in storage_path.rglob("*"))
    report = json.loads(done.stdout)
    (damage,) = report["damages"]
    assert damage["chunk_id"] == chunk_id.hex()
    assert damage["points"] == report["affected_points"] == [points[3].point_id]
    assert damage["files"] == []
    assert damage["ranges"] == [{"point": points[3].point_id, "offset": 0, "length": 65536}]
    assert len(whole) == 300_000
    assert records(storage_path, chunk_id)


def test_rotten_record_that_nothing_needs_is_no_damage(storage_path: Path, points: list[Point]) -> None:
    with Storage.open(storage_path, key=KEY) as storage:
        chunk_id = first_chunk(storage, points[0])
    rot(storage_path, chunk_id, "payload")
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert len(storage.verify(read_data=True).damages) == 1
        storage.forget([points[0].point_id])
        report = storage.verify(read_data=True)
        assert (report.damages, report.unneeded) == ([], 1)
        storage.collect()
        assert storage.verify(read_data=True).unneeded == 0
