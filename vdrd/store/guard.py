"""What guards points: their locks, and the time by which these end. Knows nothing of what points hold.

A lock stands twice, in a record beside the point and in `guard.bin`; what either says counts, so that neither
damage nor removing one of them frees a point. Order: the record, then the guard file.
"""

import logging
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from vdrd.formats import lock as lock_format
from vdrd.formats.lock import Guard
from vdrd.model.errors import Damaged, GuardDamaged, NotFound, PointLocked, VdrError
from vdrd.model.locks import PointLock
from vdrd.model.storage_time import ClockReading, StorageTime, TimeMark, mark_at, storage_time
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring

log = logging.getLogger(__name__)

GUARD_NAME = "guard.bin"
POINT_NAME = re.compile(r"[0-9a-f]{32}")
_MARK_AGE_MAX = timedelta(hours=1)
"""A mark is written again once it is older: often enough for a machine that loses its power."""
BOOT_ID_VARIABLE = "VDR_BOOT_ID"
_BOOT_ID_PATH = Path("/proc/sys/kernel/random/boot_id")
_GUARD_BYTES_MAX = lock_format.HEADER_BYTES + lock_format.LOCKS_MAX * 32 + lock_format.MAC_BYTES

Clocks = Callable[[], ClockReading]


@cache
def _boot() -> bytes:
    try:
        # A service that is not shown the kernel's file is told by its unit.
        text = os.environ.get(BOOT_ID_VARIABLE) or _BOOT_ID_PATH.read_text(encoding="ascii")
        return uuid.UUID(text.strip()).bytes[:8]
    except (OSError, ValueError):
        # Hidden from this process: then each process counts as a start of the machine.
        return os.urandom(8)


def machine_clocks() -> ClockReading:
    """The clocks of this machine."""
    steady_ms = time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000
    return ClockReading(datetime.now(UTC), _boot(), steady_ms)


def lock_name(point_id: str) -> str:
    """Path of a point's lock record below the storage."""
    return f"points/{point_id}.lock"


@dataclass(frozen=True, slots=True)
class LockBook:
    """All locks of a storage, ended ones included, and what is wrong with their records."""

    locks: dict[str, PointLock]
    damages: tuple[Damaged, ...]

    def of(self, point_id: str) -> PointLock:
        """The lock of a point; one that forbids nothing when it has none."""
        return self.locks.get(point_id, PointLock())


