"""Verification: that what is stored is what was written, and which points suffer where it is not.

Packs are read by several threads; what is found is told to the index, so that the next backup stores it
again. A record that does not hold is no damage when its chunk stands whole elsewhere, or when nothing needs
it.
"""

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from native.pack_check import PackChecker
from vdrd.formats.damage import Mark
from vdrd.model.errors import Damaged
from vdrd.model.points import Point
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.store.affected import Affected
from vdrd.store.index import read_segment
from vdrd.store.pack_check import PackFindings, check_pack
from vdrd.store.pack_file import packs_on_disk
from vdrd.store.verify_progress import VerifyProgress
from vdrd.store.walk import Walk, fetch_each, split_ids

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

_FETCH_CHUNKS = 64
_WORKERS_MAX = 8


@dataclass(frozen=True, slots=True)
class Damage:
    """One thing that is not as it was written. `points` are the ids of those that cannot be restored whole
    for it."""

    what: str
    reason: str
    points: tuple[str, ...] = ()
    chunk_id: str = ""
    """Of a chunk, in hex."""


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
    unneeded: int = 0
    """Records and packs that do not hold and that nothing needs: whole elsewhere, or part of no point."""
    resumed_packs: int = 0
    """Not read again: the verification that this one continues has."""
    is_remembered: bool = True
    """What was found is kept in the storage, for the next backup to mend."""


@dataclass(frozen=True, slots=True)
class VerifyScope:
    """How much a verification looks at."""

    read_data: bool = False
    """Every byte, not only the structure."""
    resume: bool = False
    """Go on with the last verification of all data that did not come to its end."""
    sample: float | None = None
    """Read this share of the stored bytes, of packs taken at random, and no tree of any point."""


