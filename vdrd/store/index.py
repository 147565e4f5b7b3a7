"""The index of an open storage: segments on disk, the table in memory, and what the packs themselves say.

Keeps three things in step: packs that exist, segments that name them, and the native index that answers.
Knows nothing of points. `docs/formats/store.md` has the segment format.
"""

import hmac
import mmap
import os
import threading
from array import array
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from native import blake3
from native.index import NO_PACK, Index
from vdrd.formats import index as index_format
from vdrd.formats import pack as pack_format
from vdrd.formats.index import PackRow, SegmentHeader
from vdrd.model.errors import Damaged
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring
from vdrd.store.pack_file import PackFile, guess_pack, packs_on_disk
from vdrd.store.packs import SealedPack

SEGMENTS_MAX = 12
"""More are merged: each costs a look-up for every chunk that is new."""

_UNINDEXED_CHUNKS_MAX = 1 << 18
"""Chunks of durable packs at which a segment is written before the commit: they take about 25 MiB of
memory."""

_CHECK_BYTES_MAX = 256 << 20
"""Segments up to this in sum have their MAC checked at every open; larger ones when opened for writing and
by verify."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment in use."""

    name: str
    number: int
    handle: int
    header: SegmentHeader
    packs: tuple[PackRow, ...]


class ChunkIndex:
    """Thread-safe. `native` answers look-ups; everything here is about where its content comes from."""

    def __init__(self, directory: StorageDirectory, keyring: Keyring) -> None:
        self.native = Index()
        self._directory = directory
        self._keyring = keyring
        self._lock = threading.Lock()  # while segments are written and packs retired: may be long
        self._rows_lock = threading.Lock()  # of what follows: never long, backups wait for it
        self.segments: list[Segment] = []
        self._unindexed: dict[int, PackRow] = {}
        self._unindexed_chunks = 0
        self.packs: dict[int, PackRow] = {}
        self.damages: list[Damaged] = []
        self.has_gaps = False
        """A segment names a pack that is gone (collected, or lost) or is not as long as it was."""
        self._bad_segments: list[str] = []
        self._domains = {0}
        """Key domains seen in headers of packs."""

    # ---- opening ----

    def load(self, *, check: bool, afresh: bool = False) -> None:
        """Map all segments, then read the tables of packs that none of them names.

        A segment that does not hold is left out (`damages` has it): its packs are read instead. So are all,
        when the index is to be made `afresh`.
        """
        on_disk = packs_on_disk(self._directory.root)
        names = {segment.name for segment in self.segments}
        paths = sorted((self._directory.root / "index").glob("*.idx"), key=lambda path: path.name)
        try:
            small = sum(path.stat().st_size for path in paths) <= _CHECK_BYTES_MAX
            for path in paths:
                if afresh:
                    self._bad_segments.append(f"index/{path.name}")
                elif f"index/{path.name}" not in names:
                    self._try_segment(path, on_disk, check=check or small)
        except FileNotFoundError:
            # A writing process merged segments meanwhile; what is in none that is left is read from the
            # packs.
            pass
        known = {row.pack_id for row in self.packs.values()}
        for pack_id in self._newest_first(sorted(on_disk.keys() - known)):
            pack = self._pack(pack_id)
            if pack is not None:
                self._add_pack(pack)
            if afresh and self.wants_flush:
                self.flush()

    def _newest_first(self, pack_ids: list[bytes]) -> list[bytes]:
        """Packs in the order to read them: of several copies of a chunk the newest is to be found."""
        order = []
        for pack_id in pack_ids:
            try:
                header = PackFile(self._directory.root, pack_id, self._keyring).header
                order.append((header.created, pack_id))
                self._domains.add(header.domain)
            except Damaged as error:
                self.damages.append(error)
                order.append((0, pack_id))
        return [pack_id for _, pack_id in sorted(order, reverse=True)]

    def _pack(self, pack_id: bytes) -> PackFile | None:
        root = self._directory.root
        try:
            return PackFile(root, pack_id, self._keyring)
        except Damaged:
            domains = self._domains | {row.domain for row in self.packs.values()}
            return guess_pack(root, pack_id, self._keyring, domains)

    def refresh(self) -> None:
        """Take in what another process has written since. Only for storages opened for reading."""
        with self._lock:
            self.load(check=False)

    def _try_segment(self, path: Path, on_disk: dict[bytes, int], *, check: bool) -> None:
        try:
            self._add_segment(path, on_disk, check=check)
        except Damaged as error:
            self.damages.append(error)
            self._bad_segments.append(f"index/{path.name}")

    def remove_bad_segments(self) -> None:
        """Remove segments that did not hold, once a new one names their packs."""
        for name in self._bad_segments:
            if name not in {segment.name for segment in self.segments}:
                self._directory.remove(name)
        self._bad_segments.clear()

    def _add_segment(self, path: Path, on_disk: dict[bytes, int], *, check: bool) -> None:
        name = f"index/{path.name}"
        header, packs = read_segment(path, self._keyring, check=check)
        numbers = array("I", [self._pack_number(row, on_disk) for row in packs])
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            handle = self.native.segment_add(fd, header.entries_offset, header.entry_count, numbers)
        finally:
            os.close(fd)
        self.segments.append(Segment(name, _segment_number(path), handle, header, tuple(packs)))

    def _pack_number(self, row: PackRow, on_disk: dict[bytes, int]) -> int:
        # A pack that is not as long as it was is read again record by record: what it lost counts as
        # missing, so that the next backup stores it again.
        if on_disk.get(row.pack_id) != row.file_bytes:
            self.has_gaps = True
            return NO_PACK
        number = self.native.pack_add(row.pack_id, row.domain, row.epoch)
        self.packs[number] = row
        return number

    def _add_pack(self, pack: PackFile) -> None:
        """Take the chunks of a pack that no segment names into the table; what can be saved of a damaged
        one."""
        try:
            rows = pack.rows()
        except Damaged as error:
            self.damages.append(error)
            rows = pack.whole_rows()
        number = self.native.pack_add(pack.pack_id, pack.header.domain, pack.header.epoch)
        ids, places = bytearray(), bytearray()
        for chunk_id, offset, stored, plain, *_ in pack_format.ROW.iter_unpack(rows):
            ids += chunk_id
            places += array("I", [number, offset, stored, plain]).tobytes()
        self.native.insert(ids, places)
        count = len(rows) // pack_format.ROW_BYTES
        row = PackRow(pack.pack_id, pack.header.domain, pack.header.epoch, count, pack.file_bytes)
        self._note(number, row)

    def _note(self, number: int, row: PackRow) -> None:
        with self._rows_lock:
            self.packs[number] = self._unindexed[number] = row
            self._unindexed_chunks += row.chunk_count

    def _forget_unindexed(self, number: int) -> None:
        if gone := self._unindexed.pop(number, None):
            self._unindexed_chunks -= gone.chunk_count

    def pack_sealed(self, pack: SealedPack) -> None:
        """A pack that this process wrote is durable: the next segment names it."""
        row = PackRow(pack.pack_id, pack.domain, pack.epoch, pack.chunk_count, pack.file_bytes)
        self._note(pack.number, row)

    # ---- writing ----

    @property
    def wants_flush(self) -> bool:
        """True when enough is in memory to be written without waiting for a commit."""
        return self._unindexed_chunks >= _UNINDEXED_CHUNKS_MAX

    def flush(self) -> None:
        """Write a segment that names every sealed pack; durable on return."""
        with self._lock:
            with self._rows_lock:
                rows = dict(self._unindexed)
            if rows:
                self._write_segment(rows, [], from_table=True)
                with self._rows_lock:
                    for number in rows:
                        self._forget_unindexed(number)

    def merge(self) -> None:
        """Write segments together until there are few enough."""
        with self._lock:
            while len(self.segments) > SEGMENTS_MAX:
                by_size = sorted(self.segments, key=lambda segment: segment.header.entry_count)
                self._rewrite(by_size[: self._merge_count(by_size)])

    @staticmethod
    def _merge_count(by_size: list[Segment]) -> int:
        """How many of the smallest to merge: each one no larger than 4 times what is merged before it."""
        total = by_size[0].header.entry_count
        count = 1
        for segment in by_size[1:]:
            if count >= 2 and segment.header.entry_count > 4 * total:
                break
            total += segment.header.entry_count
            count += 1
        return count

    def rewrite(self, segments: list[Segment]) -> None:
        """Write these segments together without what retired packs held."""
        with self._lock:
            # A commit may have merged one of them meanwhile.
            self._rewrite([segment for segment in segments if segment in self.segments])

    def _rewrite(self, old: list[Segment]) -> None:
        numbers = {}
        for segment in old:
            for row in segment.packs:
                number = self.native.pack_find(row.pack_id)
                if number is not None and self.native.pack_id(number) is not None:
                    numbers[number] = row
        if numbers:
            self._write_segment(numbers, old, from_table=False)
        for segment in old:
            self._directory.remove(segment.name)
            self.segments.remove(segment)
            self.native.segment_drop(segment.handle)

    def _write_segment(self, rows: dict[int, PackRow], old: list[Segment], *, from_table: bool) -> None:
        """Write and use a segment of what these packs hold, out of old segments or the table."""
        translate = array("I", [NO_PACK]) * self.native.pack_count
        for position, pack in enumerate(rows):
            translate[pack] = position
        number = max((segment.number for segment in self.segments), default=0) + 1
        partial, name = f"tmp/{number:016x}.idx", f"index/{number:016x}.idx"
        self._directory.remove(partial)
        with self._directory.clearing(partial):
            fd = self._directory.create(partial)
            try:
                header = self._fill_segment(fd, partial, list(rows.values()), old, (from_table, translate))
                self._directory.rename(partial, name)
                self._directory.sync_directory("index")
                handle = self.native.segment_add(
                    fd, header.entries_offset, header.entry_count, array("I", rows)
                )
            finally:
                os.close(fd)
        self.segments.append(Segment(name, number, handle, header, tuple(rows.values())))
        if from_table:
            flags = bytearray(len(translate))
            for pack in rows:
                flags[pack] = 1
            self.native.table_drop(flags)

    def _fill_segment(
        self,
        fd: int,
        name: str,
        packs: list[PackRow],
        old: list[Segment],
        choice: "tuple[bool, array[int]]",
    ) -> SegmentHeader:
        from_table, translate = choice
        offset = index_format.HEADER_BYTES + len(packs) * index_format.PACK_ROW_BYTES
        handles = [segment.handle for segment in old]
        with self._directory.step("write", name):
            entries = self.native.write(
                handles, from_table=from_table, translate=translate, fd=fd, offset=offset
            )
        head = index_format.encode_head(packs, entries, self._keyring.storage_id)
        self._directory.write(fd, head, 0, name)
        end = offset + entries * index_format.ENTRY_BYTES
        self._directory.write(fd, _mac(fd, end, self._keyring), end, name)
        self._directory.sync(fd, name)
        return SegmentHeader(len(packs), entries, self._keyring.storage_id)

    def retire(self, number: int, ids: bytes) -> bool:
        """Stop using a pack, unless one of `ids` was claimed in it meanwhile."""
        with self._lock:
            if not self.native.pack_retire(number, ids):
                return False
            with self._rows_lock:
                self.packs.pop(number, None)
                self._forget_unindexed(number)
            return True

    def pack_lost(self, number: int) -> None:
        """A pack's file is gone: its chunks are missing from now on."""
        if self.retire(number, b""):
            self.has_gaps = True

    def pack_rows(self) -> dict[int, PackRow]:
        """All packs in use, by number."""
        with self._rows_lock:
            return dict(self.packs)

    def close(self) -> None:
        """Let go of the native index; open readers keep it."""
        self.native.close()


