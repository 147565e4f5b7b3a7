"""Memory at full scale: a 64 TiB disk, ten million files, ten million chunks in the index.

    python bench/scale.py [--files N] [--disk-tib T] [--extents N] [--chunks N] [--work DIRECTORY]

Each part is a process of its own, and what counts is the largest resident size the kernel saw of it.

disk     A sparse file of 64 TiB (on /dev/shm: few file systems take one) with blocks scattered over all of
         it: backed up whole, again unchanged, and after a change that is told.
files    A manifest of ten million files, and an incremental backup against it with one file in a hundred
         gone. The entries of the scan are made up, ten million inodes being a matter of hours; merge,
         batches, manifest, store and commit are the product's own, through `backup_files` itself.
index    Ten million entries in one segment and random look-ups all over it. A segment is mapped: its pages
         count as resident while nobody else wants the memory, so what is the process's own stands beside.
"""

import argparse
import json
import os
import random
import shutil
import sys
import time
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import numpy as np
from native._core import ffi

from native.event import EventList
from native.index import Index
from native.segment import ENTRY_FIXED_BYTES, PIECE_BYTES
from vdrd.disk.backup import backup_disk
from vdrd.files import backup as files_backup
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.entry import FIXED, PIECE, EntryType
from vdrd.files.tree import TreeWriter, cut_seed
from vdrd.formats.storage import BLOCK_BYTES
from vdrd.model.extents import Extent
from vdrd.model.points import DiskRoot, FilesRoot
from vdrd.model.progress import Cancel
from vdrd.model.storage import Encryption, KeyMaterial
from vdrd.store import Storage

MIB, TIB = 1 << 20, 1 << 40
LIMIT_MIB = 300
FOLDER_FILES = 1000
GONE_IN = 100
TABLE_ENTRIES = 1 << 18

Report = dict[str, float]
KEY = KeyMaterial(bytes(range(32)))
NUMBERS = ("files", "disk-tib", "extents", "chunks")
"""Options handed to the process of a part."""