class Verification:
    """One run over a storage."""

    def __init__(
        self,
        storage: "Storage",
        *,
        progress: ProgressSink,
        cancel: Cancel,
        rng: random.Random | None = None,
    ) -> None:
        self._storage = storage
        self._progress = progress
        self._cancel = cancel
        self._rng = rng or random.SystemRandom()
        self._report = VerifyReport()
        self._lock = threading.Lock()
        self._bad_chunks: dict[bytes, Damaged] = {}
        self._misread: set[bytes] = set()
        self._bad_packs: list[PackFindings] = []
        self._others: list[Damaged] = []
        self._lost_points: list[str] = []
        self._done = VerifyProgress(storage.directory, storage.keyring)
        self._checkers = threading.local()

    def run(self, points: list[str] | None, scope: VerifyScope) -> VerifyReport:
        """Check these points, or with None everything."""
        storage = self._storage
        good = self._read_points(storage.book.names() if points is None else points)
        if not storage.is_writable:
            storage.index.refresh()  # a backup may have ended in another process since it was opened
        self._others += storage.damage.refresh()
        if points is None:
            self._check_segments()
            self._check_packs(scope)
        is_sample = scope.sample is not None
        if not is_sample:
            self._walk(good, read_data=scope.read_data and points is not None)
        for mark in storage.damage.marks():
            if mark.offset:
                self._record_damaged(mark)
        self._report.is_remembered = storage.damage.save_if_possible()
        return self._finish(good, is_everything=points is None)

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
            if error.fields["what"] != f"chunk {chunk_id.hex()}":
                self._misread.add(chunk_id)

    def _record_damaged(self, mark: Mark) -> None:
        reason = f"its record at byte {mark.offset} of pack {mark.pack_id.hex()} does not hold"
        self._chunk_damaged(mark.chunk_id, Damaged(what=f"chunk {mark.chunk_id.hex()}", reason=reason))

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

    def _check_packs(self, scope: VerifyScope) -> None:
        # The rows first: a pack that a backup ends between the two looks is on disk, and not missing.
        rows = self._storage.index.pack_rows()
        on_disk = packs_on_disk(self._storage.path)
        for number, row in rows.items():
            if row.pack_id not in on_disk:
                # The walk finds what is lost with it.
                self._others.append(Damaged(what=f"pack {row.pack_id.hex()}", reason="it is missing"))
                self._storage.index.pack_lost(number)
        is_all_data = scope.read_data and scope.sample is None
        wanted = self._chosen(on_disk, scope)
        total = sum(on_disk[pack_id] for pack_id in wanted) if scope.read_data else None
        marked: dict[bytes, set[int]] = {}
        for mark in self._storage.damage.marks():
            marked.setdefault(mark.pack_id, set()).add(mark.offset)

        def check(pack_id: bytes) -> None:
            self._cancel.check()
            checker = self._checker() if scope.read_data else None
            asked = frozenset(marked.get(pack_id, ()))
            storage = self._storage
            found = check_pack(
                storage.index, storage.keyring, storage.path, pack_id, checker=checker, asked=asked
            )
            self._take(found, asked, total, is_whole_check=is_all_data)

        workers = min(_WORKERS_MAX, os.cpu_count() or 1) if scope.read_data else 1
        with ThreadPoolExecutor(workers, thread_name_prefix="vdr-verify") as pool:
            try:
                for _ in pool.map(check, wanted):
                    pass
            except BaseException:
                pool.shutdown(cancel_futures=True)
                if is_all_data:
                    self._done.save()
                raise
        if is_all_data:
            self._done.finish()

    def _chosen(self, on_disk: dict[bytes, int], scope: VerifyScope) -> list[bytes]:
        """Packs to look at, in the order they are looked at."""
        if scope.resume:
            self._done.resume()
            self._report.resumed_packs = len(self._done.done & on_disk.keys())
        wanted = sorted(on_disk.keys() - self._done.done)
        if scope.sample is None:
            return wanted
        self._rng.shuffle(wanted)
        left = scope.sample * sum(on_disk.values())
        chosen = []
        for pack_id in wanted:
            if left <= 0:
                break
            chosen.append(pack_id)
            left -= on_disk[pack_id]
        return chosen

    def _checker(self) -> PackChecker:
        if not hasattr(self._checkers, "own"):
            self._checkers.own = PackChecker()
        own: PackChecker = self._checkers.own
        return own

    def _take(
        self, found: PackFindings, asked: frozenset[int], total_bytes: int | None, *, is_whole_check: bool
    ) -> None:
        """Count what was found in a pack, and tell the index. `is_whole_check`: of a verification of all
        data, which a later one may go on with."""
        damage, number = self._storage.damage, found.number
        for offset, chunk_id in found.bad:
            self._record_damaged(Mark(found.pack_id, offset, chunk_id))
            if number is not None:
                damage.note(number, offset, chunk_id)
        if number is not None:
            for offset in found.good_offsets:
                damage.clear(number, offset)
            if found.frame is not None:
                damage.note_frame(number)
            elif 0 in asked:
                damage.clear(number)
        with self._lock:
            if found.frame is not None:
                self._bad_packs.append(found)
            elif is_whole_check and not found.bad:
                self._done.add(found.pack_id)
            self._report.packs += 1
            self._report.chunks += found.chunks
            self._report.read_bytes += found.read_bytes
            self._progress(Progress("verify packs", self._report.read_bytes, total_bytes))

    # ---- outcome ----

    def _finish(self, points: list[Point], *, is_everything: bool) -> VerifyReport:
        bad = self._lacking()
        by_point: dict[str, frozenset[bytes]] = {}
        is_known = is_everything and not self._lost_points
        if bad:
            walk = Affected(self._storage.index.native, self._storage.reader, bad, self._cancel)
            by_point = walk.by_point(points)
            # What is named by nodes that cannot be read is unknown: then anything may be needed.
            is_known = is_known and not walk.unread
        reached = {chunk_id for below in by_point.values() for chunk_id in below}
        report = self._report
        for chunk_id in sorted(bad):
            if is_known and chunk_id not in reached:
                continue
            error = self._bad_chunks[chunk_id]
            names = tuple(point_id for point_id, below in by_point.items() if chunk_id in below)
            report.damages.append(_damage(error, names, chunk_id.hex()))
        report.unneeded = len(self._bad_chunks) - len(report.damages)
        for found in self._bad_packs:
            assert found.frame is not None
            if self._needs(found, bool(report.damages)):
                report.damages.append(_damage(found.frame))
            else:
                report.unneeded += 1
        report.damages += map(_damage, self._others)
        lost = {point_id for point_id, below in by_point.items() if below} | set(self._lost_points)
        report.affected_points = tuple(sorted(lost))
        return report

    def _lacking(self) -> frozenset[bytes]:
        """Bad chunks that stand whole nowhere, and nodes that make no sense though their records hold."""
        ids = sorted(self._bad_chunks)
        flags = self._storage.index.native.lacking(b"".join(ids))
        return frozenset(i for i, flag in zip(ids, flags, strict=True) if flag) | self._misread

    def _needs(self, found: PackFindings, is_anything_lost: bool) -> bool:
        """Whether something is read from a pack, or may be lost with it."""
        native = self._storage.index.native
        if found.number is None:
            return is_anything_lost
        ids, places = native.pack_entries(found.number)
        if not ids:
            return is_anything_lost
        answers = native.find(ids)
        return any(answers[at : at + 16] == places[at : at + 16] for at in range(0, len(places), 16))


def _damage(error: Damaged, points: tuple[str, ...] = (), chunk_id: str = "") -> Damage:
    return Damage(str(error.fields["what"]), str(error.fields["reason"]), points, chunk_id)
