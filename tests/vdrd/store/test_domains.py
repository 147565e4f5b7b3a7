"""Key domains: what one tenant stores is neither shared with another's nor reached through it."""

import os
from pathlib import Path

import pytest

from native import blake3
from native.chunk import Encoder
from native.err import NativeError
from tests.vdrd.store.conftest import KEY, image_bytes
from vdrd.disk.backup import backup_disk
from vdrd.formats.batch import encode_chunks
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import BadInput, Damaged
from vdrd.model.points import DOMAIN_MAX, Point
from vdrd.model.progress import Cancel
from vdrd.model.retention import RetentionPolicy
from vdrd.store import Encryption, Storage

DOMAINS = (0, 1, DOMAIN_MAX)


@pytest.fixture
def encryption() -> Encryption:
    return Encryption.AES_256_GCM


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(image_bytes(5, 1_500_000))
    return path


def back_up(storage: Storage, path: Path, domain: int) -> Point:
    with storage.session(domain=domain) as session:
        draft = backup_disk(path, session, object_name="vm", progress=lambda _: None, cancel=Cancel())
        return session.commit(draft)


def disk_bytes(storage: Storage, point: Point, domain: int | None = None) -> bytes:
    reader = storage.reader_of(point.draft.domain if domain is None else domain)
    with reader.open_disk(point.draft.root) as disk:
        return disk.read(0, disk.size_bytes)


def root_of(point: Point) -> bytes:
    assert point.draft.root.root_id is not None
    return point.draft.root.root_id


def test_same_disk_in_two_domains_shares_nothing_and_each_reads_its_own(
    storage_path: Path, image: Path
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        points = [back_up(storage, image, domain) for domain in DOMAINS]
        again = back_up(storage, image, 1)
    assert [point.draft.domain for point in points] == list(DOMAINS)
    assert len({root_of(point) for point in points}) == 3
    assert {point.draft.new_bytes for point in points} == {points[0].draft.new_bytes}
    assert again.draft.new_bytes == 0
    with Storage.open(storage_path, key=KEY) as storage:
        assert {row.domain for row in storage.index.pack_rows().values()} == set(DOMAINS)
        for point in storage.points():
            assert disk_bytes(storage, point) == image.read_bytes()


def test_chunk_of_another_domain_is_neither_claimed_nor_read_nor_told_of(
    storage_path: Path, image: Path
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        other = back_up(storage, image, 1)
        with storage.session(domain=2) as session, storage.session(domain=1) as own:
            assert session.claim(root_of(other)) == b"\x01"
            assert own.claim(root_of(other)) == b"\x00"
            assert session.keys != own.keys
        nowhere = os.urandom(32)
        for chunk_id in (root_of(other), nowhere):
            with pytest.raises(Damaged) as caught:
                storage.reader_of(2).fetch(chunk_id)
            assert str(caught.value) == f"chunk {chunk_id.hex()} is damaged: it is in no pack"
            room = bytearray(1 << 20)
            with pytest.raises(Damaged, match=r"it is in no pack$"):
                storage.reader_of(2).fetch_into(chunk_id, room, len(room))
        assert storage.reader_of(1).fetch(root_of(other))


def test_chunk_with_the_id_of_another_domain_is_refused(storage_path: Path) -> None:
    """Whoever learnt an id of another tenant cannot store anything under it either."""
    plain = b"a chunk" * 100
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        with storage.session(domain=1) as owner:
            batches = {
                domain: encode_chunks(Encoder(None), _id_of(storage, domain, plain), [plain], ChunkKind.DATA)
                for domain in (1, 2)
            }
            owner.claim(batches[1].ids)
            owner.put(batches[1])
        with storage.session(domain=2) as thief:
            with pytest.raises(Damaged, match="not what its id names"):
                thief.put(batches[1])
            thief.put(batches[2])


def _id_of(storage: Storage, domain: int, plain: bytes) -> bytes:
    keys = storage.keyring.domain(domain).chunk_keys
    return blake3.keyed(keys.id_keys[ChunkKind.DATA], plain)


def test_point_that_names_a_root_of_another_domain_gives_nothing_of_it(
    storage_path: Path, image: Path
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        victim = back_up(storage, image, 1)
        with storage.session(domain=2) as session:
            stolen = session.commit(victim.draft)
        assert stolen.draft.domain == 2
        with pytest.raises(NativeError, match="crypto"):
            disk_bytes(storage, stolen)
        assert disk_bytes(storage, victim) == image.read_bytes()


def test_upkeep_handles_several_domains(storage_path: Path, tmp_path: Path, image: Path) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        for domain in DOMAINS:
            back_up(storage, image, domain)
        mixed = tmp_path / "mixed.img"
        mixed.write_bytes(image_bytes(6, 2_000_000) + image_bytes(7, 300_000))
        doomed = back_up(storage, mixed, 1)
        part = tmp_path / "part.img"
        part.write_bytes(mixed.read_bytes()[1_966_080:])
        kept = back_up(storage, part, 1)
        storage.rotate_key([KEY])
        storage.forget([doomed.point_id])
        report = storage.collect()
        assert report.rewritten_packs == 1
        assert report.freed_bytes > 0
        assert storage.verify(read_data=True).damages == []
        assert disk_bytes(storage, kept) == part.read_bytes()
        statistics = storage.statistics()
        assert statistics.live_bytes is not None
    for segment in (storage_path / "index").glob("*.idx"):
        segment.unlink()
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        assert storage.verify(read_data=True).damages == []
        assert {row.domain for row in storage.index.pack_rows().values()} == set(DOMAINS)
        for point in storage.points():
            content = part if point.point_id == kept.point_id else image
            assert disk_bytes(storage, point) == content.read_bytes()


def test_retention_of_one_domain_leaves_objects_of_the_same_name_in_others(
    storage_path: Path, image: Path
) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        points = [back_up(storage, image, domain) for domain in (1, 1, 2)]
        report = storage.retain("vm", RetentionPolicy(keep_last=1))
        assert report.removed == [points[0].point_id]
        assert set(report.kept) == {points[1].point_id, points[2].point_id}


def test_reader_of_another_process_finds_a_domain_that_came_later(storage_path: Path, image: Path) -> None:
    with (
        Storage.open(storage_path, key=KEY, writable=True) as storage,
        Storage.open(storage_path, key=KEY) as reading,
    ):
        point = back_up(storage, image, 9)
        assert reading.reader.fetch(root_of(point)) == reading.reader_of(9).fetch(root_of(point))
        assert reading.verify(read_data=True).damages == []
        assert disk_bytes(reading, point) == image.read_bytes()


@pytest.mark.parametrize("domain", [-1, DOMAIN_MAX + 1])
def test_domain_that_cannot_be_is_refused(storage_path: Path, domain: int) -> None:
    with (
        Storage.open(storage_path, key=KEY, writable=True) as storage,
        pytest.raises(BadInput, match="key domain"),
    ):
        storage.session(domain=domain)