class PointGuard:
    """Reads and writes locks and the storage's time. Thread-safe."""

    def __init__(self, directory: StorageDirectory, keyring: Keyring, clocks: Clocks) -> None:
        self._directory = directory
        self._keyring = keyring
        self._clocks = clocks
        self.changing = threading.RLock()
        """Held while locks change and while points are removed, so that neither overtakes the other."""

    # ---- time ----

    def time(self) -> StorageTime:
        """The storage's time now. Raises Damaged when the guard file does not hold."""
        return storage_time(_mark(self._read_guard()), self._clocks())

    def commit_time(self) -> datetime:
        """When a point made now was made: by the wall clock, but never before the storage's time."""
        reading = self._clocks()
        try:
            return max(reading.wall, storage_time(_mark(self._read_guard()), reading).now)
        except Damaged:
            return reading.wall

    def note_time(self) -> None:
        """Write the time down if that was long ago. A storage that cannot be written is no error here: the
        older mark serves."""
        with self.changing:
            try:
                guard = self._read_guard()
                now = storage_time(_mark(guard), self._clocks()).now
                if guard is None or now - guard.mark.time > _MARK_AGE_MAX:
                    self._write_guard(guard.locks if guard else {})
            except VdrError as error:
                log.warning("storage time not noted path=%s reason=%s", self._directory.root, error)

    def accept_clock(self) -> datetime:
        """Take the wall clock for right, whatever it was before, and mend the guard file from the records
        beside the points. Returns the time it is now."""
        with self.changing:
            try:
                guard = self._read_guard()
            except Damaged:
                guard = None
            locks = {} if guard is None else dict(guard.locks)
            for name, lock in self._records()[0].items():
                if not lock.damage:
                    locks[name] = lock.joined(locks.get(name, PointLock()))
            reading = self._clocks()
            self._write(Guard(mark_at(reading.wall, reading), locks))
            return reading.wall

    # ---- locks ----

    def locks(self) -> LockBook:
        """Every lock. Raises Damaged when the guard file does not hold: then nothing may be removed."""
        guard = self._read_guard()
        listed = {} if guard is None else guard.locks
        found, damages = self._records()
        locks = {}
        for name in found.keys() | listed.keys():
            record, row = found.get(name), listed.get(name)
            if record is None and row is not None and self._is_point(name):
                damages.append(Damaged(what=f"lock record of point {name}", reason="it is missing"))
            if record is not None and record.damage and row is not None:
                record = None  # the guard file still knows what it said
            locks[name] = (record or PointLock()).joined(row or PointLock())
        return LockBook(locks, tuple(damages))

    def _is_point(self, point_id: str) -> bool:
        return self._directory.path(f"points/{point_id}.point").exists()

    def extend(self, point_id: str, until: datetime) -> PointLock:
        """Lock a point until then; durable on return. Raises BadInput, LockShortened, Damaged."""
        with self.changing:
            now = self.time().now
            before = self.locks().of(point_id)
            return self._put(point_id, before.extended(until, now))

    def put_hold(self, point_id: str, is_held: bool) -> PointLock:
        """Put a point under legal hold, or release it; durable on return. Raises Damaged."""
        with self.changing:
            return self._put(point_id, replace(self.locks().of(point_id), is_held=is_held, damage=""))

    def _put(self, point_id: str, lock: PointLock) -> PointLock:
        if not self._is_point(point_id):
            raise NotFound(what="point", name=point_id)
        keyring = self._keyring
        record = lock_format.encode_lock(point_id, lock, keyring.storage_id, keyring.record_key)
        self._directory.write_file(lock_name(point_id), record)
        guard = self._read_guard()
        self._write_guard({**(guard.locks if guard else {}), point_id: lock})
        return lock

    def check_removable(self, point_ids: Iterable[str]) -> None:
        """Raise PointLocked if one of these points must stay, Damaged when that cannot be told."""
        book = self.locks()
        now = self.time().now
        for point_id in point_ids:
            lock = book.of(point_id)
            if lock.is_in_force(now):
                raise PointLocked(point=point_id, reason=lock.text)

    def forget(self, point_ids: Iterable[str]) -> None:
        """Drop the locks of points that were removed."""
        gone = set(point_ids)
        with self.changing:
            guard = self._read_guard()
            listed = {} if guard is None else guard.locks
            ended = [name for name in sorted(gone) if name in listed or self._has_record(name)]
            for name in ended:
                self._directory.remove(lock_name(name))
            if ended:
                self._write_guard({name: lock for name, lock in listed.items() if name not in gone})

    def _has_record(self, point_id: str) -> bool:
        return self._directory.path(lock_name(point_id)).exists()

    def names_in_force(self) -> list[str]:
        """Ids of the points that must stay."""
        now = self.time().now
        return sorted(name for name, lock in self.locks().locks.items() if lock.is_in_force(now))

    # ---- files ----

    def _records(self) -> tuple[dict[str, PointLock], list[Damaged]]:
        found: dict[str, PointLock] = {}
        damages: list[Damaged] = []
        keyring = self._keyring
        for path in sorted((self._directory.root / "points").glob("*.lock")):
            name = path.stem
            if not POINT_NAME.fullmatch(name):
                continue
            try:
                data = _read(path, f"lock record of point {name}", lock_format.LOCK_BYTES)
                if data is not None:
                    found[name] = lock_format.decode_lock(data, name, keyring.storage_id, keyring.record_key)
            except Damaged as error:
                damages.append(error)
                found[name] = PointLock(damage=str(error))
        return found, damages

    def _read_guard(self) -> Guard | None:
        data = _read(self._directory.path(GUARD_NAME), lock_format.GUARD_WHAT, _GUARD_BYTES_MAX)
        if data is None:
            return None
        try:
            return lock_format.decode_guard(data, self._keyring.storage_id, self._keyring.record_key)
        except Damaged as error:
            raise GuardDamaged(**error.fields) from error

    def _write_guard(self, locks: Mapping[str, PointLock]) -> None:
        """With the time as it is now."""
        reading = self._clocks()
        now = storage_time(_mark(self._read_guard()), reading).now
        self._write(Guard(mark_at(now, reading), locks))

    def _write(self, guard: Guard) -> None:
        data = lock_format.encode_guard(guard, self._keyring.storage_id, self._keyring.record_key)
        self._directory.write_file(GUARD_NAME, data)


def _mark(guard: Guard | None) -> TimeMark | None:
    return None if guard is None else guard.mark


def _read(path: Path, what: str, bytes_max: int) -> bytes | None:
    try:
        with path.open("rb") as file:
            return file.read(bytes_max + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise Damaged(what=what, reason=(error.strerror or "error").lower()) from error
