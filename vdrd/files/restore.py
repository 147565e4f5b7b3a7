"""Restores a file point, or paths of it, into a directory from any chunk source.

Two passes over the manifest: the first makes directories and, on several threads, files; the second makes
further names of files and sets the attributes of directories, deepest first. Memory is bounded by blocks in
flight. Must not know what a storage or a job is.
"""

import errno
import logging
import os
import secrets
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from queue import SimpleQueue

from native.err import NativeError
from native.event import Event
from native.lay import Lay, mark_link, wants
from native.segment import linked_offsets
from vdrd.files.browse import FileTree
from vdrd.files.content import extents_of
from vdrd.files.entry import (
    Entry,
    link_key,
    listed_offsets,
    parse_loose,
    record_at,
)
from vdrd.files.selection import Selection
from vdrd.files.warnings import Warnings
from vdrd.formats.manifest import Extent, damaged
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkSource
from vdrd.model.errors import StorageFull, TargetRefused
from vdrd.model.points import FilesRoot
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.model.reports import RestoreReport

WRITERS = max(2, min(4, os.cpu_count() or 2))
BLOCKS_OPEN = 2 * WRITERS
"""Blocks being written or waiting: so many manifest blocks, and up to `WRITERS` sets of chunks, are in
memory."""
LINK_GROUPS_MAX = 500_000
"""Files with several names that are remembered; one beyond is restored as a copy for every name."""
_REPORT_SECONDS = 0.2
_FETCH_IDS = 32
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Done:
    """What a block came to."""

    file_count: int = 0
    logical_bytes: int = 0
    written_bytes: int = 0
    events: list[Event] = field(default_factory=list)


def restore_files(
    root: FilesRoot,
    source: ChunkSource,
    target_path: str | os.PathLike[str],
    *,
    paths: Sequence[str | bytes] = (),
    overwrite: bool = False,
    progress: ProgressSink = lambda _: None,
    cancel: Cancel | None = None,
) -> RestoreReport:
    """Restore a point into the directory `target_path`, which is made if it is missing.

    `paths` are paths within the point, files or directories with all beneath them; none means everything.
    They keep their path beneath the target. Without `overwrite` the target must be empty; with it what is
    restored replaces what stands in its place (never a directory that is not empty), and everything else
    there is left alone.

    Raises NotFound, BadInput or TargetRefused before anything is written, Damaged, StorageFull, Cancelled.
    What could not be restored as it was (no right to set an owner, content that was not kept) is a warning.
    """
    cancel = cancel or Cancel()
    target = Path(target_path).absolute()
    tree = FileTree(root, source)
    selection = Selection(tree, paths)
    selection.check_parents()
    with ExitStack() as stack:
        target_fd = _open_target(target, overwrite)
        stack.callback(os.close, target_fd)
        nonce = secrets.randbits(64)
        lays = [Lay(target_fd, overwrites=overwrite, nonce=nonce ^ number) for number in range(WRITERS + 1)]
        for lay in lays:
            stack.callback(lay.close)
        pool = stack.enter_context(ThreadPoolExecutor(WRITERS, "vdr-restore"))
        restore = _Restore(
            source,
            lays,
            Warnings(_LOG),
            cancel=cancel,
            progress=progress,
            entry_count=tree.head.entry_count,
        )
        parents = [path for path in selection.parents() if not _is_directory(target_fd, path)]
        try:
            restore.make(selection.blocks(parents), pool)
            restore.finish(selection.blocks(parents))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise StorageFull(path=target) from error
            raise
        return restore.report()


