"""A storage, open: the one object that other packages hold."""

import logging
import os
import shutil
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from native.reader import Reader
from vdrd.formats import slots as slot_format
from vdrd.formats import storage as header_format
from vdrd.formats.keys import DomainKeys, RootKeys
from vdrd.formats.live import LiveCounts, decode_live, is_outdated
from vdrd.formats.point import public_key_of
from vdrd.model.errors import (
    BadInput,
    Damaged,
    KeyMissing,
    StorageFull,
    StorageUnwritable,
    TargetRefused,
    VdrError,
)
from vdrd.model.locks import PointLock
from vdrd.model.points import DOMAIN_MAX, Point, PointDraft
from vdrd.model.progress import Cancel, ProgressSink
from vdrd.model.rate import RateLimit
from vdrd.model.retention import RetentionPolicy
from vdrd.model.storage import (
    COMPRESSION_LEVELS,
    DEFAULT_COMPRESSION,
    Encryption,
    KeyMaterial,
    StorageInfo,
    StorageStatistics,
)
from vdrd.store import retain
from vdrd.store.census import Census, CensusTaker
from vdrd.store.collect import LIVE_NAME, Collection, CollectReport
from vdrd.store.damage import DamageBook
from vdrd.store.directory import StorageDirectory
from vdrd.store.guard import Clocks, PointGuard, machine_clocks
from vdrd.store.index import ChunkIndex
from vdrd.store.keyring import Keyring
from vdrd.store.lacking import lacking_below
from vdrd.store.locks import StorageLock
from vdrd.store.pack_file import rescue_partials
from vdrd.store.packs import PackPool
from vdrd.store.points import PointBook
from vdrd.store.reader import CACHE_BYTES, ChunkReader
from vdrd.store.recount import recount
from vdrd.store.retain import RetainReport
from vdrd.store.salvage import drop_mended, mend_frames
from vdrd.store.session import WriteSession
from vdrd.store.slots import KeySlots, Rotation, slot_name
from vdrd.store.verify import Verification, VerifyReport, VerifyScope

log = logging.getLogger(__name__)

_LOOK_AGAIN_SECONDS = 0.25
_FOLDERS = ("keys", "packs", "tmp", "index", "points")


