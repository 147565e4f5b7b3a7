"""Collections that a node begins by itself."""

from collections.abc import Iterator
from datetime import time
from pathlib import Path

import pytest
import trio
import trio.testing

from schemas.api import Encryption
from schemas.control import StorageOpen
from tests.vdrd.store.conftest import back_up, image_bytes
from vdrd.model.errors import BadInput
from vdrd.node.config import NodeConfig
from vdrd.node.storages import StorageKeeper
from vdrd.node.upkeep import DELAY_SECONDS, PAUSE_SECONDS, DayWindow, Upkeep


@pytest.fixture
def keeper(tmp_path: Path) -> Iterator[StorageKeeper]:
    made = StorageKeeper(tmp_path / "keys")
    path = str(tmp_path / "s")
    made.open(StorageOpen(storage_id="one", name="one", path=path, create=True, encryption=Encryption.NONE))
    yield made
    made.close()


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("00:00-24:00", ["00:00", "12:00", "23:59"], []),
        ("08:30-17:00", ["08:30", "16:59"], ["08:29", "17:00"]),
        ("22:00-06:00", ["22:00", "00:00", "05:59"], ["06:00", "21:59"]),
    ],
)
def test_window_is_open_from_its_begin_to_its_end(text: str, inside: list[str], outside: list[str]) -> None:
    window = DayWindow.parse(text)
    assert [at for at in inside + outside if window.contains(time.fromisoformat(at))] == inside


@pytest.mark.parametrize("text", ["", "22-6", "22:00-25:00", "24:00-06:00", "06:00-06:00", "00:00-24:01"])
def test_window_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="no window of time"):
        DayWindow.parse(text)


async def test_space_that_points_left_is_freed_after_a_rest_within_the_window_and_told_once(
    keeper: StorageKeeper,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    storage = keeper.storage("one")
    image = tmp_path / "disk.img"
    points = []
    for seed in range(3):
        image.write_bytes(image_bytes(seed, 3_000_000))
        points.append(back_up(storage, image))
    storage.collect()
    hour = 12
    config = NodeConfig(collect_bytes_per_second=0, collect_window="22:00-06:00")
    upkeep = Upkeep(keeper, config, lambda: time(hour))

    async def packs_after(seconds: float) -> int:
        mock_clock.jump(seconds)
        await upkeep.look()
        assert not upkeep.is_used("one")
        return storage.statistics().pack_count

    with caplog.at_level("INFO"):
        storage.forget([points[0].point_id])
        upkeep.note_removed("one")
        assert await packs_after(2 * DELAY_SECONDS) == 3  # not by day
        hour = 23
        upkeep.note_removed("one")
        assert await packs_after(DELAY_SECONDS - 1) == 3
        assert await packs_after(1) == 2
        storage.forget([points[1].point_id])
        upkeep.note_removed("one")
        assert await packs_after(PAUSE_SECONDS - 1) == 2
        assert await packs_after(1) == 1
        assert await packs_after(2 * PAUSE_SECONDS) == 1  # nothing is free: not told
    assert caplog.text.count("storage collected storage=one freed_bytes=") == 2


async def test_collection_is_cut_off_when_the_window_ends_and_what_it_did_stays(
    keeper: StorageKeeper,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    storage = keeper.storage("one")
    image = tmp_path / "disk.img"
    image.write_bytes(image_bytes(1, 3_000_000))
    point = back_up(storage, image)
    storage.collect()
    storage.forget([point.point_id])
    moments = iter([time(5, 59), time(6, 0)])
    upkeep = Upkeep(
        keeper, NodeConfig(collect_window="22:00-06:00", collect_bytes_per_second=1), lambda: next(moments)
    )
    mock_clock.jump(DELAY_SECONDS)
    with caplog.at_level("INFO"):
        await upkeep.look()
    assert "collection cut off storage=one" in caplog.text
    assert storage.wants_collection()
    storage.collect()
    assert storage.statistics().pack_count == 0


async def test_storage_that_cannot_be_collected_is_told_and_left_alone_for_a_while(
    keeper: StorageKeeper,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    mock_clock: trio.testing.MockClock,
) -> None:
    storage = keeper.storage("one")
    (storage.path / "points" / f"{'0' * 32}.point").write_bytes(b"no point")
    upkeep = Upkeep(keeper, NodeConfig(), lambda: time(12))
    for _ in range(3):
        mock_clock.jump(DELAY_SECONDS)
        await upkeep.look()
    assert caplog.text.count("collection failed storage=one") == 1
