"""Verification: that what is stored is what was written, and which points suffer where it is not."""

import mmap
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from native import chunk
from native.chunk import Decoder
from vdrd.formats import pack as pack_format
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind
from vdrd.model.errors import Damaged, VdrError
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.store.index import read_segment
from vdrd.store.pack_file import PackFile, packs_on_disk
from vdrd.store.walk import Walk, fetch_each, references, root_reference, split_ids

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

_FETCH_CHUNKS = 64
_WORKERS_MAX = 4


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was written. `points` are the ids of those that cannot be restored whole
    for it."""

    what: str
    reason: str
    points: tuple[str, ...] = ()


@dataclass
class VerifyReport:
    """Outcome of a verification."""

    points: int = 0
    chunks: int = 0
    packs: int = 0
    read_bytes: int = 0
    damages: list[Damage] = field(default_factory=list)
    affected_points: tuple[str, ...] = ()
    """Ids of all points that cannot be restored whole."""


class Verification:
    """One run over a storage."""

    def __init__(self, storage: "Storage", *, progress: ProgressSink, cancel: Cancel) -> None:
        self._storage = storage
        self._progress = progress
        self._cancel = cancel
        self._report = VerifyReport()
        self._lock = threading.Lock()
        self._bad_chunks: dict[bytes, Damaged] = {}
        self._others: list[Damaged] = []
        self._lost_points: list[str] = []

    def run(self, points: list[str] | None, *, read_data: bool) -> VerifyReport:
        """Check these points, or with None everything; with `read_data` every byte of it."""
        good = self._read_points(self._storage.book.names() if points is None else points)
        if not self._storage.is_writable:
            self._storage.index.refresh()  # a backup may have ended in another process since it was opened
        if points is None:
            self._check_segments()
            self._check_packs(read_data=read_data)
        self._walk(good, read_data=read_data and points is not None)
        return self._finish(good)

    # ---- points ----

    def _read_points(self, names: list[str]) -> list[Point]:
        good = []
        for name in names:
            try:
                good.append(self._storage.book.read(name, afresh=True))
            except Damaged as error:
                self._others.append(error)
                self._lost_points.append(name)
        self._report.points = len(names)
        return good

    def _walk(self, points: list[Point], *, read_data: bool) -> None:
        pending: list[bytes] = []
        walk = Walk(
            self._storage.index.native,
            self._storage.reader,
            on_damage=self._chunk_damaged,
            on_data=(lambda ids: pending.extend(split_ids(ids))) if read_data else (lambda _: None),
            cancel=self._cancel,
        )
        for number, point in enumerate(points):
            walk.visit([point])
            self._read_chunks(pending)
            self._progress(Progress("verify points", done_files=number + 1, total_files=len(points)))
        self._report.chunks = max(self._report.chunks, walk.chunk_count)

    def _read_chunks(self, pending: list[bytes]) -> None:
        while pending:
            self._cancel.check()
            batch = pending[-_FETCH_CHUNKS:]
            del pending[-_FETCH_CHUNKS:]
            for plain in fetch_each(self._storage.reader, batch, self._chunk_damaged):
                self._report.read_bytes += len(plain or b"")

    def _chunk_damaged(self, chunk_id: bytes, error: Damaged) -> None:
        with self._lock:
            self._bad_chunks.setdefault(chunk_id, error)

    # ---- index and packs ----

    def _check_segments(self) -> None:
        for path in sorted((self._storage.path / "index").glob("*.idx")):
            try:
                read_segment(path, self._storage.keyring, check=True)
            except Damaged as error:
                self._others.append(error)
            except OSError as error:
                reason = (error.strerror or "error").lower()
                self._others.append(Damaged(what=f"index segment {path.name}", reason=reason))

        try:
            self._storage.live_counts()
        except Damaged as error:
            self._others.append(error)

    def _check_packs(self, *, read_data: bool) -> None:
        pack_ids = sorted(packs_on_disk(self._storage.path))
        rows = self._storage.index.pack_rows().values()
        total = sum(row.file_bytes for row in rows) if read_data else None
        gone = {row.pack_id for row in rows} - set(pack_ids)
        self._others += [
            Damaged(what=f"pack {pack_id.hex()}", reason="it is missing") for pack_id in sorted(gone)
        ]
        check = self._read_pack if read_data else self._check_table
        with ThreadPoolExecutor(min(_WORKERS_MAX, os.cpu_count() or 1)) as pool:
            for _ in pool.map(lambda pack_id: self._check_pack(check, pack_id, total), pack_ids):
                pass

    def _check_pack(
        self, check: Callable[[PackFile], tuple[int, int]], pack_id: bytes, total_bytes: int | None
    ) -> None:
        self._cancel.check()
        try:
            pack = PackFile(self._storage.path, pack_id, self._storage.keyring)
            chunks, read = check(pack)
        except Damaged as error:
            with self._lock:
                self._others.append(error)
            return
        with self._lock:
            self._report.packs += 1
            self._report.chunks += chunks
            self._report.read_bytes += read
            self._progress(Progress("verify packs", self._report.read_bytes, total_bytes))

    def _check_table(self, pack: PackFile) -> tuple[int, int]:
        return len(pack.rows()) // pack_format.ROW_BYTES, 0

    def _read_pack(self, pack: PackFile) -> tuple[int, int]:
        rows = pack.rows()
        with pack.path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            data.madvise(mmap.MADV_SEQUENTIAL)
            aead = pack.aead()
            view = memoryview(data)
            try:
                good, status = chunk.verify(view, aead, Decoder(), pack.keys.id_key_table, rows)
            finally:
                view.release()
                if aead is not None:
                    aead.close()
        if good != len(status):
            for row, code in zip(pack_format.ROW.iter_unpack(rows), status, strict=True):
                if code:
                    reason = f"its record at byte {row[1]} of {pack.what} does not hold"
                    self._chunk_damaged(row[0], Damaged(what=f"chunk {row[0].hex()}", reason=reason))
        self._check_layout(pack, rows)
        return len(status), pack.file_bytes

    def _check_layout(self, pack: PackFile, rows: bytes) -> None:
        """Records stand back to back from the header to the table: nothing is between them."""
        at = pack_format.HEADER_BYTES
        for _, offset, stored, *_ in pack_format.ROW.iter_unpack(rows):
            if offset != at:
                raise Damaged(what=pack.what, reason=f"its table does not fit its records at byte {at}")
            at += chunk.RECORD_HEADER_BYTES + stored

    # ---- outcome ----

    def _finish(self, points: list[Point]) -> VerifyReport:
        affected = self._affected(points) if self._bad_chunks else {}
        report = self._report
        for chunk_id, error in sorted(self._bad_chunks.items()):
            names = tuple(point_id for point_id, bad in affected.items() if chunk_id in bad)
            report.damages.append(Damage(str(error.fields["what"]), str(error.fields["reason"]), names))
        for error in self._others:
            report.damages.append(Damage(str(error.fields["what"]), str(error.fields["reason"])))
        lost = {point_id for point_id, bad in affected.items() if bad} | set(self._lost_points)
        report.affected_points = tuple(sorted(lost))
        return report

    def _affected(self, points: list[Point]) -> dict[str, set[bytes]]:
        """Bad chunks that each point reaches. Subtrees shared by points are looked at once."""
        known: dict[bytes, frozenset[bytes]] = {}
        result = {}
        for point in points:
            root = root_reference(point)
            result[point.point_id] = set(self._bad_below(*root, known)) if root else set()
        return result

    def _bad_below(
        self, kind: ChunkKind, chunk_id: bytes, known: dict[bytes, frozenset[bytes]]
    ) -> frozenset[bytes]:
        if chunk_id in known:
            return known[chunk_id]
        self._cancel.check()
        bad: set[bytes] = set()
        if chunk_id in self._bad_chunks:
            bad.add(chunk_id)
        try:
            named = references(kind, self._storage.reader.fetch(chunk_id)[0])
        except VdrError:
            named = []
        for child_kind, ids in named:
            if child_kind is ChunkKind.DATA:
                bad |= {i for i in split_ids(ids) if i in self._bad_chunks}
                continue
            for at in range(0, len(ids), CHUNK_ID_BYTES):
                bad |= self._bad_below(child_kind, ids[at : at + CHUNK_ID_BYTES], known)
        known[chunk_id] = frozenset(bad)
        return known[chunk_id]
