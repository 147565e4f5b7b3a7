"""Backing up a disk: an image file or a block device, block by block, into any chunk sink.

Worker threads take a leaf of the map each (256 blocks): read, find zeros and name the blocks in one native
call, ask the sink what it lacks, encode and send that. Knows neither storages nor networks.
"""

import errno
import os
import socket
import stat
import threading
from array import array
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from native import chunk
from native.chunk import Encoder
from vdrd.disk.map_writer import FANOUT, MapReader, MapWriter, Node
from vdrd.disk.source import DiskSource
from vdrd.formats.storage import BLOCK_BYTES
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSink, ChunkSource, EncodedBatch
from vdrd.model.errors import BadInput, Damaged, NotFound, SourceUnreadable
from vdrd.model.extents import Extent, ExtentKind
from vdrd.model.points import BackupType, DiskRoot, ObjectKind, PointDraft
from vdrd.model.progress import Cancel, Progress, ProgressSink

_NO_PARENT = "there is no point to which the list of changed blocks could apply; the whole disk was read"
_OTHER_SIZE = "the disk had another size at the last point, so the whole of it was read and compared"
_PARENT_DAMAGED = "the map of the point before is damaged; the whole disk was read and compared"
LEAF_BYTES = FANOUT * BLOCK_BYTES
_BATCH_BLOCKS = 64
"""4 MiB: long enough that the interpreter costs 2%, short enough that four workers stay under 50 MiB."""
_WORKERS_MAX = 4
_WAITING = 1
"""Workers beyond one for each processor: so many wait for the storage at any time."""


@dataclass
class _Counts:
    done_bytes: int = 0
    read_bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0


