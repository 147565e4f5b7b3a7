"""Power loss at any moment of an exported disk's life: an NFS client writes through the real server, and what
it was told is stable is there afterwards, whatever else is not."""

import hashlib
import random
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fuse_nfs.export import Export
from tests.crash.disk import Call, CrashDisk, Kind, mounted
from tests.crash.replay import CUT, LOSSES, Loss, Replay
from tests.fuse_nfs import rpc
from tests.fuse_nfs.conftest import RunningServer
from tests.fuse_nfs.rpc import Client
from vdrd.disk.image import ImageDisk
from vdrd.disk.overlay import OverlayDisk, OverlayKeys
from vdrd.model.errors import VdrError

SECTOR_BYTES = 512
SIZE_BYTES = (1 << 20) + 1000
SECTORS = SIZE_BYTES // SECTOR_BYTES
OPERATIONS = 60
CRASHES = 150
"""That the default run looks at, for each kind of overlay; six at every call with `--long`."""
IDENTITY = "a disk of this test"


class Keys:
    """Of one storage that does not rotate its key."""

    epoch = 0
    epoch_count = 1

    def overlay_key(self, overlay_id: bytes, epoch: int) -> bytes:
        assert epoch == 0
        return hashlib.sha512(overlay_id).digest()


@dataclass
class Story:
    """What the client did and was told. Moments are numbers of calls in the log."""

    lower: Path
    keys: OverlayKeys | None
    versions: list[list[tuple[int, bytes]]] = field(default_factory=list)
    """Of each sector: from which operation on it has this content."""
    begun: list[int] = field(default_factory=list)
    """Moment before each operation."""
    stable: list[tuple[int, int]] = field(default_factory=list)
    """(moment, operation): from this moment on all up to this operation is promised."""
    calls: list[Call] = field(default_factory=list)


def work(client: Client, handle: bytes, disk: CrashDisk, story: Story) -> None:
    """Writes, stable ones among them, zeros and commits, each begun when the one before was answered."""
    source = random.Random(5)
    for number in range(1, OPERATIONS + 1):
        story.begun.append(len(disk.calls()))
        start = source.randrange(SECTORS)
        count = min(SECTORS - start, source.choice((1, 3, 8, 8, 16, 100)))
        is_zero = source.random() < 0.2
        content = bytes(count * SECTOR_BYTES) if is_zero else source.randbytes(count * SECTOR_BYTES)
        how = source.choice((rpc.UNSTABLE, rpc.UNSTABLE, rpc.DATA_SYNC, rpc.FILE_SYNC))
        for at in range(count):
            sector = content[at * SECTOR_BYTES : (at + 1) * SECTOR_BYTES]
            story.versions[start + at].append((number, sector))
        status, _ = client.write(handle, start * SECTOR_BYTES, content, how)
        assert status == rpc.OK
        if how == rpc.UNSTABLE and source.random() < 0.2:
            status, _ = client.nfs(rpc.COMMIT, rpc.opaque(handle) + rpc.u64(0) + rpc.u32(0))
            assert status == rpc.OK
            how = rpc.FILE_SYNC
        if how != rpc.UNSTABLE:
            story.stable.append((len(disk.calls()), number))


@pytest.fixture(scope="module", params=[None, Keys()], ids=["clear", "encrypted"])
def story(
    request: pytest.FixtureRequest, crash_disk_program: Path, tmp_path_factory: pytest.TempPathFactory
) -> Story:
    folder = tmp_path_factory.mktemp("overlay")
    lower = folder / "lower.raw"
    lower.write_bytes(random.Random(4).randbytes(SIZE_BYTES // 2) + bytes(SIZE_BYTES - SIZE_BYTES // 2))
    data = lower.read_bytes()
    story = Story(lower, request.param)
    story.versions = [
        [(0, data[at : at + SECTOR_BYTES])] for at in range(0, SECTORS * SECTOR_BYTES, SECTOR_BYTES)
    ]
    with mounted(crash_disk_program, folder / "crash") as disk, ImageDisk.open(lower) as below:
        path = disk.path / "overlays" / "machine"
        opened = OverlayDisk.open(path, below, identity=IDENTITY, keys=story.keys)
        with opened as overlay, RunningServer(None, None) as server:
            server.add(Export("machine", overlay, is_writable=True))
            with server.client() as client:
                work(client, client.disk("machine"), disk, story)
            server.remove("machine")
        story.calls = disk.calls()
    return story


def allowed(story: Story, sector: int, floor: int, newest: int) -> set[bytes]:
    """What a sector may be: as the last promise left it, or as anything begun since made it."""
    versions = story.versions[sector]
    promised = [content for number, content in versions if number <= floor][-1]
    return {promised} | {content for number, content in versions if floor < number <= newest}


def read_all(disk: OverlayDisk) -> bytes:
    content = bytearray(SIZE_BYTES)
    disk.read_into(0, content)
    return bytes(content)


def check(folder: Path, moment: int, story: Story) -> None:
    promises = [number for at, number in story.stable if at <= moment]
    floor = max(promises, default=0)
    newest = bisect_right(story.begun, moment)
    path = folder / "overlays" / "machine"
    assert path.exists() or floor == 0
    with ImageDisk.open(story.lower) as below:
        with OverlayDisk.open(path, below, identity=IDENTITY, keys=story.keys) as overlay:
            content = read_all(overlay)
            for sector in range(SECTORS):
                found = content[sector * SECTOR_BYTES : (sector + 1) * SECTOR_BYTES]
                assert found in allowed(story, sector, floor, newest), f"sector {sector}"
            overlay.write(3 * SECTOR_BYTES, b"on we go")
            overlay.flush()
        with OverlayDisk.open(path, below, identity=IDENTITY, keys=story.keys) as overlay:
            after = content[: 3 * SECTOR_BYTES] + b"on we go" + content[3 * SECTOR_BYTES + 8 :]
            assert read_all(overlay) == after


def moments(story: Story, count: int | None) -> list[tuple[int, Loss]]:
    every = [(number, loss) for number in range(1, len(story.calls) + 1) for loss in LOSSES]
    if count is None:
        return every
    return sorted(random.Random(7).sample(every, count), key=lambda moment: moment[0])


def look_at(moments_: list[tuple[int, Loss]], story: Story, target: Path) -> None:
    replay = Replay(story.calls)
    for moment, loss in moments_:
        replay.advance(moment)
        replay.crash(loss, random.Random(f"{moment} {loss.name}"), target)
        try:
            check(target, moment, story)
        except BaseException as error:
            error.add_note(f"after call {moment} of {len(story.calls)}: {loss.name}")
            raise


@pytest.mark.parametrize(
    "count", [CRASHES, pytest.param(None, marks=pytest.mark.long)], ids=["sample", "all"]
)
@pytest.mark.timeout(3600)
def test_overlay_after_power_loss_has_all_that_was_promised(
    story: Story, count: int | None, tiny_filesystem: Callable[[int], Path]
) -> None:
    assert len(story.stable) > 10
    look_at(moments(story, count), story, tiny_filesystem(64))


def test_overlay_that_did_not_sync_would_be_found_out(
    story: Story, tiny_filesystem: Callable[[int], Path]
) -> None:
    # Marks stand in their place, so that moments stay what they are.
    calls = [
        Call(Kind.MARK, 0, 0, 0, 0, "", "", b"") if call.kind is Kind.SYNC else call for call in story.calls
    ]
    careless = Story(story.lower, story.keys, story.versions, story.begun, story.stable, calls)
    with pytest.raises((AssertionError, VdrError)):
        look_at([(len(calls), CUT)], careless, tiny_filesystem(64))
