"""Content of one file: large ones cut by content into chunks when written, any of them read at any offset.

Owns content lists (what holds the extents of a file too long for its entry). Must not know paths or
attributes.
"""

import errno
import os
from array import array
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from native.cdc import Cutter
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.entry import Entry, EntryFlag
from vdrd.formats.manifest import (
    LEVELS_MAX,
    Extent,
    damaged,
    parse_list_leaf,
    parse_list_node,
    write_list_leaf,
    write_list_node,
)
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSink, ChunkSource

WINDOW_BYTES = 4 << 20
ENTRY_EXTENTS_MAX = 32
"""Extents kept in the entry itself; a longer file has a content list."""
LEAF_EXTENTS_MIN = 64
LEAF_EXTENTS_MAX = 2048
LEAF_CUT_MASK = 255
LIST_CHILDREN_MIN = 8
LIST_CHILDREN_MAX = 1024
LIST_CUT_MASK = 63
_LISTS_KEPT = 16
_CHUNKS_KEPT_BYTES = 8 << 20


@dataclass(frozen=True, slots=True)
class WrittenContent:
    """What a file's content became."""

    extents: list[Extent]
    """For its entry; the root of its list when `is_list`."""
    is_list: bool
    bytes_read: int
    """Holes count."""


class ListWriter:
    """Collects the extents of one file; those of a long file go to a tree of list chunks, cut by content."""

    def __init__(self, writer: ChunkWriter) -> None:
        self._writer = writer
        self._open: list[Extent] = []
        self._levels: list[list[tuple[bytes, int]]] = []

    def add(self, extent: Extent) -> None:
        """The next run of the file. Holes that touch are one."""
        if extent.chunk_id is None and self._open and self._open[-1].chunk_id is None:
            extent = Extent(None, 0, self._open.pop().length_bytes + extent.length_bytes)
        self._open.append(extent)
        if len(self._open) < LEAF_EXTENTS_MIN or extent.chunk_id is None:
            return
        is_chosen = int.from_bytes(extent.chunk_id[:4], "little") & LEAF_CUT_MASK == 0
        if is_chosen or len(self._open) >= LEAF_EXTENTS_MAX:
            self._close_leaf()

    def extend(self, extents: list[Extent]) -> None:
        """The next runs."""
        for extent in extents:
            self.add(extent)

    def finish(self, bytes_read: int) -> WrittenContent:
        """The whole as it goes into the entry."""
        if not self._levels and len(self._open) <= ENTRY_EXTENTS_MAX:
            return WrittenContent(self._open, False, bytes_read)
        if self._open:
            self._close_leaf()
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close_node(level)
            level += 1
        return WrittenContent([Extent(self._levels[level][0][0], level, bytes_read)], True, bytes_read)

    def _close_leaf(self) -> None:
        extents, self._open = self._open, []
        chunk_id = self._writer.write_one(ChunkKind.MANIFEST_SEGMENT, write_list_leaf(extents))
        self._add_child(0, (chunk_id, sum(extent.length_bytes for extent in extents)))

    def _add_child(self, level: int, child: tuple[bytes, int]) -> None:
        if level == len(self._levels):
            self._levels.append([])
        children = self._levels[level]
        children.append(child)
        is_chosen = int.from_bytes(child[0][:4], "little") & LIST_CUT_MASK == 0
        if len(children) >= LIST_CHILDREN_MIN and (is_chosen or len(children) >= LIST_CHILDREN_MAX):
            self._close_node(level)

    def _close_node(self, level: int) -> None:
        children = self._levels[level]
        self._levels[level] = []
        chunk_id = self._writer.write_one(ChunkKind.MANIFEST_NODE, write_list_node(level + 1, children))
        self._add_child(level + 1, (chunk_id, sum(length for _, length in children)))


