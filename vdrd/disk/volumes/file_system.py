"""What every file system reader gives: nodes, names, attributes and where content stands."""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from msgspec import Struct

from vdrd.disk.volumes.ranges import Range, Unreadable

HOLE = -1
CODED = -2
"""Places of a run that is nowhere, and of one that must be decoded (compressed, or kept within metadata)."""
DIRECTORY_NAMES_MAX = 2_000_000
RUNS_MAX = 1_000_000
LINK_BYTES_MAX = 4096

FILE, DIRECTORY, SYMLINK, FIFO, SOCKET, CHARACTER, BLOCK = 1, 2, 3, 4, 5, 6, 7
"""Kinds of nodes; the numbers are those of a manifest's entries."""
KIND_OF_MODE = {8: FILE, 4: DIRECTORY, 10: SYMLINK, 1: FIFO, 12: SOCKET, 2: CHARACTER, 6: BLOCK}
"""By the upper four bits of a Unix mode."""


class Node(Struct, frozen=True, array_like=True):
    """A file, directory or other thing of a file system. `ref` names it to the reader that gave it."""

    ref: int
    kind: int
    mode: int
    """Permission bits."""
    uid: int
    gid: int
    size_bytes: int
    mtime_ns: int
    ctime_ns: int
    link_count: int = 1
    device: tuple[int, int] = (0, 0)
    """Major and minor of a device node."""


class Run(NamedTuple):
    """Consecutive bytes of a file and where they stand in the volume: an offset, HOLE or CODED."""

    offset: int
    length: int
    place: int


class FileSystem:
    """One file system, open. Derived classes know a format; they raise Unreadable, or anything a parser of
    damaged
    bytes may raise, which the process treats the same."""

    name = ""
    """As `blkid` says it."""
    label = ""
    uuid = ""
    is_unclean = False
    """True if it was in use: changes that stand in its journal alone are not shown."""
    has_owners = True
    root_ref = 0

    def __init__(self, volume: Range) -> None:
        self.volume = volume
        self._kept: tuple[int, list[Run], list[int]] | None = None

    def node(self, ref: int) -> Node:
        """What a reference stands for."""
        raise NotImplementedError

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """Names of a directory with their references, without '.' and '..', in any order."""
        raise NotImplementedError

    def content_runs(self, node: Node) -> Iterator[Run]:
        """Runs of a file in order; what lies between them is holes."""
        raise NotImplementedError

    def link_target(self, node: Node) -> bytes:
        """Of a symbolic link."""
        if node.size_bytes > LINK_BYTES_MAX:
            raise Unreadable("a symbolic link of impossible length")
        return self.read(node, 0, node.size_bytes)

    def attributes(self, ref: int) -> list[tuple[bytes, bytes]]:
        """Extended attributes as Linux would give them."""
        return []

    def read_coded(self, node: Node, offset: int, length: int) -> bytes:
        """Bytes of runs with the place CODED."""
        raise NotImplementedError

    def runs(self, node: Node) -> tuple[list[Run], list[int]]:
        """Runs that cover a file from 0 to its size without gaps, and where each begins."""
        if self._kept is None or self._kept[0] != node.ref:
            runs = list(_covered(self.content_runs(node), node.size_bytes))
            self._kept = (node.ref, runs, [run.offset for run in runs])
        return self._kept[1], self._kept[2]

    def read(self, node: Node, offset: int, length: int) -> bytes:
        """Content of a file; shorter only at its end."""
        runs, begins = self.runs(node)
        end = min(offset + length, node.size_bytes)
        parts = []
        while offset < end:
            run = runs[bisect_right(begins, offset) - 1]
            count = min(end, run.offset + run.length) - offset
            if run.place == HOLE:
                parts.append(bytes(count))
            elif run.place == CODED:
                parts.append(self.read_coded(node, offset, count))
            else:
                parts.append(self.volume.read(run.place + offset - run.offset, count))
            if len(parts[-1]) != count:
                raise Unreadable("content shorter than it should be")
            offset += count
        return b"".join(parts)

    def find(self, ref: int, name: bytes) -> int | None:
        """The reference of a name in a directory."""
        return next((child for found, child in self.children(ref) if found == name), None)


def _covered(runs: Iterator[Run], size_bytes: int) -> Iterator[Run]:
    """The runs joined where they touch, cut at the size, with holes between."""
    at = 0
    pending: Run | None = None
    for number, run in enumerate(runs):
        if number >= RUNS_MAX:
            raise Unreadable("a file in more pieces than can be kept in mind")
        if run.offset >= size_bytes:
            break
        if run.offset < at or run.length <= 0:
            raise Unreadable("a file whose pieces overlap")
        run = Run(run.offset, min(run.length, size_bytes - run.offset), run.place)
        if run.offset > at:
            gap = Run(at, run.offset - at, HOLE)
            if pending is not None:
                yield pending
            pending = gap
        if pending is not None and _touches(pending, run):
            pending = Run(pending.offset, pending.length + run.length, pending.place)
        else:
            if pending is not None:
                yield pending
            pending = run
        at = run.offset + run.length
    if pending is not None:
        yield pending
    if at < size_bytes:
        yield Run(at, size_bytes - at, HOLE)


def _touches(one: Run, other: Run) -> bool:
    if one.place < 0 or other.place < 0:
        return one.place == other.place
    return one.place + one.length == other.place
