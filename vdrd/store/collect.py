"""Collection: frees the space of chunks that no point reaches, beside running backups and restores.

Packs with nothing alive go; packs less than half alive are written again without their dead chunks. A pack
that holds a chunk which an open session relies on stays, and so does, byte for byte, one with a chunk of a
locked point. Order: copies durable and indexed, then the old packs forgotten, then removed. Each step stands
by itself: a run that was stopped or killed leaves less for the next one.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from native.chunk import Encoder
from vdrd.formats import pack as pack_format
from vdrd.formats.batch import encode_chunks
from vdrd.formats.index import PackRow
from vdrd.formats.live import LiveCounts, encode_live
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.model.rate import RateLimit
from vdrd.store.pack_file import PackFile
from vdrd.store.packs import PACK_BYTES, PackPool, pack_name
from vdrd.store.walk import Walk

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

LIVE_NAME = "index/live.bin"
_COPY_CHUNKS = 16
"""Chunks copied between two looks at the rate: about a MiB."""

_TIDY_ENTRIES_MAX = 1 << 18
"""Entries of a segment that is written again while backups run: 12 MiB, some 30 ms."""

Packs = list[tuple[int, PackRow]]
"""Packs with their numbers."""


@dataclass
class CollectReport:
    """What a collection did."""

    live_bytes: int = 0
    """Of records that points reach."""
    dead_bytes: int = 0
    """Of records that no point reaches and that were left: in packs more than half alive, locked or in
    use."""
    freed_bytes: int = 0
    """Lengths of the packs that went, less what was written again of them."""
    moved_bytes: int = 0
    """Written again."""
    removed_packs: int = 0
    rewritten_packs: int = 0
    deferred_packs: int = 0
    """Dead or half dead, but in use by a session or by another reading process."""
    locked_packs: int = 0
    """Half dead, but a locked point has chunks there."""
    damaged_packs: int = 0
    """Half dead, and kept whole because something that lives in them cannot be read."""


class Collection:
    """One run. The storage sees to it that there is only one at a time."""

    def __init__(
        self, storage: "Storage", *, rate: RateLimit, progress: ProgressSink, cancel: Cancel
    ) -> None:
        self._storage = storage
        self._rate = rate
        self._progress = progress
        self._cancel = cancel
        self._report = CollectReport()
        self._points: list[Point] = []
        self._encoder = Encoder(storage.info.compression_level)
        # Its own open packs: it never closes those of a backup, nor waits for them.
        self._pool = PackPool(
            storage.directory, storage.index.native, storage.keyring, storage.index.pack_sealed
        )

    def run(self) -> CollectReport:
        """Raises Damaged, with nothing removed, when a point, a map or the guard file cannot be read: what
        must stay is unknown. Raises Cancelled between two steps."""
        try:
            return self._run()
        finally:
            self._pool.close()

    def _run(self) -> CollectReport:
        storage, report = self._storage, self._report
        storage.index.flush()
        packs = storage.index.pack_rows()
        locked = self._mark()
        usage = storage.index.native.usage()
        dead, half = [], []
        for number, row in packs.items():
            live_bytes, live_chunks = usage[number]
            report.live_bytes += live_bytes
            report.dead_bytes += row.record_bytes - live_bytes
            if live_chunks == 0:
                dead.append((number, row))
            elif live_bytes * 2 < row.file_bytes and number in locked:
                report.locked_packs += 1
            elif live_bytes * 2 < row.file_bytes:
                half.append((number, row))
        self._remove_dead(dead)
        for batch in self._batches(half, usage):
            self._rewrite(batch, usage)
        # The marks have served: what is tidied below need not carry them along.
        storage.index.native.mark_begin()
        self._tidy_segments()
        self._write_counts({row.pack_id: usage[number] for number, row in packs.items()})
        return report

    def _spend(self, count_bytes: int) -> None:
        """Wait until the rate allows to go on after so many bytes."""
        self._rate.wait(count_bytes, lambda: not self._cancel.is_requested)
        self._cancel.check()

    # ---- what is alive ----

    def _mark(self) -> set[int]:
        """Mark all that points reach. Returns the packs with chunks of locked points."""
        storage = self._storage
        in_force = set(storage.guard.names_in_force())
        self._points, damages = storage.book.list()
        if damages:
            raise damages[0]

        def stop(_: bytes, error: Damaged) -> None:
            raise error

        walk = Walk(
            storage.index.native, storage.reader, on_damage=stop, on_read=self._spend, cancel=self._cancel
        )
        locked_points = [point for point in self._points if point.point_id in in_force]
        self._visit(walk, locked_points, 0)
        locked: set[int] = set()
        if locked_points:
            usage = storage.index.native.usage()
            locked = {number for number, (_, live_chunks) in enumerate(usage) if live_chunks}
        others = [point for point in self._points if point.point_id not in in_force]
        self._visit(walk, [*others, *storage.held_points()], len(locked_points))
        return locked

    def _visit(self, walk: Walk, points: list[Point], before: int) -> None:
        for number, point in enumerate(points, before + 1):
            walk.visit([point])
            self._progress(Progress("mark", done_files=number, total_files=len(self._points)))

    def _write_counts(self, counted: dict[bytes, tuple[int, int]]) -> None:
        """Keep the counts of packs that are still there; those written since are alive as a whole."""
        storage = self._storage
        alive = {row.pack_id for row in storage.index.pack_rows().values()}
        kept = {pack_id: live for pack_id, live in counted.items() if pack_id in alive}
        points = frozenset(point.point_id for point in self._points)
        counts = LiveCounts(kept, points, self._report.deferred_packs)
        data = encode_live(counts, storage.keyring.storage_id, storage.keyring.record_key)
        storage.directory.write_file(LIVE_NAME, data)

    # ---- removing ----

    def _rows(self, row: PackRow) -> list[tuple[bytes, int, int]]:
        """Chunk id, plain bytes and kind of each record."""
        pack = PackFile(self._storage.path, row.pack_id, self._storage.keyring)
        rows = pack.rows()
        self._spend(len(rows))
        return [(r[0], r[3], r[4]) for r in pack_format.ROW.iter_unpack(rows)]

    def _ids(self, number: int, row: PackRow) -> bytes:
        """Ids of the chunks in a pack; those that the index knows where the pack itself cannot tell."""
        try:
            return b"".join(chunk_id for chunk_id, *_ in self._rows(row))
        except Damaged:
            return self._storage.index.native.pack_entries(number)[0]

    def _remove_dead(self, dead: Packs) -> None:
        for number, row in dead:
            ids = self._ids(number, row)
            if self._remove(number, row, ids):
                self._report.removed_packs += 1
                self._report.freed_bytes += row.file_bytes
                self._report.dead_bytes -= row.record_bytes
            self._progress(Progress("remove", done_files=self._report.removed_packs, total_files=len(dead)))

    def _remove(self, number: int, row: PackRow, dead_ids: bytes) -> bool:
        with self._storage.no_readers() as alone:
            if alone and self._storage.index.retire(number, dead_ids):
                self._storage.directory.remove(pack_name(row.pack_id))
                return True
        self._report.deferred_packs += 1
        return False

    # ---- compaction ----

    @staticmethod
    def _batches(half: Packs, usage: list[tuple[int, int]]) -> Iterable[Packs]:
        """Packs to write again together: as many as fill a new one."""
        batch: Packs = []
        live_bytes = 0
        for number, row in half:
            batch.append((number, row))
            live_bytes += usage[number][0]
            if live_bytes >= PACK_BYTES:
                yield batch
                batch, live_bytes = [], 0
        if batch:
            yield batch

    def _rewrite(self, batch: Packs, usage: list[tuple[int, int]]) -> None:
        """Write what is alive in these packs again, then remove them."""
        index, report = self._storage.index, self._report
        done: list[tuple[int, PackRow, int, bytes]] = []
        for number, row in batch:
            try:
                done.append((number, row, *self._move(number, row)))
            except Damaged:
                # Not all that lives in it can be read: it stays as it is, for a repair.
                report.damaged_packs += 1
        self._pool.flush(since=0)
        index.flush()
        for number, row, moved_bytes, ids in done:
            report.moved_bytes += moved_bytes
            if self._remove(number, row, ids):
                report.rewritten_packs += 1
                report.freed_bytes += row.file_bytes - moved_bytes
                report.dead_bytes -= row.record_bytes - usage[number][0]
        self._progress(Progress("compact", done_bytes=report.moved_bytes))

    def _move(self, number: int, row: PackRow) -> tuple[int, bytes]:
        """Write what is alive in a pack again: the bytes written, and the ids of what is dead in it."""
        rows = self._rows(row)
        live = self._storage.index.native.marked(number, b"".join(r[0] for r in rows))
        moved_bytes = self._copy([r for r, is_live in zip(rows, live, strict=True) if is_live], row)
        return moved_bytes, b"".join(r[0] for r, is_live in zip(rows, live, strict=True) if not is_live)

    def _copy(self, rows: list[tuple[bytes, int, int]], row: PackRow) -> int:
        """Write chunks again, into open packs; returns the bytes written."""
        moved = 0
        for kind in ChunkKind:
            ids = [chunk_id for chunk_id, _, number in rows if number == kind]
            for at in range(0, len(ids), _COPY_CHUNKS):
                part = b"".join(ids[at : at + _COPY_CHUNKS])
                plains = self._storage.reader_of(row.domain).fetch(part)
                batch = encode_chunks(self._encoder, part, plains, kind)
                written = self._pool.put(batch, row.domain, again=True)
                self._spend(2 * written)  # read and written
                moved += written
        return moved

    def _tidy_segments(self) -> None:
        """Write segments again of which more than a quarter names packs that are gone."""
        index = self._storage.index
        alive = {row.pack_id for row in index.pack_rows().values()}
        for segment in list(index.segments):
            if segment.header.entry_count > _TIDY_ENTRIES_MAX and self._storage.statistics().session_count:
                continue  # a commit would wait; another collection will find it
            gone = sum(row.chunk_count for row in segment.packs if row.pack_id not in alive)
            if gone * 4 > segment.header.entry_count:
                index.rewrite([segment])