class _Restore:
    """One restore under way. This thread makes directories and links; the writers make files."""

    def __init__(
        self,
        source: ChunkSource,
        lays: list[Lay],
        warnings: Warnings,
        *,
        cancel: Cancel,
        progress: ProgressSink,
        entry_count: int,
    ) -> None:
        self._own = lays[0]
        self._warnings = warnings
        self._cancel = cancel
        self._progress = progress
        self._entry_count = entry_count
        self._idle: SimpleQueue[_BlockWriter] = SimpleQueue()
        for lay in lays[1:]:
            self._idle.put(_BlockWriter(lay, source, cancel))
        self._total = _Done()
        self._firsts: dict[bytes, bytes] = {}
        self._is_beyond_links = False

    def make(self, blocks: Iterator[bytes], pool: ThreadPoolExecutor) -> None:
        """First pass: directories, then files."""
        seen: set[bytes] = set()
        open_blocks: deque[Future[_Done]] = deque()
        try:
            for block in blocks:
                self._cancel.check()
                self._own.directories(block)
                self._note(self._own.events.drain())
                marked = self._mark_links(block, seen)
                open_blocks.append(pool.submit(self._write, marked))
                while len(open_blocks) >= BLOCKS_OPEN:
                    self._take(open_blocks.popleft())
            while open_blocks:
                self._take(open_blocks.popleft())
        finally:
            for future in open_blocks:
                future.cancel()

    def finish(self, blocks: Iterator[bytes]) -> None:
        """Second pass: further names of files, attributes of directories, flags of files with several
        names."""
        flagged: dict[bytes, bytes] = {}
        for block in blocks:
            self._cancel.check()
            for at in linked_offsets(block):
                record = record_at(block, at)
                self._link(record, flagged)
            self._own.finish(block)
            self._note(self._own.events.drain())
        for record in flagged.values():
            self._own.flags(record)
        self._own.finish(b"", is_end=True)
        self._note(self._own.events.drain())

    def report(self) -> RestoreReport:
        """Figures when all is done."""
        if self._is_beyond_links:
            self._warnings.add("some hard links were restored as copies: there are too many to remember")
        return RestoreReport(
            logical_bytes=self._total.logical_bytes,
            written_bytes=self._total.written_bytes,
            file_count=self._total.file_count,
            warnings=tuple(self._warnings.first),
            warning_count=self._warnings.count,
        )

    def _mark_links(self, block: bytes, seen: set[bytes]) -> bytes | bytearray:
        marked: bytearray | None = None
        for at in linked_offsets(block):
            key = link_key(block, at)
            if key in seen:
                marked = marked or bytearray(block)
                mark_link(marked, at)
            elif len(seen) < LINK_GROUPS_MAX:
                seen.add(key)
            else:
                self._is_beyond_links = True
        return marked or block

    def _link(self, record: bytes, flagged: dict[bytes, bytes]) -> None:
        entry = next(parse_loose(record))
        key = link_key(record, 0)
        first = self._firsts.get(key)
        if first is not None:
            if self._own.link(record, first):
                self._total.file_count += 1
        elif len(self._firsts) < LINK_GROUPS_MAX:
            self._firsts[key] = entry.path
            if entry.inode_flags:
                flagged[key] = record

    def _write(self, block: bytes | bytearray) -> _Done:
        self._cancel.check()
        writer = self._idle.get()
        try:
            return writer.write(block)
        finally:
            self._idle.put(writer)

    def _take(self, future: Future[_Done]) -> None:
        while True:
            try:
                done = future.result(timeout=_REPORT_SECONDS)
                break
            except NotYet:
                if future.done():
                    raise
        self._total.file_count += done.file_count
        self._total.logical_bytes += done.logical_bytes
        self._total.written_bytes += done.written_bytes
        self._note(done.events)
        self._progress(
            Progress(
                step="restore",
                done_bytes=self._total.written_bytes,
                done_files=self._total.file_count,
                total_files=self._entry_count,
            )
        )

    def _note(self, events: list[Event]) -> None:
        for event in events:
            self._warnings.add_event(event)