class _Source:
    """The open disk."""

    disk: DiskSource | None = None

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            # O_NONBLOCK: opening a fifo by mistake must not wait for a writer.
            self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError as error:
            raise NotFound(what="disk", name=path) from error
        except OSError as error:
            raise self.unreadable(error) from error
        try:
            mode = os.fstat(self.fd).st_mode
            self._check_mode(mode)
            self.has_holes = stat.S_ISREG(mode)
            self.size_bytes = os.lseek(self.fd, 0, os.SEEK_END)
            os.posix_fadvise(self.fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
        except BaseException:
            os.close(self.fd)
            raise

    def _check_mode(self, mode: int) -> None:
        if not (stat.S_ISREG(mode) or stat.S_ISBLK(mode)):
            raise SourceUnreadable(path=self.path, reason="it is neither a regular file nor a block device")

    def unreadable(self, error: OSError, offset: int | None = None) -> SourceUnreadable:
        reason = (error.strerror or "error").lower()
        return SourceUnreadable(
            path=self.path, reason=reason if offset is None else f"{reason} at byte {offset}"
        )

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Ranges within [start, end) that are not holes. A fd position of its own is not needed: seeks race
        harmlessly, for only their results count."""
        while start < end and self.has_holes:
            try:
                data = os.lseek(self.fd, start, os.SEEK_DATA)
                hole = os.lseek(self.fd, data, os.SEEK_HOLE)
            except OSError as error:
                if error.errno == errno.ENXIO:  # no data after `start`
                    return
                if error.errno != errno.EINVAL:
                    raise self.unreadable(error, start) from error
                break  # a file system that does not tell
            if data >= end:
                return
            yield data, min(hole, end)
            start = hole
        if start < end:
            yield start, end

    def check_length(self) -> None:
        """Raises SourceUnreadable if it is shorter than it was: what was cut off looked like a hole."""
        if os.lseek(self.fd, 0, os.SEEK_END) < self.size_bytes:
            raise SourceUnreadable(path=self.path, reason="it became shorter while it was read")

    def close(self) -> None:
        os.close(self.fd)


class _SynthesizedSource(_Source):
    """A disk that is no file: an overlay over a point, for one."""

    def __init__(self, path: Path, disk: DiskSource) -> None:
        self.path = path
        self.disk: DiskSource = disk
        self.has_holes = True
        self.size_bytes = disk.size_bytes

    def data_ranges(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        for extent in self.disk.extents(start, end - start):
            if extent.kind is ExtentKind.DATA:
                yield extent.offset_bytes, extent.end_bytes

    def check_length(self) -> None:
        """Its size is fixed."""

    def close(self) -> None:
        """The caller's."""


class _Worker:
    """Buffers and encoder of one thread."""

    def __init__(self, sink: ChunkSink) -> None:
        self.data = bytearray(_BATCH_BLOCKS * BLOCK_BYTES)
        self.encoded = bytearray(_BATCH_BLOCKS * BLOCK_BYTES)
        self.zero = bytearray(_BATCH_BLOCKS)
        self.ids = bytearray(_BATCH_BLOCKS * CHUNK_ID_BYTES)
        self.encoder = Encoder(sink.compression_level)


_OFFSETS = array("Q", range(0, _BATCH_BLOCKS * BLOCK_BYTES, BLOCK_BYTES))


class _DiskBackup:
    """One run. `leaves` is shared by the workers; each result goes to the map writer."""

    def __init__(
        self,
        source: _Source,
        sink: ChunkSink,
        *,
        changed: list[Extent] | None,
        parent: MapReader | None,
        counts: _Counts,
        progress: ProgressSink,
        cancel: Cancel,
    ) -> None:
        self._source = source
        self._sink = sink
        self._changed = None if changed is None else _merged_blocks(changed, source.size_bytes)
        self._parent = parent
        self._progress = progress
        self._cancel = cancel
        self._key = sink.keys.id_keys[ChunkKind.DATA]
        self._map = MapWriter(sink, source.size_bytes, BLOCK_BYTES, parent)
        self._lock = threading.Lock()
        self._leaves = self._leaf_ranges()
        self._under_way: set[int] = set()
        self.counts = counts

    def run(self) -> DiskRoot:
        workers = min(_WORKERS_MAX, _WAITING + (os.cpu_count() or 1))
        stop = threading.Event()
        with ThreadPoolExecutor(workers, thread_name_prefix="vdr-disk") as pool:
            futures = [pool.submit(self._work, stop) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            finally:
                stop.set()  # Ctrl-C arrives here, in the thread that waits
        self._cancel.check()
        root = self._map.finish()
        self.counts.new_bytes += self._map.new_bytes
        self.counts.stored_bytes += self._map.stored_bytes
        self.counts.done_bytes = self._source.size_bytes
        self._report()
        return root

    def _work(self, stop: threading.Event) -> None:
        worker = _Worker(self._sink)
        try:
            while not stop.is_set():
                self._cancel.check()
                with self._lock:
                    leaf = next(self._leaves, None)
                    if leaf is None:
                        return
                    self._under_way.add(leaf[0])
                self._back_up_leaf(worker, *leaf)
                with self._lock:
                    self._under_way.discard(leaf[0])
                    # Leaves are taken in order.
                    first = min(self._under_way, default=leaf[0] + 1)
                self._map.advance(first)
        except BaseException:
            stop.set()
            raise

    def _leaf_ranges(self) -> Iterator[tuple[int, list[tuple[int, int]]]]:
        """Leaves that need work, each with the block ranges to read. Whole leaves of holes are passed
        over."""
        wanted = self._blocks_to_read()
        pending: tuple[int, list[tuple[int, int]]] | None = None
        for first, end in wanted:
            block = first
            while block < end:
                leaf = block // FANOUT
                stop = min(end, (leaf + 1) * FANOUT)
                if pending is not None and pending[0] == leaf:
                    pending[1].append((block, stop))
                else:
                    if pending is not None:
                        yield pending
                    pending = (leaf, [(block, stop)])
                block = stop
        if pending is not None:
            yield pending

    def _blocks_to_read(self) -> Iterator[tuple[int, int]]:
        if self._changed is not None:
            yield from self._changed
            return
        last = 0
        for start, end in self._source.data_ranges(0, self._source.size_bytes):
            first, stop = max(start // BLOCK_BYTES, last), -(-end // BLOCK_BYTES)
            if first < stop:
                yield first, stop
            last = max(last, stop)

    def _back_up_leaf(self, worker: _Worker, leaf: int, ranges: list[tuple[int, int]]) -> None:
        node = self._parent.node(1, leaf) if self._parent is not None else Node()
        for first, end in ranges:
            for block in range(first, end, _BATCH_BLOCKS):
                self._cancel.check()
                self._back_up_blocks(worker, node, block, min(end, block + _BATCH_BLOCKS))
        self._map.put_leaf(leaf, node)
        with self._lock:
            self.counts.done_bytes = max(self.counts.done_bytes, (ranges[-1][1] - 1) * BLOCK_BYTES)
            self._report()

    def _back_up_blocks(self, worker: _Worker, node: Node, first: int, end: int) -> None:
        count = end - first
        offset = first * BLOCK_BYTES
        wanted = min(count * BLOCK_BYTES, self._source.size_bytes - offset)
        self._read(worker, offset, wanted)
        child = first % FANOUT
        node.absent[child : child + count] = worker.zero[:count]
        node.ids[CHUNK_ID_BYTES * child : CHUNK_ID_BYTES * (child + count)] = worker.ids[
            : CHUNK_ID_BYTES * count
        ]
        new_bytes, stored_bytes = self._send(worker, count, wanted)
        with self._lock:
            self.counts.read_bytes += wanted
            self.counts.new_bytes += new_bytes
            self.counts.stored_bytes += stored_bytes

    def _read(self, worker: _Worker, offset: int, wanted: int) -> None:
        if self._source.disk is not None:
            data = memoryview(worker.data)[:wanted]
            self._source.disk.read_into(offset, data)
            chunk.name_blocks(data, BLOCK_BYTES, self._key, worker.zero, worker.ids)
            return
        try:
            got = chunk.read_blocks(
                self._source.fd,
                offset,
                data=memoryview(worker.data)[:wanted],
                block_bytes=BLOCK_BYTES,
                id_key=self._key,
                zero=worker.zero,
                ids=worker.ids,
            )
        except OSError as error:
            raise self._source.unreadable(error, offset) from error
        if got < wanted:
            raise SourceUnreadable(path=self._source.path, reason="it became shorter while it was read")

    def _send(self, worker: _Worker, count: int, wanted: int) -> tuple[int, int]:
        present = [i for i in range(count) if not worker.zero[i]]
        if not present:
            return 0, 0
        ids = worker.ids
        if len(present) == count:
            asked = bytes(ids[: CHUNK_ID_BYTES * count])
        else:
            asked = b"".join(ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)] for i in present)
        lacking = self._sink.claim(asked)
        if not any(lacking):
            return 0, 0
        chosen = [i for i, is_lacking in zip(present, lacking, strict=True) if is_lacking]
        lengths = array("I", [BLOCK_BYTES]) * count
        lengths[count - 1] = wanted - (count - 1) * BLOCK_BYTES
        select = bytearray(count)
        for i in chosen:
            select[i] = 1
        table, encoded = worker.encoder.encode(
            worker.data, _OFFSETS[:count], lengths, kind=ChunkKind.DATA, out=worker.encoded, select=select
        )
        chosen_ids = b"".join(ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)] for i in chosen)
        self._sink.put(EncodedBatch(chosen_ids, table, memoryview(worker.encoded)[:encoded]))
        return sum(lengths[i] for i in chosen), encoded

    def _report(self) -> None:
        counts = self.counts
        self._progress(
            Progress(
                "backup",
                done_bytes=counts.done_bytes,
                total_bytes=self._source.size_bytes,
                new_bytes=counts.new_bytes,
                stored_bytes=counts.stored_bytes,
            )
        )