def own_mib() -> float:
    """Resident memory that is not a file's."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


# ---- disk ----


def part_disk(arguments: argparse.Namespace) -> Report:
    """Back up a sparse disk three times."""
    size_bytes = arguments.disk_tib * TIB
    image = Path("/dev/shm") / f"vdr-scale-{os.getpid()}.raw"
    path = arguments.work / "storage"
    Storage.create(path, encryption=Encryption.NONE)
    source = random.Random(1)
    report: Report = {}
    try:
        with image.open("wb") as file:
            file.truncate(size_bytes)
            for offset in sorted(source.sample(range(size_bytes // BLOCK_BYTES), arguments.extents)):
                os.pwrite(file.fileno(), source.randbytes(4096), offset * BLOCK_BYTES)
        root = None
        for step, changed in (
            ("full", None),
            ("unchanged", None),
            ("told", [Extent(size_bytes // 2, 4096)]),
        ):
            began = time.monotonic()
            with Storage.open(path, writable=True) as storage, storage.session(check=False) as session:
                draft = backup_disk(
                    image,
                    session,
                    object_name="disk",
                    changed=changed,
                    parent=root,
                    parent_source=storage.reader,
                    progress=lambda _: None,
                    cancel=Cancel(),
                )
                session.commit(draft)
            assert isinstance(draft.root, DiskRoot)
            root = draft.root
            report[f"{step} (s)"] = time.monotonic() - began
        report["stored (MiB)"] = draft.stored_bytes / MIB
    finally:
        image.unlink(missing_ok=True)
    return report


# ---- files ----


class Folders:
    """Loose entries of `dNNNNNN` and `dNNNNNN/fNNN`: the root first, then folder by folder."""

    def __init__(self, file_count: int, *, pieces: bool) -> None:
        self.count = file_count // FOLDER_FILES
        self._file = self._record(EntryType.REGULAR, b"d000000/f000", 4096 if pieces else 0, pieces=pieces)
        self._folder = self._record(EntryType.DIRECTORY, b"d000000", 0, pieces=False)
        self._pieces = pieces

    @staticmethod
    def _record(kind: EntryType, path: bytes, size_bytes: int, *, pieces: bool) -> bytes:
        body = (PIECE.pack(bytes(32), size_bytes, 0, 0) if pieces else b"") + path
        record_bytes = ENTRY_FIXED_BYTES + len(body) + -len(body) % 8
        fixed = FIXED.pack(
            record_bytes, 0, len(path), kind, 0, 0o644, 0, 0, 0, 4096 if kind is EntryType.REGULAR else 0,
            1_700_000_000, 1_700_000_000, 0, 0, 0, 8, 1, 0, 0, 1, 0, 0, int(pieces), bytes(16),
        )  # fmt: skip
        return (fixed + body).ljust(record_bytes, b"\0")

    def root(self) -> bytes:
        """The entry of the tree itself."""
        return self._record(EntryType.DIRECTORY, b"", 0, pieces=False)

    def records(self, number: int, *, is_thinned: bool) -> bytes:
        """One folder and its files; thinned, one in a hundred is not there."""
        folder = bytearray(self._folder)
        digits = b"%06d" % number
        folder[ENTRY_FIXED_BYTES + 1 : ENTRY_FIXED_BYTES + 7] = digits
        rows = np.tile(np.frombuffer(self._file, np.uint8), (FOLDER_FILES, 1))
        names = np.arange(FOLDER_FILES)
        path_at = ENTRY_FIXED_BYTES + (PIECE_BYTES if self._pieces else 0)
        rows[:, path_at + 1 : path_at + 7] = np.frombuffer(digits, np.uint8)
        for place, power in enumerate((100, 10, 1)):
            rows[:, path_at + 9 + place] = ord("0") + names // power % 10
        rows[:, 56:64] = (number * FOLDER_FILES + names).astype("<u8").view(np.uint8).reshape(-1, 8)
        if self._pieces:
            # Sixteen files share a chunk, as small ones do; no two chunks are the same.
            ids = np.random.default_rng(number).integers(0, 256, (FOLDER_FILES // 16 + 1, 32), np.uint8)
            rows[:, ENTRY_FIXED_BYTES : ENTRY_FIXED_BYTES + 32] = ids[names // 16]
        if is_thinned:
            rows = rows[(names + number) % GONE_IN != 0]
        return bytes(folder) + rows.tobytes()


class MadeUpScan:
    """What `native.scan.Scan` gives, of a tree that does not exist."""

    def __init__(self, folders: Folders) -> None:
        self.events = EventList()
        self.pointer: Any = None
        self._folders = folders
        self._next = -1

    def next_bytes(self) -> int:
        """See Scan."""
        block = self._folders.root() if self._next < 0 else self._folders.records(self._next, is_thinned=True)
        self._block = ffi.from_buffer("uint8_t[]", block)
        self.pointer = self._block
        self._next += 1
        return len(block)

    @property
    def is_end(self) -> bool:
        """See Scan."""
        return self._next == self._folders.count

    def owners(self, *, groups: bool = False) -> list[int]:
        """See Scan."""
        return [0]

    def close(self) -> None:
        """See Scan."""


def part_files(arguments: argparse.Namespace) -> Report:
    """Write a manifest, then back up against it."""
    path, tree = arguments.work / "storage", arguments.work / "tree"
    tree.mkdir()
    Storage.create(path, encryption=Encryption.AES_256_GCM, key=KEY)
    report: Report = {}
    folders = Folders(arguments.files, pieces=True)
    began = time.monotonic()
    with Storage.open(path, key=KEY, writable=True) as storage:
        with storage.session(check=False) as session:
            writer = TreeWriter(ChunkWriter(session, WrittenCounts()), cut_seed(session.keys.cut_key))
            writer.append(folders.root())
            for number in range(folders.count):
                writer.append(folders.records(number, is_thinned=False))
            root = writer.finish(logical_bytes=4096 * arguments.files, users={}, groups={})
            storage.pool.flush(since=0)
            storage.index.flush()
        report["first manifest (s)"] = time.monotonic() - began
        scanned = Folders(arguments.files, pieces=False)
        vars(files_backup)["Scan"] = lambda *_, **__: MadeUpScan(scanned)
        began = time.monotonic()
        with storage.session(check=False) as session:
            draft = files_backup.backup_files(
                tree, session, object_name="files", parent=root, parent_source=storage.reader
            )
            session.commit(draft)
        report["increment (s)"] = time.monotonic() - began
        assert isinstance(draft.root, FilesRoot)
        left = arguments.files - arguments.files // GONE_IN
        if draft.warning_count or draft.root.entry_count != left + folders.count + 1:
            raise measure.CommandFailed(f"{draft.root.entry_count} entries, {draft.warnings[:3]}")
        report["entries"] = float(draft.root.entry_count)
        report["manifest stored (MiB)"] = draft.stored_bytes / MIB
    return report


# ---- index ----


def part_index(arguments: argparse.Namespace) -> Report:
    """Fill an index, merge it into one segment, look up everywhere."""
    index = Index()
    pack = index.pack_add(bytes(16))
    generator = np.random.default_rng(1)
    handles, kept = [], bytearray()
    translate = array("I", [0])

    def write(name: str, segments: list[int], *, from_table: bool) -> int:
        file = arguments.work / name
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL)
        count = index.write(segments, from_table=from_table, translate=translate, fd=fd, offset=0)
        handle = index.segment_add(fd, 0, count, array("I", [pack]))
        os.close(fd)
        return handle

    began = time.monotonic()
    for at in range(0, arguments.chunks, TABLE_ENTRIES):
        count = min(TABLE_ENTRIES, arguments.chunks - at)
        ids = generator.bytes(32 * count)
        kept += ids[: 32 * 1024]
        index.insert(ids, array("I", [pack, 64, 100, 65536]) * count)
        handles.append(write(f"{at}.idx", [], from_table=True))
        index.table_drop(b"\1")
    merged = write("all.idx", handles, from_table=False)
    for handle in handles:
        index.segment_drop(handle)
    filled = time.monotonic() - began
    began = time.monotonic()
    wanted = 0
    for at in range(0, len(kept), 32 * 1024):
        ids = bytes(kept[at : at + 32 * 1024]) + generator.bytes(32 * 1024)
        wanted += index.claim(ids).count(0)
    looked = time.monotonic() - began
    if wanted != len(kept) // 32:
        raise measure.CommandFailed(f"{wanted} of {len(kept) // 32} chunks were found")
    report = {
        "entries": float(arguments.chunks),
        "filled (s)": filled,
        "a look-up (us)": looked / (2 * len(kept) // 32) * 1e6,
    }
    index.segment_drop(merged)
    return report


PARTS: dict[str, Callable[[argparse.Namespace], Report]] = {
    "disk": part_disk,
    "files": part_files,
    "index": part_index,
}


def table(reports: dict[str, Report]) -> str:
    """One row for each part."""
    lines = ["### Memory at full scale", "", "| part | peak MiB | of its own MiB | to reach | | |"]
    lines.append("|---|---|---|---|---|---|")
    for name, report in reports.items():
        peak, own = report.pop("peak"), report.pop("own")
        verdict = "reached" if (own if name == "index" else peak) <= LIMIT_MIB else "missed"
        others = ", ".join(f"{key} {value:.6g}" for key, value in report.items())
        lines.append(f"| {name} | {peak:.0f} | {own:.0f} | {LIMIT_MIB} | {verdict} | {others} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--files", type=int, default=10_000_000, help="rounded to thousands")
    parser.add_argument("--disk-tib", type=int, default=64)
    parser.add_argument("--extents", type=int, default=100_000, help="blocks written on the disk")
    parser.add_argument("--chunks", type=int, default=10_000_000, help="entries of the index")
    parser.add_argument("--parts", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/vdr-bench"))
    parser.add_argument("--alone", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.alone is not None:
        report = PARTS[arguments.parts[0]](arguments)
        arguments.alone.write_text(json.dumps(report | {"own": own_mib()}))
        return
    measure.compile_bytecode()
    reports = {}
    for name in arguments.parts:
        print(f"scale: {name}", file=sys.stderr)
        place = arguments.work / f"scale-{name}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        numbers = [f"--{key}={getattr(arguments, key.replace('-', '_'))}" for key in NUMBERS]
        words = [sys.executable, __file__, "--parts", name, "--work", place, *numbers]
        environment = {"PYTHONPATH": str(measure.HERE.parent)}
        cost = measure.run([*words, "--alone", place / "report"], environment=environment, directory=place)
        reports[name] = json.loads((place / "report").read_text()) | {"peak": cost.peak_bytes / MIB}
        shutil.rmtree(place)
    print(table(reports))


if __name__ == "__main__":
    main()
