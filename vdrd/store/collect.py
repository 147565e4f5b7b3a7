"""Collection: frees the space of chunks that no point reaches, beside running backups and restores.

Packs with nothing alive go; packs less than half alive are written again without their dead chunks. A pack
that holds a chunk which an open session relies on stays. Order: copies durable and indexed, then the old
pack forgotten, then removed.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from native.chunk import Encoder
from vdrd.formats import pack as pack_format
from vdrd.formats.batch import encode_chunks
from vdrd.formats.index import PackRow
from vdrd.formats.live import LiveCounts, encode_live, points_digest
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.store.pack_file import PackFile
from vdrd.store.packs import pack_name
from vdrd.store.walk import Walk

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

LIVE_NAME = "index/live.bin"
_COPY_CHUNKS = 64


@dataclass
class CollectReport:
    """What a collection did."""

    live_bytes: int = 0
    """Of records that points reach."""
    freed_bytes: int = 0
    """Lengths of the packs that went, less what was written again of them."""
    moved_bytes: int = 0
    """Written again."""
    removed_packs: int = 0
    rewritten_packs: int = 0
    deferred_packs: int = 0
    """Dead or half dead, but in use by a session or by another reading process."""


class Collection:
    """One run. The storage sees to it that there is only one at a time."""

    def __init__(self, storage: "Storage", *, progress: ProgressSink, cancel: Cancel) -> None:
        self._storage = storage
        self._progress = progress
        self._cancel = cancel
        self._report = CollectReport()
        self._failures_before = storage.pool.failure_count
        self._points: list[Point] = []
        self._encoder = Encoder(storage.info.compression_level)

    def run(self) -> CollectReport:
        """Raises Damaged, with nothing removed, when a point or a map cannot be read: what it needs is
        unknown."""
        storage = self._storage
        storage.index.flush()
        packs = storage.index.pack_rows()
        self._mark()
        usage = storage.index.native.usage()
        dead, half = [], []
        for number, row in packs.items():
            live_bytes, live_chunks = usage[number]
            self._report.live_bytes += live_bytes
            if live_chunks == 0:
                dead.append((number, row))
            elif live_bytes * 2 < row.file_bytes:
                half.append((number, row))
        self._remove_dead(dead)
        self._rewrite(half)
        self._tidy_segments()
        self._write_counts({row.pack_id: usage[number] for number, row in packs.items()})
        return self._report

    def _write_counts(self, counted: dict[bytes, tuple[int, int]]) -> None:
        """Keep the counts of packs that are still there; those written since are alive as a whole."""
        storage = self._storage
        alive = {row.pack_id for row in storage.index.pack_rows().values()}
        kept = {pack_id: live for pack_id, live in counted.items() if pack_id in alive}
        counts = LiveCounts(points_digest([point.point_id for point in self._points]), kept)
        data = encode_live(counts, storage.keyring.storage_id, storage.keyring.record_key)
        storage.directory.write_file(LIVE_NAME, data)

    def _mark(self) -> None:
        self._points, damages = self._storage.book.list()
        if damages:
            raise damages[0]

        def stop(_: bytes, error: Damaged) -> None:
            raise error

        walk = Walk(self._storage.index.native, self._storage.reader, on_damage=stop, cancel=self._cancel)
        for number, point in enumerate([*self._points, *self._storage.held_points()]):
            walk.visit([point])
            self._progress(Progress("mark", done_files=number + 1, total_files=len(self._points)))

    def _rows(self, row: PackRow) -> list[tuple[bytes, int, int]]:
        """Chunk id, plain bytes and kind of each record."""
        pack = PackFile(self._storage.path, row.pack_id, self._storage.keyring)
        return [(r[0], r[3], r[4]) for r in pack_format.ROW.iter_unpack(pack.rows())]

    def _remove_dead(self, dead: list[tuple[int, PackRow]]) -> None:
        for number, row in dead:
            self._cancel.check()
            ids = b"".join(chunk_id for chunk_id, *_ in self._rows(row))
            if self._remove(number, row, ids):
                self._report.removed_packs += 1
                self._report.freed_bytes += row.file_bytes

    def _remove(self, number: int, row: PackRow, dead_ids: bytes) -> bool:
        with self._storage.no_readers() as alone:
            if alone and self._storage.index.retire(number, dead_ids):
                self._storage.directory.remove(pack_name(row.pack_id))
                return True
        self._report.deferred_packs += 1
        return False

    def _rewrite(self, half: list[tuple[int, PackRow]]) -> None:
        for number, row in half:
            self._cancel.check()
            rows = self._rows(row)
            ids = b"".join(chunk_id for chunk_id, *_ in rows)
            live = self._storage.index.native.marked(number, ids)
            moved = self._copy([r for r, is_live in zip(rows, live, strict=True) if is_live], row)
            self._storage.pool.flush(since=self._failures_before)
            self._storage.index.flush()
            dead_ids = b"".join(r[0] for r, is_live in zip(rows, live, strict=True) if not is_live)
            self._report.moved_bytes += moved
            if self._remove(number, row, dead_ids):
                self._report.rewritten_packs += 1
                self._report.freed_bytes += row.file_bytes - moved
            self._progress(Progress("compact", done_bytes=self._report.moved_bytes))

    def _copy(self, rows: list[tuple[bytes, int, int]], row: PackRow) -> int:
        """Write chunks again, into open packs; returns the bytes written."""
        moved = 0
        for kind in ChunkKind:
            ids = [chunk_id for chunk_id, _, number in rows if number == kind]
            for at in range(0, len(ids), _COPY_CHUNKS):
                part = b"".join(ids[at : at + _COPY_CHUNKS])
                plains = self._storage.reader.fetch(part)
                batch = encode_chunks(self._encoder, part, plains, kind)
                moved += self._storage.pool.put(batch, row.domain, again=True)
        return moved

    def _tidy_segments(self) -> None:
        """Write segments again of which more than a quarter names packs that are gone."""
        index = self._storage.index
        alive = {row.pack_id for row in index.pack_rows().values()}
        for segment in list(index.segments):
            gone = sum(row.chunk_count for row in segment.packs if row.pack_id not in alive)
            if gone * 4 > segment.header.entry_count:
                index.rewrite([segment])
