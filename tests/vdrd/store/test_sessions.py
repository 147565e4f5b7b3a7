"""Several sessions, readers and a collection at once."""

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from native import blake3
from tests.vdrd.store.conftest import KEY, back_up, disk_bytes, image_bytes
from vdrd.disk.backup import backup_disk
from vdrd.formats.batch import raw_batch
from vdrd.model.chunks import ChunkKind, EncodedBatch
from vdrd.model.errors import Damaged, NotFound, StorageUnwritable
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, Storage, WriteSession

pytestmark = pytest.mark.parametrize(
    "encryption", [Encryption.NONE, Encryption.AES_256_GCM], ids=["none", "aes"], indirect=True
)


def named(session: WriteSession, data: bytes) -> bytes:
    return blake3.keyed(session.keys.id_keys[ChunkKind.DATA], data)


def test_sessions_at_once_each_end_with_their_own_whole_point(storage_path: Path, tmp_path: Path) -> None:
    shared = image_bytes(1, 1_500_000)
    images = []
    for number in range(6):
        image = tmp_path / f"{number}.img"
        image.write_bytes(shared + image_bytes(100 + number, 600_000))
        images.append(image)
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        with ThreadPoolExecutor(6) as pool:
            points = list(pool.map(lambda image: back_up(storage, image, image.stem), images))
        for image, point in zip(images, points, strict=True):
            assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.verify(read_data=True).damages == []
        assert storage.statistics().session_count == 0


def test_chunk_claimed_by_another_open_session_counts_as_lacking(storage_path: Path) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first, second = storage.session(), storage.session()
        chunk_id = named(first, b"chunk")
        assert first.claim(chunk_id) == b"\x01"
        assert first.claim(chunk_id) == b"\x00"
        assert second.claim(chunk_id) == b"\x01"
        first.abort()
        second.put(raw_batch(chunk_id, b"chunk", ChunkKind.DATA))
        third = storage.session()
        assert third.claim(chunk_id) == b"\x00"
        assert storage.reader.native is not None


def test_second_copy_of_a_chunk_is_dropped_when_it_arrives(storage_path: Path) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        sessions = [storage.session(), storage.session()]
        chunk_id = named(sessions[0], b"chunk")
        assert [session.claim(chunk_id) for session in sessions] == [b"\x01", b"\x01"]
        for session in sessions:
            session.put(raw_batch(chunk_id, b"chunk", ChunkKind.DATA))
    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.statistics().chunk_count == 1
        assert storage.reader.fetch(chunk_id) == [b"chunk"]