def _merged_blocks(extents: list[Extent], size_bytes: int) -> list[tuple[int, int]]:
    """Block ranges that the extents touch, in order, without overlap."""
    merged: list[tuple[int, int]] = []
    for extent in sorted(extents, key=lambda extent: extent.offset_bytes):
        if extent.offset_bytes >= size_bytes:
            at = f"the list of changed blocks has one at byte {extent.offset_bytes}"
            raise BadInput(what=f"{at}, and the disk has {size_bytes} bytes: it is of another disk")
        first = extent.offset_bytes // BLOCK_BYTES
        end = -(-min(extent.end_bytes, size_bytes) // BLOCK_BYTES)
        if first >= end:
            continue
        if merged and first <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end))
        else:
            merged.append((first, end))
    return merged


def backup_disk(
    source_path: Path,
    sink: ChunkSink,
    *,
    object_name: str,
    source_disk: DiskSource | None = None,
    changed: list[Extent] | None = None,
    parent: DiskRoot | None = None,
    parent_source: ChunkSource | None = None,
    parent_id: str | None = None,
    on_note: Callable[[str], None] = lambda _: None,
    progress: ProgressSink,
    cancel: Cancel,
) -> PointDraft:
    """Read a disk and put what the sink lacks; the caller commits the draft.

    With `source_disk` the bytes are its, and `source_path` only says where it came from.

    With `changed`, `parent` and `parent_source` only those ranges are read and the rest is taken from the
    parent's map: the caller vouches for the list. Without, everything that is not a hole is read and
    compared by hash, and so it is where the list cannot be used: without a parent or with one of another
    size, which `on_note` is told, and with one whose map is damaged, which is a warning of the draft.

    Raises NotFound, BadInput when the list reaches beyond the disk, SourceUnreadable when the source cannot
    be read to its end, Cancelled, and whatever the sink raises. `progress` is called from worker threads,
    one at a time.
    """
    started = datetime.now(UTC)
    source = _Source(source_path) if source_disk is None else _SynthesizedSource(source_path, source_disk)
    counts = _Counts()
    warnings: tuple[str, ...] = ()

    def run(changed: list[Extent] | None, base: MapReader | None) -> DiskRoot:
        backup = _DiskBackup(
            source, sink, changed=changed, parent=base, counts=counts, progress=progress, cancel=cancel
        )
        return backup.run()

    try:
        base = None
        if changed is not None:
            base = _base(parent, parent_source, source.size_bytes, on_note)
        try:
            root = run(changed if base else None, base)
        except Damaged:
            if base is None or not base.is_damaged:
                raise
            warnings = (_PARENT_DAMAGED,)
            root = run(None, None)
        source.check_length()
    finally:
        source.close()
    return PointDraft(
        object_name=object_name,
        kind=ObjectKind.DISK,
        backup_type=BackupType.FULL if parent is None else BackupType.INCREMENTAL,
        root=root,
        source=str(source_path),
        host=socket.gethostname(),
        logical_bytes=root.size_bytes,
        new_bytes=counts.new_bytes,
        stored_bytes=counts.stored_bytes,
        read_bytes=counts.read_bytes,
        started_at=started,
        parent_id=parent_id,
        warnings=warnings,
        warning_count=len(warnings),
    )


def _base(
    parent: DiskRoot | None,
    source: ChunkSource | None,
    size_bytes: int,
    on_note: Callable[[str], None],
) -> MapReader | None:
    """The map that a list of changed blocks is relative to; None, with a note, where none can be trusted."""
    if parent is None or source is None:
        on_note(_NO_PARENT)
    elif (parent.size_bytes, parent.block_bytes) != (size_bytes, BLOCK_BYTES):
        on_note(_OTHER_SIZE)
    else:
        return MapReader(parent, source)
    return None