class Storage:
    """Context manager; thread-safe; synchronous (Trio callers go through a thread)."""

    def __init__(
        self,
        directory: StorageDirectory,
        info: StorageInfo,
        keyring: Keyring,
        lock: StorageLock,
        *,
        writable: bool,
        cache_bytes: int = CACHE_BYTES,
        clocks: Clocks = machine_clocks,
        reindex: bool = False,
    ) -> None:
        self.directory = directory
        self.path = directory.root
        self.info = info
        self.keyring = keyring
        self.is_writable = writable
        self._lock = lock
        self._sessions: set[WriteSession] = set()
        self._sessions_lock = threading.Lock()
        self._commit_lock = threading.Lock()
        self._walk_lock = threading.Lock()
        self._is_collecting = False
        self._held: list[Point] = []
        self.guard = PointGuard(directory, keyring, clocks)
        self.book = PointBook(directory, keyring, self.guard.commit_time, writable=writable)
        self.index = ChunkIndex(directory, keyring)
        self._pool: PackPool | None = None
        if writable:
            rescue_partials(directory, keyring)
        self.index.load(check=writable, afresh=reindex)
        self.damage = DamageBook(directory, keyring, self.index.native, is_writable=writable)
        self.index.damages += self.damage.refresh()
        if writable:
            # On a full disk the tables of the packs serve. It must not keep anybody from removing points.
            with suppress(StorageFull):
                self.index.flush()
                self.index.remove_bad_segments()
                self.index.merge()
            # What was found in packs no segment names counts as put just now; no session has begun yet.
            self.index.native.touch_clear()
            self._pool = PackPool(directory, self.index.native, keyring, self.index.pack_sealed)
        self._cache_bytes = cache_bytes
        self._readers: dict[int, ChunkReader] = {}
        self._readers_lock = threading.Lock()
        self._domains: set[int] = set()  # whose keys `reader` has
        self.reader = ChunkReader(
            self.index,
            self._native_reader(),
            is_alone=self.is_writable,
            settle=self._settle,
            on_refresh=self._learn_domains,
        )
        self._learn_domains()

    @property
    def overlay_keys(self) -> Keyring | None:
        """What overlays over its disks are encrypted with; None when the storage is not encrypted."""
        return None if self.info.encryption is Encryption.NONE else self.keyring

    def reader_of(self, domain: int) -> ChunkReader:
        """Reads chunks of one key domain and of no other: it has no other's keys. Closed with the storage.

        What a point names is read through this, so that nobody reaches another tenant's chunks by naming
        them. `reader` has all keys and is for upkeep.
        """
        with self._readers_lock:
            if domain not in self._readers:
                native = self._native_reader()
                self._give_keys(native, domain)
                self._readers[domain] = ChunkReader(
                    self.index, native, is_alone=self.is_writable, settle=self._settle, is_confined=True
                )
            return self._readers[domain]

    def _native_reader(self) -> Reader:
        packs = self.path / "packs"
        fd = os.open(packs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return Reader(self.index.native, fd, self.keyring.algorithm, self._cache_bytes)
        finally:
            os.close(fd)

    def _give_keys(self, native: Reader, domain: int) -> None:
        for epoch in range(self.keyring.epoch_count):
            _give_epoch(native, self.keyring.domain(domain, epoch))

    def _learn_domains(self, *more: int) -> None:
        """Let `reader` read the packs that the index knows, and those of these domains."""
        with self._readers_lock:
            for domain in {row.domain for row in self.index.pack_rows().values()}.union(more) - self._domains:
                self._give_keys(self.reader.native, domain)
                self._domains.add(domain)

    def _settle(self, pack: int | None) -> bool:
        return self._pool is not None and pack is not None and self._pool.settle(pack)

    # ---- making and opening ----

    @classmethod
    def create(
        cls,
        path: Path,
        *,
        encryption: Encryption,
        compression: int | None = DEFAULT_COMPRESSION,
        key: KeyMaterial | None = None,
    ) -> None:
        """Make a storage in a directory that is missing or empty.

        Raises TargetRefused when something is there, KeyMissing when encryption lacks a key, BadInput for a
        compression level that does not exist. A failure leaves nothing that opens as a storage.
        """
        if compression is not None and compression not in COMPRESSION_LEVELS:
            raise BadInput(what=f"compression must be 1 to 4 or none, not {compression}")
        if encryption is not Encryption.NONE and key is None:
            raise KeyMissing(path=path)
        directory = StorageDirectory(path)
        parents = _make_empty(path)
        now = datetime.now(UTC).replace(microsecond=0)
        info = StorageInfo(os.urandom(16).hex(), now, encryption, compression, header_format.BLOCK_BYTES)
        roots = RootKeys.generate()
        material = None if encryption is Encryption.NONE else key
        slot = slot_format.encode_slot(
            slot_format.new_slot(roots, bytes.fromhex(info.storage_id), material, created=now)
        )
        signing_key = public_key_of(roots.signing_seed())
        header = header_format.encode_header(info, (signing_key,), roots.record_key())
        try:
            _fill(directory, slot, header)
            for parent in parents:
                StorageDirectory(parent).sync_directory(".")
        except BaseException:
            _make_empty_again(path)
            raise

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        key: KeyMaterial | None = None,
        writable: bool = False,
        directory: StorageDirectory | None = None,
        cache_bytes: int = CACHE_BYTES,
        clocks: Clocks = machine_clocks,
        reindex: bool = False,
    ) -> "Storage":
        """Open a storage; writable takes its lock and clears up after a writer that died. `cache_bytes`
        bounds the blocks that `reader` keeps; `clocks` tells the time by which locks end; `reindex`, for a
        writer, believes no index and makes it again from the packs.

        Raises StorageNotFound, StorageNewer, KeyMissing, WrongKey, StorageLocked, Damaged.
        """
        place = directory or StorageDirectory(path)
        slots = KeySlots(place)
        unlocked = slots.unlock(key)
        lock = StorageLock(path, writable=writable)
        try:
            if writable:
                # Again, now that nobody else can rotate the key.
                unlocked = slots.settle(key)
            keyring = Keyring(unlocked.header, unlocked.roots)
            return cls(
                place,
                unlocked.header.info,
                keyring,
                lock,
                writable=writable,
                cache_bytes=cache_bytes,
                clocks=clocks,
                reindex=reindex,
            )
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Abort open sessions, make durable what was put, release the locks. Calling it again does
        nothing."""
        for session in list(self._sessions):
            session.abort()
        self.damage.save_if_possible()
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        for reader in (self.reader, *self._readers.values()):
            reader.close()
        self.index.close()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # ---- points ----

    def points(self, object_name: str | None = None) -> list[Point]:
        """Points of an object, or all, oldest first. Damaged ones are left out: see `damaged_points`."""
        return self.book.list(object_name)[0]

    def damages_at_open(self) -> list[Damaged]:
        """What was found not to hold when the storage was opened: index segments and packs. For the log."""
        return list(self.index.damages)

    def damaged_points(self) -> list[Damaged]:
        """Why points that are there cannot be read."""
        return self.book.list()[1]

    def damaged_after(self, point: Point) -> list[Damaged]:
        """Why newer points cannot be read: where OBJECT@latest was asked for, one of them may be it."""
        return list(self.book.damaged_after(point.point_id))

    def point(self, reference: str) -> Point:
        """A point by its id, a unique prefix of it, or OBJECT@latest. Raises NotFound, Damaged."""
        return self.book.read(self.book.resolve(reference))

    @property
    def is_doubtful(self) -> bool:
        """Something is known to be lost or damaged, needed or not."""
        return self.index.has_gaps or bool(self.index.native.damages())

    def damaged_chunks(self) -> int:
        """How many chunks were found damaged and stand whole nowhere."""
        ids = b"".join({mark.chunk_id for mark in self.damage.marks() if mark.offset})
        return sum(self.index.native.lacking(ids))

    def lacking(self, point: Point) -> frozenset[bytes]:
        """Ids of the chunks below a point that no pack holds whole. Costs nothing while nothing is doubtful.

        A backup that compares with the point must look into what needs them, unchanged or not.
        """
        if not self.is_doubtful:
            return frozenset()
        return lacking_below(point, self.index.native, self.reader_of(point.draft.domain))

    # ---- writing ----

    @property
    def pool(self) -> PackPool:
        """Open packs. Raises StorageUnwritable when opened for reading."""
        if self._pool is None:
            raise StorageUnwritable(path=self.path, reason="it is not open for writing")
        return self._pool

    def _check_writable(self) -> None:
        _ = self.pool

    def session(self, *, check: bool = True, domain: int = 0, proves: bool = False) -> WriteSession:
        """Begin a backup into a key domain. `check` verifies every chunk that is put against its id: leave it
        out only where the same process has just computed both. `proves` reads every chunk that is there
        already before it counts as there: for full runs.

        Raises StorageUnwritable when opened for reading, BadInput for a domain that cannot be.
        """
        if not 0 <= domain <= DOMAIN_MAX:
            raise BadInput(what=f"a key domain is a number up to {DOMAIN_MAX}, not {domain}")
        self._learn_domains(domain)
        self.damage.refresh()
        session = WriteSession(self, domain=domain, check=check, proves=proves, on_end=self._session_ended)
        with self._sessions_lock:
            self._sessions.add(session)
        return session

    def _session_ended(self, session: WriteSession) -> None:
        with self._sessions_lock:
            self._sessions.discard(session)
            self._clear_touches()

    def _clear_touches(self) -> None:
        # A running collection counts as a session: the point of one that ends meanwhile may be newer than
        # its marks.
        if not self._sessions and not self._is_collecting:
            self.index.native.touch_clear()

    def recount(self, *, progress: ProgressSink = lambda _: None, cancel: Cancel | None = None) -> int | None:
        """Count anew how much of each pack points reach; returns the live bytes. None, and the old counts are
        dropped, when a point or a node cannot be read: what it needs is unknown."""
        self._check_writable()
        asked = cancel or Cancel()
        with self._walking(asked):
            return recount(self, progress=progress, cancel=asked)

    def settle(self) -> None:
        """Make durable what was put, without a point: for chunks that mend points that are there."""
        with self._commit_lock:
            self.pool.flush(since=self.pool.failure_count)
            self.index.flush()
            self.damage.save()

    def commit(self, draft: PointDraft, *, failures_before: int) -> Point:
        """For sessions: everything put so far durable, then the index, then the point.

        Raises what lost a pack since the session began: its chunks may have stood there.
        """
        with self._commit_lock:
            self.damage.save()
            self.pool.flush(since=failures_before)
            self.index.flush()
            point = self.book.write(draft)
            # The point is there: nothing that fails from here on may make it a failed backup.
            self._tidy_after_commit()
            self.guard.note_time()
            return point

    def _tidy_after_commit(self) -> None:
        # A walk that runs may be a collection, which removes packs that are being mended: the next commit
        # will do it.
        if self._walk_lock.acquire(blocking=False):
            try:
                mend_frames(self)
            except (OSError, VdrError) as error:
                log.warning("damaged packs not mended path=%s reason=%s", self.path, error)
            finally:
                self._walk_lock.release()
        try:
            self.index.merge()
        except (OSError, VdrError) as error:
            log.warning("index not merged path=%s reason=%s", self.path, error)

    def mend_frames(self, *, cancel: Cancel | None = None) -> int:
        """Write again what stands in packs with a damaged frame; returns the bytes written. Durable on
        return."""
        self._check_writable()
        with self._walking(cancel or Cancel()):
            return mend_frames(self)

    def drop_mended(self, *, cancel: Cancel | None = None) -> int:
        """Remove packs with damage of which everything that is read stands whole elsewhere; returns how
        many."""
        self._check_writable()
        with self._walking(cancel or Cancel()):
            return drop_mended(self)

    # ---- upkeep ----

    def rotate_key(
        self, materials: Sequence[KeyMaterial], *, drop: Iterable[str] = (), renew_recovery: bool = False
    ) -> Rotation:
        """Seal what is written from now on under a new root key; see `KeySlots.rotate`. Beside open sessions
        and readers of this process; those of others must open the storage again to read newer points."""
        self._check_writable()
        with self._commit_lock, self._readers_lock:
            rotation = KeySlots(self.directory).rotate(materials, drop=drop, renew_recovery=renew_recovery)
            roots = rotation.unlocked.roots
            # Readers first: a chunk can be asked for as soon as it is in a pack.
            for domain in self._domains:
                _give_epoch(self.reader.native, roots.domain(domain))
            for domain, reader in self._readers.items():
                _give_epoch(reader.native, roots.domain(domain))
            self.keyring.adopt(roots)
        return rotation

    def verify(
        self,
        points: Iterable[str] | None = None,
        *,
        read_data: bool = False,
        resume: bool = False,
        sample: float | None = None,
        progress: ProgressSink = lambda _: None,
        cancel: Cancel | None = None,
    ) -> VerifyReport:
        """Check points (references as for `point`), or with None everything: structure, or with `read_data`
        every byte; `resume` and `sample` as in VerifyScope. Damage is reported, not raised."""
        names = None if points is None else [self.book.resolve(reference) for reference in points]
        scope = VerifyScope(read_data=read_data or sample is not None, resume=resume, sample=sample)
        asked = cancel or Cancel()
        with self._walking(asked):
            return Verification(self, progress=progress, cancel=asked).run(names, scope)

    def forget(self, points: Iterable[str]) -> list[str]:
        """Remove points (damaged ones too); their space is freed by the next collection. Returns their ids.

        Raises, with nothing removed, NotFound if one of the references means none, PointLocked if one must
        stay, Damaged when that cannot be told.
        """
        self._check_writable()
        names = list(dict.fromkeys(self.book.resolve(reference) for reference in points))
        with self.guard.changing:
            self.guard.check_removable(names)
            self._remove(names)
        return names

    def _remove(self, names: list[str]) -> None:
        if names:
            self.book.remove(names)
            self.guard.forget(names)

    def retain(
        self,
        object_name: str,
        policy: RetentionPolicy,
        *,
        dry_run: bool = False,
        not_after: datetime | None = None,
        keep: Iterable[str] = (),
        broken: Iterable[str] = (),
    ) -> RetainReport:
        """Remove what a policy lets go of an object's points. Locked ones stay; so do damaged ones, and those
        in `keep`. `broken` are known not to be whole: the newest whole point always stays.

        `not_after`: what another clock says; the earlier of it and the storage's time counts. Raises Damaged
        when the locks cannot be read.
        """
        self._check_writable()
        with self.guard.changing:
            time = self.guard.time()
            now = time.now if not_after is None else min(time.now, not_after)
            points = self.points(object_name)
            report, locks, kept = retain.RetainReport(now), self.guard.locks(), set(keep)
            # Two tenants may call an object the same: neither's points count for the other's.
            for domain in sorted({point.draft.domain for point in points}):
                own = [point for point in points if point.draft.domain == domain]
                report.add(retain.decide(own, locks, policy, now, kept=kept, broken=set(broken)))
            report.is_clock_doubtful = time.is_doubtful
            if not dry_run:
                self._remove(report.removed)
                self.guard.note_time()
        return report

    # ---- locks ----

    def lock(self, reference: str, until: datetime) -> PointLock:
        """Keep a point from being removed until then, by the storage's time. Durable on return.

        Raises NotFound, BadInput for a time that has passed, LockShortened.
        """
        self._check_writable()
        return self.guard.extend(self.book.resolve(reference), until)

    def put_hold(self, reference: str, is_held: bool) -> PointLock:
        """Put a point under legal hold, or release it. Durable on return. Raises NotFound."""
        self._check_writable()
        return self.guard.put_hold(self.book.resolve(reference), is_held)

    def accept_clock(self) -> datetime:
        """Take the machine's clock for right, after it was set or after a long rest. Returns the time."""
        self._check_writable()
        return self.guard.accept_clock()

    # ---- space ----

    def collect(
        self,
        *,
        rate: RateLimit | None = None,
        progress: ProgressSink = lambda _: None,
        cancel: Cancel | None = None,
    ) -> CollectReport:
        """Free the space of chunks that no point reaches. Safe beside sessions and readers of this process;
        `rate` bounds the bytes read and written a second. What was done when it is cancelled stays done.

        Raises Damaged, with nothing removed, when a point cannot be read: forget it first.
        """
        self._check_writable()
        asked = cancel or Cancel()
        with self._walking(asked):
            with self._sessions_lock:
                self._is_collecting = True
            try:
                return Collection(self, rate=rate or RateLimit(), progress=progress, cancel=asked).run()
            finally:
                with self._sessions_lock:
                    self._is_collecting = False
                    self._clear_touches()

    @contextmanager
    def _walking(self, cancel: Cancel) -> Iterator[None]:
        """One walk at a time: they share the marks of the index."""
        while not self._walk_lock.acquire(timeout=_LOOK_AGAIN_SECONDS):
            cancel.check()
        try:
            yield
        finally:
            self._walk_lock.release()

    def census(
        self,
        object_name: str | None = None,
        *,
        progress: ProgressSink = lambda _: None,
        cancel: Cancel | None = None,
    ) -> Census:
        """Exact figures of space, by a walk over every point; for one object, those of each of its points
        too."""
        asked = cancel or Cancel()
        with self._walking(asked):
            if not self.is_writable:
                self.index.refresh()
            return CensusTaker(self, progress=progress, cancel=asked).take(object_name)

    def wants_collection(self) -> bool:
        """True when points went since the last collection, or packs could not go then: something may be free.
        Costs a listing of the points, no walk."""
        try:
            counts = self.live_counts()
        except Damaged:
            return True
        return counts is None or counts.deferred_packs > 0 or not counts.points <= set(self.book.names())

    @contextmanager
    def hold(self, point: Point) -> Iterator[None]:
        """Keep a point's chunks from collection while they are read, even if it is forgotten meanwhile.

        Raises NotFound when it is gone already.
        """
        with self._sessions_lock:
            self._held.append(point)
        try:
            # Looked at after it is held: a collection that did not see it held has seen its file.
            self.book.read(point.point_id, afresh=True)
            yield
        finally:
            with self._sessions_lock:
                self._held.remove(point)

    def held_points(self) -> list[Point]:
        """Points under `hold`."""
        with self._sessions_lock:
            return list(self._held)

    def no_readers(self) -> AbstractContextManager[bool]:
        """For collection: keep other reading processes out for a moment; yields whether there are none."""
        return self._lock.no_readers()

    def live_counts(self) -> LiveCounts | None:
        """What the last collection counted, None when there was none. Raises Damaged."""
        try:
            data = (self.path / LIVE_NAME).read_bytes()
        except FileNotFoundError:
            return None
        if is_outdated(data):
            return None
        return decode_live(data, self.keyring.storage_id, self.keyring.record_key)

    def _live_bytes(self) -> int | None:
        try:
            counts = self.live_counts()
        except Damaged:
            return None
        if counts is None or counts.points != set(self.book.names()):
            return None
        rows = self.index.pack_rows().values()
        return sum(counts.packs.get(row.pack_id, (row.file_bytes, 0))[0] for row in rows)

    def statistics(self) -> StorageStatistics:
        """Figures that cost no walk."""
        packs = self.index.pack_rows().values()
        return StorageStatistics(
            point_count=len(self.book.names()),
            pack_count=len(packs),
            chunk_count=sum(row.chunk_count for row in packs),
            stored_bytes=sum(row.file_bytes for row in packs),
            live_bytes=self._live_bytes(),
            session_count=len(self._sessions),
            index_segments=len(self.index.segments),
            index_entries=self.index.native.segment_entries,
            table_entries=self.index.native.table_count,
        )