def test_point_that_leans_on_an_aborted_session_is_whole(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(3, 800_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        first = storage.session()
        backup_disk(image, first, object_name="x", progress=lambda _: None, cancel=Cancel())
        with storage.session() as second:
            draft = backup_disk(image, second, object_name="y", progress=lambda _: None, cancel=Cancel())
            assert draft.new_bytes == 0
            first.abort()
            second.commit(draft)
    with Storage.open(storage_path, key=KEY) as storage:
        assert disk_bytes(storage, storage.point("y@latest")) == image.read_bytes()


@pytest.mark.parametrize("fault", ["content", "codec", "length", "kind", "ids"])
def test_batch_that_does_not_hold_is_refused_and_names_the_chunk(storage_path: Path, fault: str) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage, storage.session() as session:
        chunk_id = named(session, b"chunk")
        session.claim(chunk_id)
        good = raw_batch(chunk_id, b"chunk", ChunkKind.DATA)
        table = bytearray(good.table)
        payload = bytes(good.payload)
        ids = good.ids
        match fault:
            case "content":
                payload = b"chunK"
            case "codec":
                table[8] = 1
            case "length":
                table[0] = 6
            case "kind":
                table[9] = 2
            case _:
                ids = bytes(32)
        with pytest.raises(Damaged, match=r"chunk"):
            session.put(EncodedBatch(ids, bytes(table), payload))
        session.put(good)


def test_ended_session_takes_nothing_more(storage_path: Path) -> None:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        session = storage.session()
        session.abort()
        session.abort()
        with pytest.raises(StorageUnwritable, match="ended"):
            session.claim(bytes(32))


def test_collection_keeps_what_an_open_session_was_told_is_there(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(4, 900_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        session = storage.session()
        draft = backup_disk(image, session, object_name="z", progress=lambda _: None, cancel=Cancel())
        assert draft.new_bytes == 0
        storage.forget([point.point_id])
        report = storage.collect()
        assert report.deferred_packs == 1
        again = session.commit(draft)
        storage.collect()
        assert disk_bytes(storage, again) == image.read_bytes()
        storage.forget([again.point_id])
        assert storage.collect().removed_packs == 1
        assert list(storage_path.glob("packs/*/*.pack")) == []


def test_collection_beside_backups_and_readers_loses_nothing(storage_path: Path, tmp_path: Path) -> None:
    source = random.Random(5)
    pool_of_parts = [image_bytes(200 + i, 131_072) for i in range(24)]
    stop = threading.Event()
    failures: list[BaseException] = []
    with Storage.open(storage_path, key=KEY, writable=True) as storage:

        def run(number: int) -> None:
            mine = random.Random(number)
            image = tmp_path / f"{number}.img"
            try:
                for _ in range(12):
                    image.write_bytes(b"".join(mine.choices(pool_of_parts, k=8)))
                    point = back_up(storage, image, str(number))
                    assert disk_bytes(storage, point) == image.read_bytes()
                    if mine.random() < 0.6:
                        storage.forget([point.point_id])
            except BaseException as error:
                failures.append(error)

        def collect() -> None:
            try:
                while not stop.is_set():
                    storage.collect()
            except BaseException as error:
                failures.append(error)

        collector = threading.Thread(target=collect)
        collector.start()
        workers = [threading.Thread(target=run, args=(source.randrange(1000),)) for _ in range(3)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        stop.set()
        collector.join()
        assert failures == []
        assert storage.verify(read_data=True).damages == []
        storage.collect()
    with Storage.open(storage_path, key=KEY) as storage:
        assert storage.verify(read_data=True).damages == []


def test_reader_of_another_process_delays_removal_only(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(6, 400_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        storage.forget([point.point_id])
        with Storage.open(storage_path, key=KEY) as reader:
            assert storage.collect().deferred_packs == 1
            assert disk_bytes(reader, point) == image.read_bytes()
        assert storage.collect().removed_packs == 1


def test_reader_sees_a_point_committed_after_it_was_opened(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(7, 400_000))
    with Storage.open(storage_path, key=KEY) as reader:
        with Storage.open(storage_path, key=KEY, writable=True) as storage:
            back_up(storage, image)
        point = reader.point("disk@latest")
        root_id = point.draft.root.root_id
        assert root_id is not None
        assert reader.reader.fetch(root_id)[0]
        assert disk_bytes(reader, point) == image.read_bytes()
        assert reader.verify(read_data=True).damages == []


def test_held_point_survives_being_forgotten(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(8, 400_000))
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        point = back_up(storage, image)
        with storage.hold(point):
            storage.forget([point.point_id])
            storage.collect()
            assert disk_bytes(storage, point) == image.read_bytes()
        assert storage.collect().removed_packs == 1
        with pytest.raises(NotFound), storage.hold(point):
            raise AssertionError
        assert storage.held_points() == []


def test_many_commits_keep_the_number_of_segments_bounded(storage_path: Path, tmp_path: Path) -> None:
    image = tmp_path / "disk.img"
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        for number in range(30):
            image.write_bytes(number.to_bytes(4, "little") * 1000)
            back_up(storage, image)
        assert storage.statistics().index_segments <= 13
    with Storage.open(storage_path, key=KEY) as storage:
        assert len(storage.points()) == 30
        assert storage.verify(read_data=True).damages == []
