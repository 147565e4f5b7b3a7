"""Backs up a directory tree into any chunk sink.

A planner thread scans and compares, a few readers read, pack and store, and this thread writes the manifest
in path order: all overlapped, all in bounded memory. Must not know where chunks go or what a job is.
"""

import grp
import logging
import os
import pwd
import socket
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from queue import SimpleQueue

from native.cdc import Cutter
from native.event import Event, EventKind
from native.glob import rule_list
from native.scan import Scan, is_pseudo
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.heal import heal, reader_below
from vdrd.files.links import LinkGroups
from vdrd.files.plan import Ahead, Plan
from vdrd.files.reader import BatchReader, KeptChunks, ReadBatch
from vdrd.files.tree import TreeReader, TreeWriter, cut_seed
from vdrd.files.warnings import Warnings
from vdrd.model.chunks import ChunkSink, ChunkSource
from vdrd.model.errors import BadInput, Damaged, NotFound, SourceUnreadable
from vdrd.model.points import BackupType, FilesRoot, ObjectKind, PointDraft
from vdrd.model.progress import Cancel, Progress, ProgressSink

READERS = max(2, min(4, os.cpu_count() or 2))
BATCHES_OPEN = 2 * READERS
"""Batches read or waiting for the manifest: so much memory (about 10 MiB each at worst) is in flight."""
_REPORT_SECONDS = 0.2
_PARENT_DAMAGED = "the point before is damaged; the files it could not tell about were read"
_LOG = logging.getLogger(__name__)


@dataclass(slots=True)
class _Totals:
    """What the run did so far; the readers add to `counts`, this thread reports."""

    counts: WrittenCounts = field(default_factory=WrittenCounts)
    entries: int = 0


def backup_files(
    root_path: str | os.PathLike[str],
    sink: ChunkSink,
    *,
    object_name: str,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    parent: FilesRoot | None = None,
    parent_source: ChunkSource | None = None,
    parent_id: str | None = None,
    full: bool = False,
    lacking: Callable[[], frozenset[bytes]] = frozenset,
    progress: ProgressSink = lambda _: None,
    cancel: Cancel | None = None,
    skip_directories: Iterable[str | os.PathLike[str]] = (),
    crosses_file_systems: bool = False,
    is_uncrossed_quiet: bool = False,
) -> PointDraft:
    """Back up the directory `root_path`; the caller commits the draft.

    `parent` (read through `parent_source`) tells what is unchanged: size, mtime, ctime, inode and device
    equal. What is doubtful is read and compared; `full` reads everything, and proves the chunks it keeps.
    `lacking` tells which chunks of the parent are lost or damaged: they are made again of the files as they
    are now, and where that fails everything is read.
    `include` and `exclude` are patterns (docs/files.md). Directories in `skip_directories` (the storage
    itself) are left out; other file systems are entered only with `crosses_file_systems`, and are a warning
    each unless `is_uncrossed_quiet`. `progress` is called from this thread.

    Files that cannot be read, or change while they are read, become warnings of the draft. Raises NotFound,
    BadInput or SourceUnreadable for the root, Cancelled, and what the sink raises.
    """
    started_at = datetime.now(UTC)
    cancel = cancel or Cancel()
    path = Path(root_path).absolute()
    rules = _rules(path, include, exclude)
    totals = _Totals()
    warnings = Warnings(_LOG)
    with ExitStack() as stack:
        root_fd = _open_root(path)
        stack.callback(os.close, root_fd)
        keys = sink.keys
        seed = cut_seed(keys.cut_key)
        reader = _open_parent(parent, parent_source, warnings)
        damage = _ParentDamage(parent, parent_source, sink, root_fd, lacking)
        lost = damage.heal()
        reads_all = full or bool(lost)
        scan = Scan(root_fd, rules=rules, crosses=crosses_file_systems, skips=_skips(path, skip_directories))
        stack.callback(scan.close)

        def on_event(event: Event) -> None:
            if not (is_uncrossed_quiet and event.kind is EventKind.UNCROSSED):
                warnings.add_event(event)

        plan = Plan(scan, cut_seed=seed, parent=reader, reads_all=reads_all, on_event=on_event, cancel=cancel)
        ahead = Ahead(plan.batches, "vdr-plan")
        stack.callback(ahead.close)

        def on_read(count: int) -> None:
            cancel.check()
            totals.counts.add_read(count)

        cutter = Cutter(keys.cut_key)
        kept = None
        if reads_all and parent_source:
            kept = KeptChunks(parent_source, None if full else lost)
        readers = [
            BatchReader(root_fd, sink, cutter, totals.counts, on_read=on_read, kept=kept)
            for _ in range(READERS)
        ]
        for batch_reader in readers:
            stack.callback(batch_reader.close)
        pool = stack.enter_context(ThreadPoolExecutor(READERS, "vdr-read"))
        tree = TreeWriter(ChunkWriter(sink, totals.counts), seed)
        report = _reporter(plan, totals, progress)
        _Pipeline(readers, tree, totals, warnings, cancel).run(ahead, pool, report)
        if plan.is_parent_damaged:
            warnings.add(_PARENT_DAMAGED)
        root = tree.finish(
            logical_bytes=plan.counts().logical_bytes,
            users=_names(plan.owners(), lambda uid: pwd.getpwuid(uid).pw_name),
            groups=_names(plan.owners(groups=True), lambda gid: grp.getgrgid(gid).gr_name),
        )
        if reads_all:
            damage.heal()  # what the run has met, and what a manifest that is whole again tells of
        totals.entries = tree.entry_count
        report()
        return PointDraft(
            object_name=object_name,
            kind=ObjectKind.FILES,
            backup_type=BackupType.FULL if reader is None or full else BackupType.INCREMENTAL,
            root=root,
            source=os.fsdecode(path).encode("utf-8", "replace").decode(),
            host=socket.gethostname(),
            logical_bytes=plan.counts().logical_bytes,
            new_bytes=totals.counts.new_bytes,
            stored_bytes=totals.counts.stored_bytes,
            read_bytes=totals.counts.read_bytes,
            started_at=started_at,
            parent_id=parent_id if reader else None,
            warnings=tuple(warnings.first),
            warning_count=warnings.count,
        )