def read_segment(path: Path, keyring: Keyring, *, check: bool) -> tuple[SegmentHeader, list[PackRow]]:
    """Header and packs of a segment file. Raises Damaged; with `check` the MAC over all of it too."""
    what = f"index segment {path.name}"
    with path.open("rb") as file:
        file_bytes = os.fstat(file.fileno()).st_size
        header = index_format.decode_header(file.read(index_format.HEADER_BYTES), file_bytes, what)
        if header.storage_id != keyring.storage_id:
            raise Damaged(what=what, reason="it belongs to another storage")
        data = file.read(header.pack_count * index_format.PACK_ROW_BYTES)
        packs = index_format.decode_pack_rows(data, header, what)
        if check:
            end = header.file_bytes - index_format.MAC_BYTES
            mac = os.pread(file.fileno(), index_format.MAC_BYTES, end)
            if not hmac.compare_digest(mac, _mac(file.fileno(), end, keyring)):
                raise Damaged(what=what, reason="its MAC does not hold")
    return header, packs


@contextmanager
def _mapped(fd: int, length_bytes: int) -> Iterator[memoryview]:
    with mmap.mmap(fd, length_bytes, mmap.MAP_SHARED, mmap.PROT_READ) as view:
        whole = memoryview(view)
        try:
            yield whole
        finally:
            whole.release()


def _mac(fd: int, end: int, keyring: Keyring) -> bytes:
    with _mapped(fd, end) as view:
        return blake3.keyed(keyring.record_key, view)


def _segment_number(path: Path) -> int:
    try:
        return int(path.stem, 16)
    except ValueError as error:
        raise Damaged(what=f"index segment {path.name}", reason="its name is no number") from error
