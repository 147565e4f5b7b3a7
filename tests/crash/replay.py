"""What a disk may hold after losing power at a moment of a recorded run.

Promised is what POSIX promises and no more: bytes of a file are there once the file was synced, names in a
directory once the directory was. Of everything younger any part may be there: each write wholly, in some of
its sectors or not at all, a file longer than its bytes (zeros), names made, changed and removed in any
order. A rename is one step, never half. What a failed sync was to make durable no later sync does.
"""

import os
import random
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tests.crash.disk import Call, Kind

SECTOR_BYTES = 512


@dataclass(eq=False)
class File:
    """Bytes that are durable, and the calls that are not."""

    durable: bytearray = field(default_factory=bytearray)
    pending: list[Call] = field(default_factory=list)
    doubtful: list[Call] = field(default_factory=list)
    """Older than a sync that failed."""


@dataclass(eq=False)
class Folder:
    """Names that are durable, and names as the living system sees them."""

    durable: dict[str, "File | Folder"] = field(default_factory=dict)
    living: dict[str, "File | Folder"] = field(default_factory=dict)


Names = dict[str, File | Folder]


@dataclass(eq=False)
class Naming:
    """A change of names that is not durable yet: `node` gone from one place, come to another."""

    node: "File | Folder"
    gone: tuple[Folder, str] | None
    come: tuple[Folder, str] | None

    def touches(self, folder: Folder) -> bool:
        """True if syncing this folder makes it durable."""
        return any(place is not None and place[0] is folder for place in (self.gone, self.come))


@dataclass(frozen=True, slots=True)
class Loss:
    """How much of what is not durable is there: a name, a write, a sector of a torn write, by these chances;
    and the chance that a file has the length of its lost writes."""

    name: str
    names: float
    writes: float
    torn: float
    lengths: float


KILLED = Loss("killed", 1, 1, 0, 1)
"""Nothing is lost: only the processes died."""
CUT = Loss("cut", 0, 0, 0, 0)
"""Nothing is there that was not promised."""
NAMES_FIRST = Loss("names-first", 1, 0, 0, 1)
"""All names, none of the bytes: what a rename without a sync looks like."""
BYTES_FIRST = Loss("bytes-first", 0, 1, 0, 1)
MIXED = Loss("mixed", 0.5, 0.4, 0.4, 0.5)
NEARLY_ALL = Loss("nearly-all", 0.9, 0.8, 0.15, 0.9)
LOSSES = (KILLED, CUT, NAMES_FIRST, BYTES_FIRST, MIXED, NEARLY_ALL)


