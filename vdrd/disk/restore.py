"""Restoring a disk point to a file or a device, from any chunk source.

A file is written beside its name and renamed when it is complete, so that a target is either whole or not
there; holes stay holes. On a device, what the point has as zeros is zeroed.
"""

import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Protocol, runtime_checkable

from native import direct
from vdrd.disk.image import ImageDisk
from vdrd.disk.map_writer import FANOUT, Node, decode_node
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkSource
from vdrd.model.errors import Damaged, StorageFull, TargetOccupied, TargetRefused, VdrError
from vdrd.model.points import DiskRoot
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.model.reports import RestoreReport

_BATCH_BLOCKS = 64
_WORKERS_MAX = 4
_WAITING = 2
"""Workers beyond one for each processor: so many wait for the disk at any time."""
_NODES_AHEAD = 16
_MARK_BYTES = 1 << 20


@runtime_checkable
class _DirectSource(Protocol):
    """A source that can put chunks straight into a buffer."""

    def fetch_into(self, ids: bytes, out: memoryview, piece_bytes: int) -> Iterable[int]:
        """Chunk i to out[i * piece_bytes]; returns their lengths."""


def _refused(path: Path, error: OSError) -> VdrError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return StorageFull(path=path)
    return TargetRefused(path=path, reason=(error.strerror or "error").lower())


class _Target:
    """Where the disk goes. `zero` is None where nothing needs to be done for zeros. Thread-safe."""

    def __init__(self, path: Path, fd: int, zero: Callable[[int, int], None] | None) -> None:
        self.path = path
        self.fd = fd
        self.zero = zero
        self._is_direct = direct.begin(fd)
        self._tail: tuple[int, bytes] | None = None

    def write(self, offset: int, data: memoryview) -> None:
        """Write an aligned buffer's bytes to an aligned offset."""
        is_direct = self._is_direct
        whole = direct.whole_bytes(len(data)) if is_direct else len(data)
        try:
            self._write(offset, data[:whole])
        except OSError as error:
            if not (is_direct and direct.is_refusal(error)):
                raise _refused(self.path, error) from error
            self._end_direct()
            self.write(offset, data)
            return
        if whole < len(data):
            self._tail = (offset + whole, bytes(data[whole:]))  # the end of the disk
        if not is_direct:
            # Left alone the kernel waits for the sync at the end, with the processor idle.
            os.posix_fadvise(self.fd, offset, len(data), os.POSIX_FADV_DONTNEED)

    def finish(self) -> None:
        """Write what was left; everything is durable on return."""
        try:
            self._end_direct()
            if self._tail is not None:
                self._write(self._tail[0], memoryview(self._tail[1]))
            os.fsync(self.fd)
        except OSError as error:
            raise _refused(self.path, error) from error

    def _end_direct(self) -> None:
        self._is_direct = False
        direct.end(self.fd)

    def _write(self, offset: int, data: memoryview) -> None:
        while data:
            written = os.pwrite(self.fd, data, offset)
            offset += written
            data = data[written:]