class _BlockWriter:
    """Writes the files of blocks. For one thread at a time."""

    def __init__(self, lay: Lay, source: ChunkSource, cancel: Cancel) -> None:
        self._lay = lay
        self._source = source
        self._cancel = cancel
        self._kept: dict[bytes, bytes] = {}
        """The newest chunks: packs go on across the ends of segments."""

    def write(self, block: bytes | bytearray) -> _Done:
        """Create all files of a block."""
        done = _Done()
        before = self._lay.written_bytes
        at = 0
        while at < len(block):
            self._cancel.check()
            end, ids = wants(block, at)
            chunks = self._fetch(ids)
            try:
                done.file_count += self._lay.files(block, at, end, ids, chunks)
            except NativeError as error:
                raise damaged("an extent beyond its chunk") from error
            done.events += self._lay.events.drain()
            at = end
        done.written_bytes = self._lay.written_bytes - before
        done.logical_bytes = done.written_bytes
        for at in listed_offsets(block):
            self._write_listed(record_at(block, at), done)
        return done

    def _fetch(self, ids: bytes) -> list[bytes]:
        wanted = [ids[at : at + CHUNK_ID_BYTES] for at in range(0, len(ids), CHUNK_ID_BYTES)]
        lacking = [chunk_id for chunk_id in wanted if chunk_id not in self._kept]
        chunks = dict(zip(lacking, self._source.fetch(b"".join(lacking)), strict=True)) if lacking else {}
        found = [chunks.get(chunk_id) or self._kept[chunk_id] for chunk_id in wanted]
        self._kept = dict(zip(wanted[-2:], found[-2:], strict=True)) if wanted else self._kept
        return found

    def _write_listed(self, record: bytes, done: _Done) -> None:
        entry = next(parse_loose(record))
        fd = self._lay.begin(record)
        done.events += self._lay.events.drain()
        if fd is None:
            return
        is_good = False
        try:
            done.written_bytes += self._write_content(entry, fd)
            is_good = True
        finally:
            done.file_count += self._lay.end(record, fd, is_good=is_good)
            done.events += self._lay.events.drain()
        done.logical_bytes += entry.size_bytes

    def _write_content(self, entry: Entry, fd: int) -> int:
        written = 0
        at = 0
        batch: list[tuple[int, Extent]] = []
        for extent in extents_of(entry, self._source):
            if extent.chunk_id is not None:
                batch.append((at, extent))
            at += extent.length_bytes
            if len(batch) >= _FETCH_IDS:
                written += self._write_extents(batch, fd)
                batch = []
        return written + self._write_extents(batch, fd)

    def _write_extents(self, batch: list[tuple[int, Extent]], fd: int) -> int:
        self._cancel.check()
        if not batch:
            return 0
        ids = b"".join(extent.chunk_id or b"" for _, extent in batch)
        written = 0
        for (at, extent), chunk in zip(batch, self._source.fetch(ids), strict=True):
            piece = memoryview(chunk)[extent.offset_bytes : extent.offset_bytes + extent.length_bytes]
            if len(piece) != extent.length_bytes:
                raise damaged("an extent beyond its chunk")
            while piece:
                count = os.pwrite(fd, piece, at + extent.length_bytes - len(piece))
                piece = piece[count:]
            written += extent.length_bytes
        return written


def _open_target(target: Path, overwrite: bool) -> int:
    try:
        target.mkdir(mode=0o700, parents=True, exist_ok=True)
        target_fd = os.open(target, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileExistsError, NotADirectoryError) as error:
        raise TargetRefused(path=target, reason="it is not a directory") from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise StorageFull(path=target) from error
        raise TargetRefused(path=target, reason=error.strerror) from error
    with os.scandir(target_fd) as names:
        is_empty = next(names, None) is None
    if not is_empty and not overwrite:
        os.close(target_fd)
        raise TargetRefused(
            path=target,
            reason="it is not empty (give another directory, or --overwrite to replace what is there)",
        )
    return target_fd


def _is_directory(root_fd: int, path: bytes) -> bool:
    """True if a directory stands there, reached without symbolic links."""
    fd = os.dup(root_fd)
    try:
        for part in path.split(b"/"):
            below = os.open(part, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = below
    except OSError:
        return False
    finally:
        os.close(fd)
    return True
