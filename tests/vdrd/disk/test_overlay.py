import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from native import blake3
from vdrd.disk.image import ImageDisk
from vdrd.disk.overlay import BITMAP_NAME, DATA_NAME, OverlayDisk
from vdrd.disk.overlay_search import discard_overlay, find_overlays
from vdrd.model.errors import Damaged, OverlayRefused, StorageFull
from vdrd.model.extents import Extent, ExtentKind

MIB = 1 << 20


@pytest.fixture
def lower(tmp_path: Path) -> Iterator[ImageDisk]:
    path = tmp_path / "lower.img"
    path.write_bytes(os.urandom(4 * MIB) + bytes(4 * MIB))
    with ImageDisk.open(path) as disk:
        yield disk


@pytest.fixture
def small_file_system(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_overlay_reopened_shows_the_same_and_lower_is_untouched(tmp_path: Path, lower: ImageDisk) -> None:
    before = lower.path.read_bytes()
    with OverlayDisk.open(tmp_path / "o", lower, identity="a") as disk:
        disk.write(1000, b"new")
        disk.zero(MIB, MIB)
        expected = disk.native.read(0, disk.size_bytes)
    assert expected[1000:1003] == b"new"
    with OverlayDisk.open(tmp_path / "o", lower, identity="a") as disk:
        assert disk.native.read(0, disk.size_bytes) == expected
        assert list(disk.changed()) == [Extent(0, 4096), Extent(MIB, MIB, ExtentKind.ZERO)]
        assert disk.statistics().blocks == 1 + MIB // 4096
    assert lower.path.read_bytes() == before


def test_overlay_of_another_disk_is_refused(tmp_path: Path, lower: ImageDisk) -> None:
    OverlayDisk.open(tmp_path / "o", lower, identity="point 1").close()
    with pytest.raises(OverlayRefused, match="does not belong to point 2"):
        OverlayDisk.open(tmp_path / "o", lower, identity="point 2")
    os.truncate(lower.path, 9 * MIB)
    with ImageDisk.open(lower.path) as larger, pytest.raises(OverlayRefused, match="does not belong"):
        OverlayDisk.open(tmp_path / "o", larger, identity="point 1")


def test_overlay_open_elsewhere_is_refused_until_closed(tmp_path: Path, lower: ImageDisk) -> None:
    first = OverlayDisk.open(tmp_path / "o", lower, identity="a")
    with pytest.raises(OverlayRefused, match="another process"):
        OverlayDisk.open(tmp_path / "o", lower, identity="a")
    first.close()
    OverlayDisk.open(tmp_path / "o", lower, identity="a").close()


@pytest.mark.parametrize("name", [DATA_NAME, BITMAP_NAME])
def test_overlay_with_a_truncated_file_is_damaged(tmp_path: Path, lower: ImageDisk, name: str) -> None:
    OverlayDisk.open(tmp_path / "o", lower, identity="a").close()
    path = tmp_path / "o" / name
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(Damaged, match="overlay"):
        OverlayDisk.open(tmp_path / "o", lower, identity="a")


def test_overlay_both_slots_of_a_page_damaged_is_refused(tmp_path: Path, lower: ImageDisk) -> None:
    with OverlayDisk.open(tmp_path / "o", lower, identity="a") as disk:
        for block in range(2):
            disk.write(block * 4096, b"x")
            disk.flush()
    path = tmp_path / "o" / BITMAP_NAME
    raw = bytearray(path.read_bytes())
    raw[4096 + 100] ^= 1
    path.write_bytes(raw)
    with OverlayDisk.open(tmp_path / "o", lower, identity="a") as disk:
        assert disk.statistics().torn_pages == 1
        assert disk.statistics().blocks == 2
    raw[8192 + 100] ^= 1
    path.write_bytes(raw)
    with pytest.raises(Damaged):
        OverlayDisk.open(tmp_path / "o", lower, identity="a")


def test_overlay_full_file_system_refuses_the_write_and_stays_whole(
    small_file_system: Path, lower: ImageDisk
) -> None:
    filler = small_file_system / "filler"
    with OverlayDisk.open(small_file_system / "o", lower, identity="a") as disk:
        disk.write(0, b"kept" * 1024)
        filler.write_bytes(bytes(900 << 10))
        with pytest.raises(OSError, match="No space"):
            disk.write(MIB, b"x" * MIB)
        disk.flush()
        assert disk.native.read(2 * MIB - 65536, 65536) == lower.native.read(2 * MIB - 65536, 65536)
        filler.unlink()
        disk.write(3 * MIB, b"later")
        disk.flush()
    with OverlayDisk.open(small_file_system / "o", lower, identity="a") as disk:
        assert disk.native.read(0, 4096) == b"kept" * 1024
        assert disk.native.read(3 * MIB, 5) == b"later"
        assert disk.native.read(2 * MIB - 4096, 4096) == lower.native.read(2 * MIB - 4096, 4096)


def test_overlay_cannot_be_made_on_a_full_file_system(small_file_system: Path, lower: ImageDisk) -> None:
    subprocess.run(["dd", "if=/dev/zero", f"of={small_file_system}/filler"], check=False, capture_output=True)
    with pytest.raises(StorageFull, match="no space left"):
        OverlayDisk.open(small_file_system / "o", lower, identity="a")
    assert [entry.name for entry in small_file_system.iterdir()] == ["filler"]


WRITER = """
import sys
from pathlib import Path
from vdrd.disk.image import ImageDisk
from vdrd.disk.overlay import OverlayDisk

lower = ImageDisk.open(Path(sys.argv[1]))
disk = OverlayDisk.open(Path(sys.argv[2]), lower, identity="a")
print("open", flush=True)
for number in range(1, 100000):
    for copy in range(3):
        start = ((number * 37 + copy * 500) % 2000) * 4096 + 100 * copy
        disk.write(start, number.to_bytes(4, "little") * 700)
    if number % 5 == 0:
        disk.flush()
        print(number, flush=True)
"""


def expected_content(lower: bytes, count: int) -> bytearray:
    content = bytearray(lower)
    for number in range(1, count + 1):
        for copy in range(3):
            start = ((number * 37 + copy * 500) % 2000) * 4096 + 100 * copy
            content[start : start + 2800] = number.to_bytes(4, "little") * 700
    return content


@pytest.mark.parametrize("flushes_before_kill", [1, 3, 20, 41])
def test_overlay_writer_killed_keeps_every_flushed_write(
    tmp_path: Path, lower: ImageDisk, flushes_before_kill: int
) -> None:
    command = [sys.executable, "-c", WRITER, lower.path, tmp_path / "o"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        lines = [writer.stdout.readline() for _ in range(1 + flushes_before_kill)]
        writer.send_signal(signal.SIGKILL)
        lines += writer.stdout.readlines()
    flushed = int(lines[-1])
    with OverlayDisk.open(tmp_path / "o", lower, identity="a") as disk:
        found = disk.native.read(0, disk.size_bytes)
    below = lower.path.read_bytes()
    # Writes after the last answered flush may be there or not, each block for itself.
    oldest, allowed = (
        expected_content(below, flushed),
        [expected_content(below, flushed + n) for n in range(1, 12)],
    )
    for start in range(0, len(found), 4096):
        block = found[start : start + 4096]
        assert block == oldest[start : start + 4096] or block in [a[start : start + 4096] for a in allowed], (
            start
        )


class Keys:
    """Keys as a storage's keyring gives them."""

    def __init__(self, *roots: bytes) -> None:
        self._roots = roots

    @property
    def epoch(self) -> int:
        return len(self._roots) - 1

    @property
    def epoch_count(self) -> int:
        return len(self._roots)

    def overlay_key(self, overlay_id: bytes, epoch: int) -> bytes:
        return blake3.derive("test", self._roots[epoch] + overlay_id, 64)


def test_encrypted_overlay_is_read_with_its_key_also_after_a_rotation(
    tmp_path: Path, lower: ImageDisk
) -> None:
    secret = b"nobody else's business " * 500
    with OverlayDisk.open(tmp_path / "o", lower, identity="a", keys=Keys(b"old")) as disk:
        disk.write(5000, secret)
    stored = (tmp_path / "o" / DATA_NAME).read_bytes()
    assert b"business" not in stored
    with OverlayDisk.open(tmp_path / "o", lower, identity="a", keys=Keys(b"old", b"new")) as disk:
        assert disk.native.read(5000, len(secret)) == secret
        assert disk.native.read(0, 5000) == lower.native.read(0, 5000)


@pytest.mark.parametrize("keys", [None, Keys(b"other"), Keys(b"first", b"second")])
def test_encrypted_overlay_under_another_key_is_refused_and_unchanged(
    tmp_path: Path, lower: ImageDisk, keys: Keys | None
) -> None:
    with OverlayDisk.open(tmp_path / "o", lower, identity="a", keys=Keys(b"old", b"newer")) as disk:
        disk.write(0, b"x" * 10000)
    before = [path.read_bytes() for path in sorted((tmp_path / "o").iterdir())]
    with pytest.raises(OverlayRefused, match=r"encrypted|another key"):
        OverlayDisk.open(tmp_path / "o", lower, identity="a", keys=keys)
    assert [path.read_bytes() for path in sorted((tmp_path / "o").iterdir())] == before


def test_overlay_made_in_clear_is_opened_where_keys_are(tmp_path: Path, lower: ImageDisk) -> None:
    with OverlayDisk.open(tmp_path / "o", lower, identity="a") as disk:
        disk.write(0, b"in clear")
    with OverlayDisk.open(tmp_path / "o", lower, identity="a", keys=Keys(b"key")) as disk:
        assert disk.native.read(0, 8) == b"in clear"


def test_overlay_at_its_limit_refuses_and_goes_on_under_a_higher_one(
    tmp_path: Path, lower: ImageDisk
) -> None:
    with OverlayDisk.open(tmp_path / "o", lower, identity="a", limit_bytes=2 * MIB) as disk:
        disk.write(0, b"a" * MIB)
        disk.flush()
        with pytest.raises(OSError, match="No space"):
            disk.write(2 * MIB, b"b" * 2 * MIB)
        disk.write(0, b"c" * MIB)
    with OverlayDisk.open(tmp_path / "o", lower, identity="a", limit_bytes=8 * MIB) as disk:
        assert disk.native.read(0, MIB) == b"c" * MIB
        disk.write(2 * MIB, b"b" * 2 * MIB)
        assert disk.native.read(2 * MIB, 2 * MIB) == b"b" * 2 * MIB


def test_search_finds_overlays_and_discards_them(tmp_path: Path, lower: ImageDisk) -> None:
    places = [tmp_path / "cache" / "one", tmp_path / "exports" / "id" / "cache"]
    for number, place in enumerate(places):
        with OverlayDisk.open(place, lower, identity=f"point {number}") as disk:
            disk.write(0, b"x" * MIB)
    places[0].with_name("one.files").mkdir()
    (tmp_path / "cache" / "link").symlink_to(places[1])
    (tmp_path / "exports" / "broken").mkdir()
    for name in (DATA_NAME, BITMAP_NAME):
        (tmp_path / "exports" / "broken" / name).write_bytes(b"nothing")
    with OverlayDisk.open(places[1], lower, identity="point 1"):
        found = find_overlays([tmp_path / "cache", tmp_path / "exports"], ["point 0", "point 2"])
        assert [(one.path, one.identity, one.is_open) for one in found] == [
            (places[0], "point 0", False),
            (places[1], None, True),
        ]
        assert all(MIB <= one.stored_bytes < 2 * MIB and one.size_bytes == 8 * MIB for one in found)
        with pytest.raises(OverlayRefused, match="another process"):
            discard_overlay(places[1])
    discard_overlay(places[0])
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["link"]
    assert places[1].exists()
