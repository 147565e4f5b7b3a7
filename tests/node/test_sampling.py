"""Samples that a node reads by itself, day by day, and what becomes of what they find."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.api import Encryption
from schemas.control import StorageOpen
from tests.vdrd.store.conftest import back_up, image_bytes
from tests.vdrd.store.test_heal import first_chunk, rot
from vdrd.node.sampling import DAY_SECONDS, Sampling
from vdrd.node.storages import StorageKeeper


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[StorageKeeper]:
    made = StorageKeeper(tmp_path / "keys")
    path = str(tmp_path / "s")
    made.open(StorageOpen(storage_id="one", name="one", path=path, create=True, encryption=Encryption.NONE))
    yield made
    made.close()


async def test_damage_is_found_within_a_day_told_and_mended_by_the_next_backup(
    keeper: StorageKeeper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    storage = keeper.storage("one")
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(1, 500_000))
    point = back_up(storage, image)
    chunk_id = first_chunk(storage, point)
    rot(tmp_path / "s", chunk_id, "payload")
    now = 1e9
    sampling = Sampling(keeper, tmp_path / "samples.json", 100.0, lambda: now)
    await sampling.look()  # met for the first time: a day from now
    now += DAY_SECONDS - 1
    await sampling.look()
    assert caplog.text.count("sample") == 0
    now += 1
    await sampling.look()
    assert "sample damaged storage=one damages=1 points=1" in caplog.text
    assert point.point_id in caplog.text
    (told,) = keeper.announcements()
    assert (told.is_online, told.problem) == (True, "1 of its chunks are damaged")
    back_up(storage, image)
    (told,) = keeper.announcements()
    assert told.problem == ""


async def test_time_of_the_last_sample_outlives_the_node(
    keeper: StorageKeeper, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for at, count in ((0.0, 0), (DAY_SECONDS / 2, 0), (DAY_SECONDS, 1), (1.5 * DAY_SECONDS, 1)):
        await Sampling(keeper, tmp_path / "samples.json", 5.0, lambda at=at: 1e9 + at).look()
        assert caplog.text.count("sample whole storage=one") == count
    (tmp_path / "samples.json").write_text("{]")
    await Sampling(keeper, tmp_path / "samples.json", 5.0, lambda: 3e9).look()
    assert caplog.text.count("sample whole storage=one") == 1


async def test_no_sample_is_read_where_none_is_wanted(keeper: StorageKeeper, tmp_path: Path) -> None:
    await Sampling(keeper, tmp_path / "samples.json", 0.0).run()
    assert not (tmp_path / "samples.json").exists()