class Replay:
    """The disk as it is after `done` calls; only goes forward."""

    def __init__(self, calls: Sequence[Call]) -> None:
        self._calls = calls
        self.done = 0
        self.root = Folder()
        self._inodes: dict[int, File | Folder] = {}
        self._namings: list[Naming] = []

    def advance(self, count: int) -> None:
        """Go on until `count` calls are done."""
        assert count >= self.done
        for call in self._calls[self.done : count]:
            self._do(call)
        self.done = count

    def _place(self, path: str) -> tuple[Folder, str]:
        parts = PurePosixPath(path).parts[1:]
        folder = self.root
        for part in parts[:-1]:
            child = folder.living[part]
            assert isinstance(child, Folder)
            folder = child
        return folder, parts[-1]

    def _do(self, call: Call) -> None:
        match call.kind:
            case Kind.MAKE_DIRECTORY | Kind.CREATE:
                node = File() if call.kind is Kind.CREATE else Folder()
                self._inodes[call.inode] = node
                self._name(node, None, self._place(call.name))
            case Kind.RENAME:
                assert call.offset_bytes in (0, 1), "an exchange of names is not modelled"
                gone = self._place(call.name)
                self._name(gone[0].living[gone[1]], gone, self._place(call.other))
            case Kind.UNLINK | Kind.REMOVE_DIRECTORY:
                gone = self._place(call.name)
                self._name(gone[0].living[gone[1]], gone, None)
            case Kind.SYNC:
                self._sync(call)
            case Kind.SYNC_DIRECTORY:
                if call.result == 0:
                    self._sync_folder(call.inode)
            case Kind.MARK:
                pass
            case _:
                file = self._inodes[call.inode]
                assert isinstance(file, File)
                file.pending.append(call)

    def _name(
        self, node: "File | Folder", gone: tuple[Folder, str] | None, come: tuple[Folder, str] | None
    ) -> None:
        if gone is not None:
            del gone[0].living[gone[1]]
        if come is not None:
            come[0].living[come[1]] = node
        self._namings.append(Naming(node, gone, come))

    def _sync(self, call: Call) -> None:
        file = self._inodes[call.inode]
        assert isinstance(file, File)
        if call.result == 0:
            for pending in file.pending:
                apply(file.durable, pending)
        else:
            file.doubtful += file.pending
        file.pending.clear()

    def _sync_folder(self, inode: int) -> None:
        folder = self._inodes.get(inode, self.root)
        assert isinstance(folder, Folder)
        left = []
        for naming in self._namings:
            if naming.touches(folder):
                _rename(naming, lambda one: one.durable)
            else:
                left.append(naming)
        self._namings = left

    # ---- crashes ----

    @property
    def pending_count(self) -> int:
        """Changes that are not durable."""
        return len(self._namings) + sum(
            len(node.pending) for node in set(self._inodes.values()) if isinstance(node, File)
        )

    def crash(self, loss: Loss, source: random.Random, target: Path) -> None:
        """Write into the directory `target` what the disk may hold now, instead of what is there."""
        found: dict[Folder, Names] = {}
        for naming in self._namings:
            if source.random() < loss.names:
                _rename(naming, lambda folder: found.setdefault(folder, dict(folder.durable)))
        self._write_folder(self.root, found, loss, source, target)

    def _write_folder(
        self,
        folder: Folder,
        found: dict[Folder, Names],
        loss: Loss,
        source: random.Random,
        target: Path,
    ) -> None:
        names = found.get(folder, folder.durable)
        target.mkdir(exist_ok=True)
        for entry in os.scandir(target):
            # Folders that stay are most of the work of making a storage.
            if not entry.is_dir():
                Path(entry.path).unlink()
            elif not isinstance(names.get(entry.name), Folder):
                shutil.rmtree(entry.path)
        for name, node in names.items():
            if isinstance(node, Folder):
                self._write_folder(node, found, loss, source, target / name)
            else:
                target.joinpath(name).write_bytes(_bytes_after(node, loss, source))


def _rename(naming: Naming, names_of: Callable[[Folder], Names]) -> None:
    if naming.gone is not None:
        folder, name = naming.gone
        names = names_of(folder)
        if names.get(name) is naming.node:
            del names[name]
    if naming.come is not None:
        folder, name = naming.come
        names_of(folder)[name] = naming.node


def apply(data: bytearray, call: Call, start: int = 0, end: int | None = None) -> None:
    """Do a call to a file's bytes; with `start` and `end` (offsets in the file) only that part of it."""
    match call.kind:
        case Kind.TRUNCATE:
            _resize(data, call.length_bytes, may_cut=True)
        case Kind.ALLOCATE:
            _resize(data, call.length_bytes, may_cut=False)
        case _:
            begin, stop = _range(call)
            start, stop = max(start, begin), stop if end is None else min(end, stop)
            if call.kind is Kind.PUNCH:
                stop = min(stop, len(data))
                data[start:stop] = bytes(max(0, stop - start))
            else:
                _resize(data, stop, may_cut=False)
                data[start:stop] = call.data[start - begin : stop - begin]


def _range(call: Call) -> tuple[int, int]:
    length = call.length_bytes if call.kind is Kind.PUNCH else len(call.data)
    return call.offset_bytes, call.offset_bytes + length


def _resize(data: bytearray, length_bytes: int, *, may_cut: bool) -> None:
    if len(data) < length_bytes:
        data.extend(bytes(length_bytes - len(data)))
    elif may_cut:
        del data[length_bytes:]


def _bytes_after(file: File, loss: Loss, source: random.Random) -> bytearray:
    data, living = bytearray(file.durable), len(file.durable)
    for call in file.doubtful + file.pending:
        chance = source.random()
        if call.kind in (Kind.TRUNCATE, Kind.ALLOCATE):
            if chance < loss.writes:
                apply(data, call)
            is_cut = call.kind is Kind.TRUNCATE
            living = call.length_bytes if is_cut else max(living, call.length_bytes)
            continue
        begin, end = _range(call)
        if call.kind is Kind.WRITE:
            living = max(living, end)
        if chance < loss.writes:
            apply(data, call)
        elif chance < loss.writes + loss.torn:
            for at in range(begin // SECTOR_BYTES * SECTOR_BYTES, end, SECTOR_BYTES):
                if source.random() < 0.5:
                    apply(data, call, at, at + SECTOR_BYTES)
    if source.random() < loss.lengths:
        _resize(data, living, may_cut=False)
    return data