class _DiskRestore:
    """One run."""

    def __init__(
        self, root: DiskRoot, source: ChunkSource, target: _Target, *, progress: ProgressSink, cancel: Cancel
    ) -> None:
        self._root = root
        self._source = source
        self._target = target
        self._progress = progress
        self._cancel = cancel
        self._lock = threading.Lock()
        self._local = threading.local()
        self._parts = self._walk_disk()
        self._done_bytes = 0
        self.written_bytes = 0

    def run(self) -> None:
        workers = min(_WORKERS_MAX, _WAITING + (os.cpu_count() or 1))
        stop = threading.Event()
        with ThreadPoolExecutor(workers, thread_name_prefix="vdr-restore") as pool:
            futures = [pool.submit(self._work, stop) for _ in range(workers)]
            try:
                for future in futures:
                    future.result()
            finally:
                stop.set()  # Ctrl-C arrives here, in the thread that waits
        self._cancel.check()

    def _work(self, stop: threading.Event) -> None:
        try:
            while not stop.is_set():
                self._cancel.check()
                with self._lock:
                    part = next(self._parts, None)
                if part is None:
                    return
                first, end, node = part
                if node is None:
                    self._zero(first, end)
                else:
                    self._restore_leaf(first, node)
                self._report(end)
        except BaseException:
            stop.set()
            raise

    # ---- walking ----

    def _walk_disk(self) -> Iterator[tuple[int, int, Node | None]]:
        """The disk in order as block ranges: leaves, and None for what lies between them and is zero."""
        at = 0
        if self._root.root_id is not None:
            data = self._source.fetch(self._root.root_id)[0]
            node = decode_node(data, self._root.levels, self._root.root_id)
            for first, leaf in self._walk(self._root.levels, 0, node):
                if at < first:
                    yield at, first, None
                at = first + FANOUT
                yield first, at, leaf
        end = -(-self._root.size_bytes // self._root.block_bytes)
        if at < end:
            yield at, end, None

    def _walk(self, level: int, index: int, node: Node) -> Iterator[tuple[int, Node]]:
        if level == 1:
            yield index * FANOUT, node
            return
        children = list(node.children())
        for at in range(0, len(children), _NODES_AHEAD):
            part = children[at : at + _NODES_AHEAD]
            fetched = self._source.fetch(b"".join(child_id for _, child_id in part))
            for (i, child_id), data in zip(part, fetched, strict=True):
                yield from self._walk(level - 1, index * FANOUT + i, decode_node(data, level - 1, child_id))

    # ---- writing ----

    def _restore_leaf(self, first_block: int, node: Node) -> None:
        child = 0
        written = 0
        while child < FANOUT:
            absent = node.absent[child]
            end = node.absent.find(not absent, child)
            end = FANOUT if end < 0 else end
            if absent:
                self._zero(first_block + child, first_block + end)
            else:
                for at in range(child, end, _BATCH_BLOCKS):
                    self._cancel.check()
                    stop = min(end, at + _BATCH_BLOCKS)
                    ids = bytes(node.ids[CHUNK_ID_BYTES * at : CHUNK_ID_BYTES * stop])
                    written += self._copy(first_block + at, ids)
            child = end
        with self._lock:
            self.written_bytes += written

    def _report(self, end_block: int) -> None:
        with self._lock:
            end_bytes = min(end_block * self._root.block_bytes, self._root.size_bytes)
            self._done_bytes = max(self._done_bytes, end_bytes)
            self._progress(Progress("restore", self._done_bytes, self._root.size_bytes))

    def _copy(self, first_block: int, ids: bytes) -> int:
        offset = first_block * self._root.block_bytes
        count = len(ids) // CHUNK_ID_BYTES
        total = min(count * self._root.block_bytes, self._root.size_bytes - offset)
        buffer = self._buffer()
        if isinstance(self._source, _DirectSource):
            lengths = self._source.fetch_into(ids, buffer, self._root.block_bytes)
        else:
            lengths = self._fetch_into(ids, buffer)
        for i, length in enumerate(lengths):
            wanted = min(self._root.block_bytes, total - i * self._root.block_bytes)
            if length != wanted:
                chunk_id = ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)]
                raise Damaged(what=f"chunk {chunk_id.hex()}", reason=f"it is no block of {wanted} bytes")
        self._target.write(offset, buffer[:total])
        return total

    def _fetch_into(self, ids: bytes, out: memoryview) -> Iterator[int]:
        fetched = self._source.fetch(ids)
        for i, plain in enumerate(fetched):
            if len(plain) <= self._root.block_bytes:
                at = i * self._root.block_bytes
                out[at : at + len(plain)] = plain
        return map(len, fetched)

    def _buffer(self) -> memoryview:
        if not hasattr(self._local, "buffer"):
            self._local.buffer = direct.aligned_buffer(_BATCH_BLOCKS * self._root.block_bytes)
        buffer: memoryview = self._local.buffer
        return buffer

    def _zero(self, first_block: int, end_block: int) -> None:
        if self._target.zero is None:
            return
        start = first_block * self._root.block_bytes
        end = min(end_block * self._root.block_bytes, self._root.size_bytes)
        if start < end:
            self._target.zero(start, end - start)