def _give_epoch(native: Reader, keys: DomainKeys) -> None:
    native.keys_add(keys.domain, keys.epoch, keys.id_key_table, keys.pack_root)


def _fill(directory: StorageDirectory, slot: bytes, header: bytes) -> None:
    for folder in _FOLDERS:
        directory.make_directory(folder)
    for number in range(256):
        directory.make_directory(f"packs/{number:02x}")
    for name in ("lock", "lock.read"):
        os.close(directory.create(name))
    directory.sync_directory("packs")
    directory.write_file(slot_name(os.urandom(4).hex()), slot)
    # Last, and after all else is durable: a directory with storage.json is a whole storage.
    directory.sync_directory(".")
    directory.write_file("storage.json", header)


def _make_empty_again(path: Path) -> None:
    for name in _FOLDERS:
        shutil.rmtree(path / name, ignore_errors=True)
    for name in ("lock", "lock.read", "storage.json"):
        with suppress(OSError):
            (path / name).unlink()


def _make_empty(path: Path) -> list[Path]:
    """Make the directory; returns those that have a new name in them: its parent, and those of parents
    made."""
    missing = [parent for parent in path.absolute().parents if not parent.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise TargetRefused(path=path, reason="the directory is not empty")
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
    return list(path.absolute().parents[: len(missing) + 1])