def data_ranges(fd: int, size_bytes: int) -> Iterator[tuple[int, int]]:
    """Half-open ranges of a file that hold data, up to `size_bytes`; the rest are holes. One range where the
    file system cannot tell."""
    at = 0
    while at < size_bytes:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
            end = os.lseek(fd, begin, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno in (errno.EINVAL, errno.ENOTSUP):
                begin, end = at, size_bytes
            else:
                raise
        if begin >= size_bytes:
            return
        yield begin, min(end, size_bytes)
        at = end


class ContentWriter:
    """Cuts large files into chunks and stores them, the next window being read and cut while one is stored.

    For one thread; it has a second one of its own. Close it.
    """

    def __init__(self, sink: ChunkSink, cutter: Cutter, counts: WrittenCounts) -> None:
        self._writer = ChunkWriter(sink, counts)
        self._list_writer = ChunkWriter(sink, counts)
        self._cutter = cutter
        self._windows = [bytearray(WINDOW_BYTES), bytearray(WINDOW_BYTES)]
        self._storer = ThreadPoolExecutor(1, "vdr-store")

    def close(self) -> None:
        """End its thread."""
        self._storer.shutdown()

    def write(self, fd: int, size_bytes: int, on_read: Callable[[int], None]) -> WrittenContent:
        """Read a file up to `size_bytes` and store it. `on_read` hears of every window and may raise to stop.
        OSError when it cannot be read."""
        extents = ListWriter(self._list_writer)
        at = 0
        for begin, end in data_ranges(fd, size_bytes):
            if begin > at:
                extents.add(Extent(None, 0, begin - at))
            at = self._write_range(fd, begin, end, extents, on_read)
            if at < end:
                return extents.finish(at)  # it has become shorter
        if at < size_bytes:
            extents.add(Extent(None, 0, size_bytes - at))
        return extents.finish(size_bytes)

    def _write_range(
        self, fd: int, begin: int, end: int, extents: ListWriter, on_read: Callable[[int], None]
    ) -> int:
        window, other = (memoryview(buffer) for buffer in self._windows)
        filled = 0
        at = begin
        stored: Future[list[Extent]] | None = None
        try:
            while True:
                wanted = min(len(window) - filled, end - at)
                got = os.preadv(fd, [window[filled : filled + wanted]], at) if wanted else 0
                is_end = at + got == end or (wanted > 0 and got == 0)
                at += got
                filled += got
                lengths = self._cutter.cut(window[:filled], final=is_end)
                on_read(got)
                if stored is not None:
                    extents.extend(stored.result())
                    stored = None
                if is_end:
                    extents.extend(self._store(window[:filled], lengths))
                    return at
                stored = self._storer.submit(self._store, window[:filled], lengths)
                used = sum(lengths)
                other[: filled - used] = window[used:filled]
                filled -= used
                window, other = other, window
        finally:
            if stored is not None:
                wait([stored])  # it still reads a window

    def _store(self, data: memoryview, lengths: memoryview) -> list[Extent]:
        if not len(lengths):
            return []
        offsets = array("Q")
        at = 0
        for length in lengths:
            offsets.append(at)
            at += length
        ids = self._writer.write(ChunkKind.DATA, data, offsets, lengths)
        return [
            Extent(ids[i * CHUNK_ID_BYTES : (i + 1) * CHUNK_ID_BYTES], 0, length)
            for i, length in enumerate(lengths)
        ]


def extents_of(entry: Entry, source: ChunkSource) -> Iterator[Extent]:
    """All extents of a file in order, its content list read as it goes. Damaged when they do not add up to
    its size.
    """
    if EntryFlag.LIST not in entry.flags:
        yield from entry.extents
        return
    total = 0
    root = entry.extents[0]
    for extent in _list_extents(_known(root.chunk_id), root.offset_bytes, root.length_bytes, source):
        total += extent.length_bytes
        yield extent
    if total != entry.size_bytes:
        raise damaged("a content list does not add up to its file")


def _list_extents(chunk_id: bytes, level: int, length_bytes: int, source: ChunkSource) -> Iterator[Extent]:
    plain = source.fetch(chunk_id)[0]
    if level == 0:
        leaf = parse_list_leaf(plain)
        if sum(extent.length_bytes for extent in leaf) != length_bytes:
            raise damaged("a content list does not add up")
        yield from leaf
        return
    for child_id, child_bytes in parse_list_node(plain, level):
        yield from _list_extents(child_id, level - 1, child_bytes, source)


def _known(chunk_id: bytes | None) -> bytes:
    if chunk_id is None:
        raise damaged("a content list without its root")
    return chunk_id


class FileReader:
    """Reads one regular file of a point at any offset; holes are zeros. Not to be used by two threads at
    once.

    Keeps a few list chunks and up to 8 MiB of data chunks.
    """

    def __init__(self, entry: Entry, source: ChunkSource) -> None:
        self.entry = entry
        self.size_bytes = entry.size_bytes
        self._source = source
        self._lists: OrderedDict[tuple[bytes, int], _Run] = OrderedDict()
        self._chunks: OrderedDict[bytes, bytes] = OrderedDict()
        self._chunk_bytes = 0
        self._top: _Run | None = None
        if EntryFlag.LIST not in entry.flags:
            self._top = _Run.of_extents(list(entry.extents))

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Up to `length_bytes` bytes at `offset_bytes`: fewer only at the file's end. Damaged as the source
        says.
        """
        end = min(offset_bytes + length_bytes, self.size_bytes)
        parts = []
        at = offset_bytes
        while at < end:
            extent, skipped = self._find(at)
            take = min(extent.length_bytes - skipped, end - at)
            if extent.chunk_id is None:
                parts.append(bytes(take))
            else:
                begin = extent.offset_bytes + skipped
                piece = self._chunk(extent.chunk_id)[begin : begin + take]
                if len(piece) != take:
                    raise damaged("an extent beyond its chunk")
                parts.append(piece)
            at += take
        return b"".join(parts)

    def _find(self, offset_bytes: int) -> tuple[Extent, int]:
        if self._top is not None:
            return self._top.extent_at(offset_bytes)
        root = self.entry.extents[0]
        chunk_id, level = _known(root.chunk_id), root.offset_bytes
        if level > LEVELS_MAX:
            raise damaged("a content list too deep")
        at = offset_bytes
        while level > 0:
            run = self._list(chunk_id, level)
            number, at = run.locate(at)
            chunk_id = run.children[number]
            level -= 1
        return self._list(chunk_id, 0).extent_at(at)

    def _list(self, chunk_id: bytes, level: int) -> "_Run":
        run = self._lists.get((chunk_id, level))
        if run is None:
            plain = self._source.fetch(chunk_id)[0]
            if level == 0:
                run = _Run.of_extents(parse_list_leaf(plain))
            else:
                run = _Run.of_children(parse_list_node(plain, level))
            self._lists[(chunk_id, level)] = run
            if len(self._lists) > _LISTS_KEPT:
                self._lists.popitem(last=False)
        return run

    def _chunk(self, chunk_id: bytes) -> bytes:
        plain = self._chunks.get(chunk_id)
        if plain is not None:
            self._chunks.move_to_end(chunk_id)
            return plain
        plain = self._source.fetch(chunk_id)[0]
        self._chunks[chunk_id] = plain
        self._chunk_bytes += len(plain)
        while self._chunk_bytes > _CHUNKS_KEPT_BYTES and len(self._chunks) > 1:
            self._chunk_bytes -= len(self._chunks.popitem(last=False)[1])
        return plain


@dataclass(frozen=True, slots=True)
class _Run:
    """Items of a list chunk by the offset at which each begins."""

    begins: list[int]
    end: int
    extents: list[Extent]
    children: list[bytes]

    @classmethod
    def of_extents(cls, extents: list[Extent]) -> "_Run":
        begins, end = _begins([extent.length_bytes for extent in extents])
        return cls(begins, end, extents, [])

    @classmethod
    def of_children(cls, children: list[tuple[bytes, int]]) -> "_Run":
        begins, end = _begins([length for _, length in children])
        return cls(begins, end, [], [chunk_id for chunk_id, _ in children])

    def locate(self, offset_bytes: int) -> tuple[int, int]:
        """Number of the item that holds the offset, and the offset in it."""
        if not 0 <= offset_bytes < self.end:
            raise damaged("a content list shorter than its file")
        number = bisect_right(self.begins, offset_bytes) - 1
        return number, offset_bytes - self.begins[number]

    def extent_at(self, offset_bytes: int) -> tuple[Extent, int]:
        number, skipped = self.locate(offset_bytes)
        return self.extents[number], skipped


def _begins(lengths: list[int]) -> tuple[list[int], int]:
    begins = []
    at = 0
    for length in lengths:
        begins.append(at)
        at += length
    return begins, at