def restore_disk(
    root: DiskRoot,
    source: ChunkSource,
    target_path: Path,
    *,
    overwrite: bool,
    progress: ProgressSink,
    cancel: Cancel,
) -> RestoreReport:
    """Write a disk point to `target_path`: a file (made, or with `overwrite` replaced) or an existing device.

    Every chunk is verified before it is written. Raises TargetRefused (the file exists and `overwrite` is
    not given, the device is not blank and `overwrite` is not given, is smaller than the point, or in use),
    StorageFull, Damaged naming the chunk, Cancelled. After a failure a file target is as it was; a device
    is not. `progress` is called from worker threads, one at a time.
    """
    try:
        mode = target_path.stat().st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
        is_there = False
    except OSError as error:
        raise _refused(target_path, error) from error
    else:
        is_there = True
    if stat.S_ISBLK(mode):
        written = _restore_device(
            root, source, target_path, overwrite=overwrite, progress=progress, cancel=cancel
        )
    elif not stat.S_ISREG(mode):
        raise TargetRefused(path=target_path, reason="it is neither a file nor a block device")
    elif is_there and not overwrite:
        raise TargetOccupied(path=target_path, reason="it exists")
    else:
        written = _restore_file(root, source, target_path, progress=progress, cancel=cancel)
    return RestoreReport(logical_bytes=root.size_bytes, written_bytes=written)


def _restore_file(
    root: DiskRoot, source: ChunkSource, path: Path, *, progress: ProgressSink, cancel: Cancel
) -> int:
    # A name of its own: neither a file of the user's nor a restore beside this one may be written into.
    partial = path.with_name(f"vdr-{secrets.token_hex(8)}.partial")
    try:
        fd = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        try:
            os.ftruncate(fd, root.size_bytes)
            target = _Target(path, fd, None)
            run = _DiskRestore(root, source, target, progress=progress, cancel=cancel)
            run.run()
            target.finish()
        finally:
            os.close(fd)
        partial.rename(path)
        _sync_directory(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise _refused(path, error) from error
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    return run.written_bytes


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _check_room(path: Path, device_bytes: int, root: DiskRoot) -> None:
    if device_bytes < root.size_bytes:
        reason = f"it has {device_bytes} bytes, the point {root.size_bytes}"
        raise TargetRefused(path=path, reason=reason)


def _check_blank(path: Path, fd: int, device_bytes: int) -> None:
    """Refuse a device that is in use by something: its first or last MiB is not zero. Partition tables, file
    systems, volume managers and RAID members all leave a mark there."""
    for offset in (0, max(0, device_bytes - _MARK_BYTES)):
        if any(os.pread(fd, _MARK_BYTES, offset)):
            raise TargetOccupied(path=path, reason="the device is not blank")


def _restore_device(
    root: DiskRoot,
    source: ChunkSource,
    path: Path,
    *,
    overwrite: bool,
    progress: ProgressSink,
    cancel: Cancel,
) -> int:
    try:
        # O_EXCL: refuses a device that is mounted or part of another one.
        fd = os.open(path, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    except OSError as error:
        raise _refused(path, error) from error
    try:
        device_bytes = os.lseek(fd, 0, os.SEEK_END)
        _check_room(path, device_bytes, root)
        if not overwrite:
            _check_blank(path, fd, device_bytes)
        # Opened a second time: zeros are written in whatever pieces they come, never directly.
        with ImageDisk.open(path, writable=True) as disk:
            target = _Target(path, fd, disk.zero)
            run = _DiskRestore(root, source, target, progress=progress, cancel=cancel)
            run.run()
            target.finish()
    except OSError as error:
        with suppress(OSError):
            os.close(fd)
        raise _refused(path, error) from error
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return run.written_bytes
