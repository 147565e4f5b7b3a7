"""Long chains and online collection: what time and the number of points must not make slower.

    python bench/chain.py [--points N] [--disk-gib G] [--work DIRECTORY]

A sparse disk of 1 TiB gets a full point and then increments of scattered blocks, through the same calls that
a node makes: once with 10 points and once with 1,000. Measured on each: expiring the oldest point, and
opening points anywhere in the chain, the first block read included. Then half of the points of a busier disk
are forgotten and collected while another backup runs: the longest that any of its calls waited, and how many
bytes were moved for those freed.
"""

import argparse
import os
import random
import shutil
import sys
import threading
import time
from pathlib import Path

import measure
from tools import VDR

from vdrd.disk.backup import backup_disk
from vdrd.formats.storage import BLOCK_BYTES
from vdrd.model.chunks import ChunkKeys, EncodedBatch
from vdrd.model.extents import Extent
from vdrd.model.points import DiskRoot, Point
from vdrd.model.progress import Cancel
from vdrd.model.storage import Encryption, KeyMaterial
from vdrd.store import CollectReport, Storage, WriteSession

GIB, MIB = 1 << 30, 1 << 20
KEY = bytes(range(32))
SHORT_CHAIN = 10
OPENED_POINTS = 25
BUSY_DISK_MIB = 256
BUSY_POINTS = 20
BUSY_SHARE = 10
"""One block in so many is rewritten before each of those points."""


class SlowestCall:
    """A chunk sink that remembers the longest that a call into the storage took."""

    def __init__(self, session: WriteSession) -> None:
        self._session = session
        self.seconds = 0.0

    @property
    def keys(self) -> ChunkKeys:
        """See ChunkSink."""
        return self._session.keys

    @property
    def compression_level(self) -> int | None:
        """See ChunkSink."""
        return self._session.compression_level

    def claim(self, ids: bytes) -> bytes:
        """See ChunkSink."""
        began = time.monotonic()
        lacking = self._session.claim(ids)
        self.seconds = max(self.seconds, time.monotonic() - began)
        return lacking

    def put(self, batch: EncodedBatch) -> None:
        """See ChunkSink."""
        began = time.monotonic()
        self._session.put(batch)
        self.seconds = max(self.seconds, time.monotonic() - began)


class CollectorThread(threading.Thread):
    """A collection in the background."""

    def __init__(self, storage: Storage) -> None:
        super().__init__()
        self._storage = storage
        self.report = CollectReport()
        self.error: BaseException | None = None

    def run(self) -> None:
        """See Thread."""
        try:
            self.report = self._storage.collect()
        except BaseException as error:
            self.error = error


class Disk:
    """A sparse disk, its blocks written at random places, and its chain of points."""

    def __init__(self, path: Path, size_bytes: int, seed: int) -> None:
        self.path = path
        self._blocks = size_bytes // BLOCK_BYTES
        self._random = random.Random(seed)
        with path.open("wb") as file:
            file.truncate(size_bytes)
        self._fd = os.open(path, os.O_RDWR)

    def write_blocks(self, numbers: list[int]) -> list[Extent]:
        """New noise in these blocks; what a hypervisor would tell of it."""
        for number in numbers:
            os.pwrite(self._fd, self._random.randbytes(BLOCK_BYTES), number * BLOCK_BYTES)
        return [Extent(number * BLOCK_BYTES, BLOCK_BYTES) for number in sorted(numbers)]

    def write_scattered(self, count: int) -> list[Extent]:
        """Block 0 and others anywhere."""
        return self.write_blocks([0, *self._random.sample(range(1, self._blocks), count - 1)])

    def back_up(self, storage: Storage, changed: list[Extent] | None, parent: Point | None) -> Point:
        """The next point."""
        root = parent.draft.root if parent else None
        with storage.session(check=False) as session:
            draft = backup_disk(
                self.path,
                session,
                object_name="chain",
                changed=changed if parent else None,
                parent=root if isinstance(root, DiskRoot) else None,
                parent_source=storage.reader,
                parent_id=parent.point_id if parent else None,
                progress=lambda _: None,
                cancel=Cancel(),
            )
            return session.commit(draft)

    def close(self) -> None:
        os.close(self._fd)
        self.path.unlink()


def make_storage(path: Path) -> Path:
    """An empty encrypted storage; its key lies beside it."""
    path.with_name("key").write_bytes(KEY)
    Storage.create(path, encryption=Encryption.AES_256_GCM, key=KeyMaterial(KEY))
    return path


def slowest_seconds(storage: Storage, disk: Disk) -> tuple[float, float]:
    """One whole backup: the longest of its calls, and its commit."""
    with storage.session(check=False) as session:
        sink = SlowestCall(session)
        draft = backup_disk(disk.path, sink, object_name="other", progress=lambda _: None, cancel=Cancel())
        began = time.monotonic()
        session.commit(draft)
        return sink.seconds, time.monotonic() - began


def open_seconds(path: Path, points: list[Point]) -> float:
    """The slowest of several points: found by id, opened as a disk, its first block read, by a reader whose
    caches are empty."""
    slowest = 0.0
    chosen = {
        0,
        len(points) - 1,
        *random.Random(1).sample(range(len(points)), min(OPENED_POINTS, len(points))),
    }
    for number in sorted(chosen):
        with Storage.open(path, key=KeyMaterial(KEY)) as storage:
            began = time.monotonic()
            root = storage.point(points[number].point_id).draft.root
            assert isinstance(root, DiskRoot)
            with storage.reader.open_disk(root) as disk:
                block = disk.read(0, BLOCK_BYTES)
            slowest = max(slowest, time.monotonic() - began)
            if not any(block):
                raise measure.CommandFailed("the first block of a point came back as zeros")
    return slowest