class _ParentDamage:
    """What of the point before is lost, and may be made again of its files."""

    def __init__(
        self,
        parent: FilesRoot | None,
        source: ChunkSource | None,
        sink: ChunkSink,
        root_fd: int,
        lacking: Callable[[], frozenset[bytes]],
    ) -> None:
        self._parent = parent
        self._source = source
        self._sink = sink
        self._read = reader_below(root_fd)
        self._lacking = lacking

    def heal(self) -> frozenset[bytes]:
        """What is lacking all the same."""
        if self._parent is None or self._source is None:
            return frozenset()
        return heal(self._parent, self._source, self._sink, self._lacking(), self._read)


class _Pipeline:
    """Hands batches to readers and their results, in order, to the manifest."""

    def __init__(
        self,
        readers: list[BatchReader],
        tree: TreeWriter,
        totals: _Totals,
        warnings: Warnings,
        cancel: Cancel,
    ) -> None:
        self._idle: SimpleQueue[BatchReader] = SimpleQueue()
        for reader in readers:
            self._idle.put(reader)
        self._tree = tree
        self._totals = totals
        self._warnings = warnings
        self._cancel = cancel
        self._links = LinkGroups(self._read_alone)

    def run(self, batches: Iterable[bytes], pool: ThreadPoolExecutor, report: Callable[[], None]) -> None:
        """Read all batches; the manifest has every entry but is not finished."""
        open_batches: deque[Future[ReadBatch]] = deque()
        try:
            for batch in batches:
                open_batches.append(pool.submit(self._read, batch))
                while len(open_batches) >= BATCHES_OPEN:
                    self._take(open_batches.popleft(), report)
            while open_batches:
                self._take(open_batches.popleft(), report)
        finally:
            for future in open_batches:
                future.cancel()

    def _read(self, batch: bytes) -> ReadBatch:
        self._cancel.check()
        reader = self._idle.get()
        try:
            return reader.read(batch)
        finally:
            self._idle.put(reader)

    def _read_alone(self, record: bytes) -> bytes:
        result = self._read(record)
        self._note(result.events)
        return b"".join(result.blocks)

    def _take(self, future: Future[ReadBatch], report: Callable[[], None]) -> None:
        result = _wait(future, report)
        self._note(result.events)
        for block in result.blocks:
            self._tree.append(self._links.complete(block))
        self._totals.entries = self._tree.entry_count

    def _note(self, events: list[Event]) -> None:
        for event in events:
            self._warnings.add_event(event)


def _wait(future: Future[ReadBatch], report: Callable[[], None]) -> ReadBatch:
    while True:
        report()
        try:
            return future.result(timeout=_REPORT_SECONDS)
        except NotYet:
            if future.done():
                raise


def _reporter(plan: Plan, totals: _Totals, progress: ProgressSink) -> Callable[[], None]:
    def report() -> None:
        counts = plan.counts()
        progress(
            Progress(
                step="backup",
                done_bytes=totals.counts.read_bytes,
                done_files=totals.entries,
                total_files=counts.entries if plan.is_complete else None,
                total_bytes=counts.read_bytes if plan.is_complete else None,
                new_bytes=totals.counts.new_bytes,
                stored_bytes=totals.counts.stored_bytes,
            )
        )

    return report


def _open_parent(
    parent: FilesRoot | None, source: ChunkSource | None, warnings: Warnings
) -> TreeReader | None:
    if parent is None or source is None:
        return None
    try:
        return TreeReader(parent, source)
    except Damaged:
        warnings.add(_PARENT_DAMAGED)
        return None


def _open_root(path: Path) -> int:
    try:
        root_fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise NotFound(what="directory", name=path) from error
    except NotADirectoryError as error:
        raise BadInput(
            what=f"{path} is not a directory; back up the directory it is in, with --include {path.name}"
        ) from error
    except OSError as error:
        raise SourceUnreadable(path=path, reason=error.strerror) from error
    if is_pseudo(root_fd):
        os.close(root_fd)
        raise BadInput(
            what=f"{path} is a pseudo file system of the kernel; there is nothing in it to protect"
        )
    return root_fd


def _rules(root: Path, include: Sequence[str], exclude: Sequence[str]) -> bytes:
    prefix = os.fsencode(root).rstrip(b"/") + b"/"

    def relative(pattern: str) -> bytes:
        raw = os.fsencode(pattern)
        return b"/" + raw[len(prefix) :] if raw.startswith(prefix) and len(prefix) > 1 else raw

    try:
        return rule_list([relative(p) for p in include], [relative(p) for p in exclude])
    except ValueError as error:
        raise BadInput(what=f"a pattern cannot be used: {error}") from error


def _skips(root: Path, directories: Iterable[str | os.PathLike[str]]) -> list[tuple[int, int, int]]:
    skips = []
    root_stat = root.stat()
    for directory in directories:
        stat = Path(directory).stat()
        if os.path.samestat(stat, root_stat):
            raise BadInput(what=f"{root} is the storage itself")
        skips.append((os.major(stat.st_dev), os.minor(stat.st_dev), stat.st_ino))
    return skips


def _names(ids: list[int], name_of: Callable[[int], str]) -> dict[int, str]:
    names = {}
    for number in ids:
        try:
            names[number] = name_of(number)[:256]
        except KeyError:
            continue
    return names
