"""Collection: what it frees and moves, what it must leave alone, and that it can be cut off anywhere."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.vdrd.store.conftest import KEY, back_up, disk_bytes
from vdrd.model.errors import Cancelled, StorageUnwritable
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress
from vdrd.model.rate import RateLimit
from vdrd.store import Encryption, Storage
from vdrd.store.directory import StorageDirectory

pytestmark = pytest.mark.parametrize("encryption", [Encryption.AES_256_GCM], ids=["aes"], indirect=True)

BLOCKS = 24
POINTS = 8


class Chain:
    """A storage with a chain of points, each with a pack of its own, and what each disk looked like."""

    def __init__(self, storage: Storage, image: Path) -> None:
        self.storage = storage
        self.points: list[Point] = []
        self.contents: list[bytes] = []
        source = random.Random(3)
        content = bytearray(source.randbytes(BLOCKS << 16))
        for number in range(POINTS):
            for block in source.sample(range(BLOCKS), BLOCKS // 3 if number else 0):
                content[block << 16 : (block + 1) << 16] = source.randbytes(65536)
            image.write_bytes(content)
            self.points.append(back_up(storage, image))
            self.contents.append(bytes(content))
            if number == 0:
                (self.first_pack,) = self.packs()

    def packs(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.storage.path.glob("packs/*/*.pack")}

    def check(self, alive: list[int]) -> None:
        """These points are whole, and nothing is damaged."""
        for number in alive:
            assert disk_bytes(self.storage, self.points[number]) == self.contents[number]
        assert self.storage.verify(read_data=True).damages == []

    def forget(self, numbers: range) -> list[int]:
        self.storage.forget([self.points[number].point_id for number in numbers])
        return [number for number in range(POINTS) if number not in numbers]


@pytest.fixture
def chain(storage_path: Path, tmp_path: Path) -> Iterator[Chain]:
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        yield Chain(storage, tmp_path / "disk.img")


def test_half_of_the_points_gone_frees_more_than_it_moves(chain: Chain) -> None:
    alive = chain.forget(range(POINTS // 2))
    before = sum(map(len, chain.packs().values()))
    told = chain.storage.census().dead_bytes
    report = chain.storage.collect()
    assert report.rewritten_packs > 1
    assert 0 < report.moved_bytes <= 1.5 * report.freed_bytes
    assert sum(map(len, chain.packs().values())) <= before - report.freed_bytes + 4096
    assert report.dead_bytes == chain.storage.census().dead_bytes < told
    chain.check(alive)
    again = chain.storage.collect()
    assert (again.freed_bytes, again.moved_bytes, again.removed_packs) == (0, 0, 0)


def test_packs_written_again_are_written_together(chain: Chain) -> None:
    chain.forget(range(POINTS // 2))
    before = set(chain.packs())
    report = chain.storage.collect()
    assert report.rewritten_packs > 1
    assert len(set(chain.packs()) - before) == 1


def test_pack_with_a_chunk_of_a_locked_point_stays_as_it_is(chain: Chain) -> None:
    before = chain.packs()
    chain.storage.lock(chain.points[0].point_id, datetime.now(UTC) + timedelta(days=1))
    alive = [0, *chain.forget(range(1, POINTS - 1))]
    report = chain.storage.collect()
    after = chain.packs()
    assert report.removed_packs + report.rewritten_packs > 0
    assert after[chain.first_pack] == before[chain.first_pack]
    chain.check(alive)


def test_half_dead_pack_of_a_locked_point_is_told_and_left(chain: Chain) -> None:
    # The last point shares little with the first pack; it alone is alive, and locked.
    chain.storage.put_hold(chain.points[-1].point_id, True)
    alive = chain.forget(range(POINTS - 1))
    before = chain.packs()
    report = chain.storage.collect()
    assert report.locked_packs > 0
    assert (report.moved_bytes, report.rewritten_packs) == (0, 0)
    assert chain.packs().items() <= before.items()
    chain.storage.put_hold(chain.points[-1].point_id, False)
    assert chain.storage.collect().rewritten_packs == report.locked_packs
    chain.check(alive)


def test_collection_cut_off_at_every_step_leaves_points_whole_and_goes_on(chain: Chain) -> None:
    alive = chain.forget(range(POINTS // 2))
    seen: list[str] = []
    for stop_at in range(1, 1000):
        cancel = Cancel()
        steps = 0

        def count(progress: Progress) -> None:
            nonlocal steps
            steps += 1
            seen.append(progress.step)
            if steps == stop_at:  # noqa: B023 - called within this round
                cancel.request()  # noqa: B023

        try:
            chain.storage.collect(progress=count, cancel=cancel)
            break
        except Cancelled:
            chain.check(alive)
    assert {"mark", "compact"} <= set(seen)
    assert chain.storage.wants_collection() is False
    chain.check(alive)


class Failing(StorageDirectory):
    """Fails at the nth change once it is armed, as if the process had been killed there."""

    left = -1

    def step(self, operation: str, name: str):  # type: ignore[no-untyped-def]
        if self.left == 0:
            raise StorageUnwritable(path=self.path(name), reason="killed")
        self.left -= 1
        return super().step(operation, name)


def test_collection_killed_at_any_write_is_made_good_by_the_next_one(
    storage_path: Path, tmp_path: Path
) -> None:
    directory = Failing(storage_path)
    with Storage.open(storage_path, key=KEY, writable=True, directory=directory) as storage:
        chain = Chain(storage, tmp_path / "disk.img")
        alive = chain.forget(range(POINTS // 2))
    for at in range(0, 1000, 3):
        with Storage.open(storage_path, key=KEY, writable=True, directory=directory) as storage:
            chain.storage = storage
            directory.left = at
            try:
                storage.collect()
                is_done = directory.left > 0
            except StorageUnwritable:
                is_done = False
            # What is written after the kill is not written.
            directory.left = -1 if is_done else 0
        directory.left = -1
        with Storage.open(storage_path, key=KEY) as reader:
            chain.storage = reader
            for number in alive:
                assert disk_bytes(reader, chain.points[number]) == chain.contents[number]
        if is_done:
            break
    with Storage.open(storage_path, key=KEY, writable=True) as storage:
        chain.storage = storage
        storage.collect()
        chain.check(alive)
        assert storage.census().dead_bytes < sum(map(len, chain.packs().values())) / 2


def test_rate_bounds_what_is_read_and_written(chain: Chain) -> None:
    slept: list[float] = []
    now = 0.0

    def sleep(seconds: float) -> None:
        nonlocal now
        now += seconds
        slept.append(seconds)

    chain.forget(range(POINTS // 2))
    rate = RateLimit(1 << 16, clock=lambda: now, sleep=sleep)
    report = chain.storage.collect(rate=rate)
    # Copies are read and written; one second's worth is free.
    least_seconds = 2 * report.moved_bytes / (1 << 16) - 1
    assert least_seconds > 5
    assert least_seconds <= sum(slept) <= 2 * least_seconds
    assert max(slept) <= 0.25


def test_nothing_gone_since_the_last_collection_is_known_without_a_walk(chain: Chain) -> None:
    storage = chain.storage
    assert storage.wants_collection()
    storage.collect()
    assert not storage.wants_collection()
    chain.points.append(storage.points()[-1])
    assert not storage.wants_collection()
    chain.forget(range(1))
    assert storage.wants_collection()