def expire_seconds(path: Path, points: list[Point]) -> tuple[float, float]:
    """Forgetting the oldest point: as a call on an open storage, and the next one as a command of its own."""
    with Storage.open(path, key=KeyMaterial(KEY), writable=True) as storage:
        began = time.monotonic()
        storage.forget([points[0].point_id])
        called = time.monotonic() - began
    environment = {"VDR_KEY_FILE": str(path.with_name("key"))}
    cost = measure.run(
        [VDR, "store", "forget", path, points[1].point_id], environment=environment, directory=path.parent
    )
    return called, cost.wall_seconds


def measure_chain(work: Path, count: int, disk_bytes: int) -> dict[str, float]:
    """Make a chain and measure at its ends."""
    place = work / f"chain-{count}"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    path = make_storage(place / "storage")
    disk = Disk(place / "disk.raw", disk_bytes, count)
    points: list[Point] = []
    increments = []
    with Storage.open(path, key=KeyMaterial(KEY), writable=True) as storage:
        for number in range(count):
            changed = disk.write_scattered(256 if number == 0 else 4)
            began = time.monotonic()
            points.append(disk.back_up(storage, changed, points[-1] if points else None))
            increments.append(time.monotonic() - began)
    disk.close()
    opened = open_seconds(path, points)
    called, commanded = expire_seconds(path, points)
    with Storage.open(path, key=KeyMaterial(KEY)) as storage:
        report = storage.verify([points[-1].point_id], read_data=True)
        if report.damages:
            raise measure.CommandFailed(f"the newest point suffered: {report.damages[0]}")
    shutil.rmtree(place)
    return {
        "last increment, told (s)": increments[-1],
        "oldest point expired, call (s)": called,
        "oldest point expired, command (s)": commanded,
        "slowest point opened (s)": opened,
    }


def measure_collection(work: Path) -> dict[str, float]:
    """Forget the older half of a chain whose packs then are half dead, and collect beside a backup."""
    place = work / "collection"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    path = make_storage(place / "storage")
    disk = Disk(place / "disk.raw", BUSY_DISK_MIB * MIB, 7)
    other = Disk(place / "other.raw", BUSY_DISK_MIB * MIB, 8)
    blocks = BUSY_DISK_MIB * MIB // BLOCK_BYTES
    other.write_blocks(list(range(blocks)))
    points: list[Point] = []
    with Storage.open(path, key=KeyMaterial(KEY), writable=True) as storage:
        changed = disk.write_blocks(list(range(blocks)))
        for _ in range(BUSY_POINTS):
            points.append(disk.back_up(storage, changed, points[-1] if points else None))
            changed = disk.write_scattered(blocks // BUSY_SHARE)
        storage.forget([point.point_id for point in points[: BUSY_POINTS // 2]])
        alone = slowest_seconds(storage, other)
        beside = (0.0, 0.0)
        runs = 0
        collector = CollectorThread(storage)
        began = time.monotonic()
        collector.start()
        while collector.is_alive():
            other.write_blocks(list(range(0, blocks, 4)))
            call, commit = slowest_seconds(storage, other)
            beside = max(beside[0], call), max(beside[1], commit)
            runs += 1
        collector.join()
        seconds = time.monotonic() - began
        if collector.error is not None:
            raise collector.error
        report = collector.report
        damages = storage.verify(read_data=True).damages
    if damages:
        raise measure.CommandFailed(f"collection damaged something: {damages[0]}")
    disk.close()
    other.close()
    shutil.rmtree(place)
    return {
        "slowest call of a backup alone (s)": alone[0],
        "slowest call beside the collection (s)": beside[0],
        "its commit alone (s)": alone[1],
        "slowest commit beside the collection (s)": beside[1],
        "backups beside it": float(runs),
        "freed (MiB)": report.freed_bytes / MIB,
        "moved (MiB)": report.moved_bytes / MIB,
        "moved for each byte freed": report.moved_bytes / max(report.freed_bytes, 1),
        "collection and the last backup beside it (s)": seconds,
    }


LIMITS = {
    "oldest point expired, command (s)": 1.0,
    "slowest point opened (s)": 0.05,
    "last increment, told (s)": 0.5,
    "slowest call beside the collection (s)": 0.1,
    "moved for each byte freed": 1.5,
}


def table(heading: str, columns: dict[str, dict[str, float]]) -> str:
    """Figures in rows, runs in columns, what is to be reached at the end."""
    names = list(next(iter(columns.values())))
    lines = [f"### {heading}", "", f"| figure | {' | '.join(columns)} | to reach | |"]
    lines.append("|---|" + "---|" * (len(columns) + 2))
    for name in names:
        cells = [f"{column[name]:.3f}" for column in columns.values()]
        verdict = ""
        if name in LIMITS:
            is_reached = all(column[name] <= LIMITS[name] for column in columns.values())
            verdict = "reached" if is_reached else "missed"
        lines.append(f"| {name} | {' | '.join(cells)} | {LIMITS.get(name, '')} | {verdict} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=1000, help="in the long chain; default 1000")
    parser.add_argument("--disk-gib", type=int, default=1024, help="size of the sparse disk; default 1024")
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/vdr-bench"))
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    measure.compile_bytecode()
    chains = {}
    for count in (SHORT_CHAIN, arguments.points):
        print(f"chain of {count}", file=sys.stderr)
        chains[f"{count} points"] = measure_chain(arguments.work, count, arguments.disk_gib * GIB)
    print(table(f"Chains on a sparse disk of {arguments.disk_gib} GiB", chains))
    print("collection", file=sys.stderr)
    print(
        table("Collection after half of the points were forgotten", {"": measure_collection(arguments.work)})
    )


if __name__ == "__main__":
    main()
