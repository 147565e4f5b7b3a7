"""The storages of a node: each opened once per process and shared by all runs.

Blocking and thread-safe; the daemon calls it in threads. Knows no links and no runs.
"""

import logging
import os
import secrets
import threading
from dataclasses import dataclass
from pathlib import Path

from schemas.api.storages import StorageKeyRotated, StorageStatisticsReply
from schemas.api.words import BackupType as BackupTypeWord
from schemas.api.words import Encryption, ObjectKind
from schemas.control import (
    PointLockAnswer,
    PointLockAsk,
    PointRecord,
    PointsRetain,
    PointsRetained,
    StorageAnnounced,
    StorageAnswer,
    StorageAssigned,
    StorageKeyRotate,
    StorageOpen,
)
from vdrd.model import storage as model
from vdrd.model.errors import BadInput, Conflict, Damaged, NotFound, VdrError
from vdrd.model.locks import PointLock
from vdrd.model.points import Point
from vdrd.model.retention import RetentionPolicy
from vdrd.model.storage import KeyMaterial
from vdrd.net.keyfile import write_secret
from vdrd.store.guard import LockBook
from vdrd.store.reader import serving_cache_bytes
from vdrd.store.storage import Storage

log = logging.getLogger(__name__)

KEY_FILE_BYTES_MAX = 64 << 10


@dataclass(slots=True)
class Held:
    """A storage the node was given. `storage` is None while it cannot be opened."""

    storage_id: str
    name: str
    path: Path
    key_file: Path | None
    storage: Storage | None = None
    problem: str = ""


def record_of(point: Point, lock: PointLock | None = None) -> PointRecord:
    """A point as it is announced."""
    lock = lock or PointLock()
    draft = point.draft
    return PointRecord(
        point_id=point.point_id,
        time=point.time,
        started_at=draft.started_at,
        object_name=draft.object_name,
        kind=ObjectKind(draft.kind),
        backup_type=BackupTypeWord(draft.backup_type),
        source=draft.source,
        host_name=draft.host,
        parent_id=draft.parent_id,
        logical_bytes=draft.logical_bytes,
        new_bytes=draft.new_bytes,
        stored_bytes=draft.stored_bytes,
        warning_count=draft.warning_count,
        labels=dict(draft.labels),
        locked_until=lock.until,
        is_held=lock.is_held or bool(lock.damage),
    )


def read_key(path: Path | None) -> KeyMaterial | None:
    """The key in a key file. Raises BadInput if it cannot be read or is empty."""
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            data = file.read(KEY_FILE_BYTES_MAX)
    except OSError as error:
        raise BadInput(what=f"cannot read key file {path}: {(error.strerror or 'error').lower()}") from error
    if not data.strip():
        raise BadInput(what=f"key file {path} is empty")
    return KeyMaterial(data)


def make_key_file(directory: Path, name: str) -> Path:
    """Make a key file of 256 random bits, mode 0600, durable on return."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = directory / f"{name}.key"
    write_secret(path, secrets.token_hex(32).encode() + b"\n")
    return path


class StorageKeeper:
    """All storages of this node by id.

    Two locks: `_changing` is held while storages are opened and closed, which may take long; `_lock` only
    guards the
    table, so `storage` never waits for an open under way and may be called on the event loop.
    """

    def __init__(self, key_directory: Path) -> None:
        self._key_directory = key_directory
        self._changing = threading.Lock()
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}

    def close(self) -> None:
        """Close every storage; nothing may be using them."""
        with self._changing:
            for storage_id in list(self._held):
                self._let_go(storage_id)

    def _all(self) -> list[Held]:
        with self._lock:
            return list(self._held.values())

    def _let_go(self, storage_id: str) -> None:
        with self._lock:
            held = self._held.pop(storage_id, None)
        if held is not None and held.storage is not None:
            held.storage.close()
            log.info("storage closed storage=%s path=%s", storage_id, held.path)

    def assign(self, assigned: list[StorageAssigned]) -> None:
        """Hold what the server says and nothing else. One that cannot be opened is held with its problem."""
        with self._changing:
            wanted = {storage.storage_id: storage for storage in assigned}
            for held in self._all():
                if held.storage_id not in wanted:
                    self._let_go(held.storage_id)
            for storage_id, word in wanted.items():
                new = Held(
                    storage_id, word.name, Path(word.path), Path(word.key_file) if word.key_file else None
                )
                with self._lock:
                    held = self._held.setdefault(storage_id, new)
                self._try_open(held)

    def open_missing(self) -> list[str]:
        """Try again to open what could not be opened (a disk that was not mounted yet).

        Returns what is open now and was not.
        """
        with self._changing:
            missing = [held for held in self._all() if held.storage is None]
            for held in missing:
                self._try_open(held)
            return [held.storage_id for held in missing if held.storage is not None]

    def _try_open(self, held: Held) -> None:
        if held.storage is not None:
            return
        try:
            storage = _open(held.path, read_key(held.key_file))
        except VdrError as error:
            if held.problem != error.message:
                # Once per reason: it is tried every minute.
                log.warning(
                    "storage not opened storage=%s path=%s reason=%s", held.storage_id, held.path, error
                )
            held.problem = error.message
            return
        with self._lock:
            held.storage, held.problem = storage, ""
        log.info("storage opened storage=%s path=%s", held.storage_id, held.path)

    def open(self, wanted: StorageOpen) -> StorageAnswer:
        """Make or attach a storage and hold it.

        Raises what the store reports; then nothing is held, and no key is left behind.
        """
        path = Path(wanted.path)
        if not path.is_absolute():
            raise BadInput(what=f"{path} is not an absolute path")
        with self._changing:
            for held in self._all():
                if held.path == path:
                    raise Conflict(
                        what=f"{path} is storage {held.name} already", remedy="choose another directory"
                    )
            key_file = Path(wanted.key_file) if wanted.key_file else None
            encryption = model.Encryption(wanted.encryption)
            made_key = None
            try:
                if wanted.create and encryption is not model.Encryption.NONE and key_file is None:
                    key_file = made_key = make_key_file(self._key_directory, wanted.storage_id)
                key = read_key(key_file)
                if wanted.create:
                    Storage.create(path, encryption=encryption, compression=wanted.compression, key=key)
                storage = _open(path, key)
            except VdrError:
                if made_key is not None:
                    made_key.unlink(missing_ok=True)
                raise
            held = Held(wanted.storage_id, wanted.name, path, key_file, storage)
            with self._lock:
                self._held[wanted.storage_id] = held
            log.info("storage opened storage=%s path=%s", held.storage_id, path)
            return StorageAnswer(storage=_announced(held), key_file=str(key_file) if key_file else None)

    def rotate_key(self, wanted: StorageKeyRotate) -> StorageKeyRotated:
        """Seal what is written from now on under a new root key, beside runs. Raises as
        `Storage.rotate_key`."""
        with self._changing:
            storage = self.storage(wanted.storage_id)
            with self._lock:
                key = read_key(self._held[wanted.storage_id].key_file)
            rotation = storage.rotate_key([] if key is None else [key], drop=wanted.drop_slots)
            epoch_count = rotation.unlocked.header.epoch_count
            log.info("storage key rotated storage=%s epoch=%d", wanted.storage_id, epoch_count - 1)
            return StorageKeyRotated(
                epoch_count=epoch_count, slots=list(rotation.slots), dropped_slots=list(rotation.dropped)
            )

    def drop(self, storage_id: str) -> None:
        """Close a storage and hold it no more. One that is not held is fine."""
        with self._changing:
            self._let_go(storage_id)

    def storage(self, storage_id: str) -> Storage:
        """The open storage. Raises NotFound, or Conflict with its problem if it could not be opened."""
        with self._lock:
            held = self._held.get(storage_id)
            if held is None:
                raise NotFound(what="storage on this node", name=storage_id)
            if held.storage is None:
                raise Conflict(
                    what=f"storage {held.name} is not open: {held.problem or 'it is being opened'}",
                    remedy="mend that first",
                )
            return held.storage

    def open_ids(self) -> list[str]:
        """Ids of the storages that are open."""
        return [held.storage_id for held in self._all() if held.storage is not None]

    def announcements(self) -> list[StorageAnnounced]:
        """Every storage as the server is told."""
        return [_announced(held) for held in self._all()]

    def records(self, storage_id: str) -> list[PointRecord]:
        """Every point of a storage, oldest first."""
        storage = self.storage(storage_id)
        try:
            locks = storage.guard.locks()
            for damage in locks.damages:
                log.warning("lock damaged storage=%s reason=%s", storage_id, damage.message)
        except Damaged as error:
            log.warning("locks not readable storage=%s reason=%s", storage_id, error.message)
            locks = LockBook({}, ())
        return [record_of(point, locks.of(point.point_id)) for point in storage.points()]

    def retain(self, ask: PointsRetain) -> PointsRetained:
        """Drop what a policy lets go. One line in the log."""
        storage = self.storage(ask.storage_id)
        policy = RetentionPolicy(
            ask.keep_last, ask.keep_days, ask.keep_weekly, ask.keep_monthly, ask.keep_yearly
        )
        report = storage.retain(
            ask.object_name, policy, not_after=ask.now, keep=ask.used_ids, broken=ask.broken_ids
        )
        if report.removed:
            log.info(
                "points removed storage=%s object=%s count=%d kept=%d blocked=%d",
                ask.storage_id,
                ask.object_name,
                len(report.removed),
                len(report.kept),
                len(report.blocked),
            )
        return PointsRetained(
            forgotten_ids=report.removed,
            blocked_ids=list(report.blocked),
            is_clock_doubtful=report.is_clock_doubtful,
        )

    def lock(self, ask: PointLockAsk) -> PointLockAnswer:
        """Extend a lock, put a point under legal hold or release it. Durable on return."""
        storage = self.storage(ask.storage_id)
        point = storage.point(ask.point_id)
        lock = storage.guard.locks().of(point.point_id)
        if ask.until is not None:
            lock = storage.lock(point.point_id, ask.until)
        if ask.is_held is not None:
            lock = storage.put_hold(point.point_id, ask.is_held)
        log.info("point locked storage=%s point=%s lock=%r", ask.storage_id, point.point_id, lock.text)
        return PointLockAnswer(point=record_of(point, lock))

    def measure(self, storage_id: str) -> StorageStatisticsReply:
        """The storage in numbers."""
        storage = self.storage(storage_id)
        statistics = storage.statistics()
        points = storage.points()
        capacity_bytes, free_bytes = _space(storage.path)
        return StorageStatisticsReply(
            point_count=statistics.point_count,
            object_count=len({point.draft.object_name for point in points}),
            logical_bytes=sum(point.draft.logical_bytes for point in points),
            added_bytes=sum(point.draft.new_bytes for point in points),
            stored_bytes=statistics.stored_bytes,
            live_bytes=statistics.live_bytes,
            capacity_bytes=capacity_bytes,
            free_bytes=free_bytes,
        )


def _space(path: Path) -> tuple[int, int]:
    try:
        space = os.statvfs(path)
    except OSError:
        return 0, 0
    return space.f_blocks * space.f_frsize, space.f_bavail * space.f_frsize


def _packed_bytes(path: Path) -> int:
    """Bytes of the packs, by their files: quick enough to be announced often."""
    total = 0
    for folder in (path / "packs").iterdir():
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    total += entry.stat().st_size
                except FileNotFoundError:
                    # A collection removed it meanwhile.
                    continue
    return total


def _damage_text(count: int) -> str:
    if not count:
        return ""
    return f"{count} of its chunks are damaged"


def _announced(held: Held) -> StorageAnnounced:
    capacity_bytes, free_bytes = _space(held.path)
    if held.storage is None:
        return StorageAnnounced(
            storage_id=held.storage_id,
            path=str(held.path),
            encryption=Encryption.NONE,
            compression=None,
            is_online=False,
            problem=held.problem,
            capacity_bytes=capacity_bytes,
            free_bytes=free_bytes,
        )
    info = held.storage.info
    return StorageAnnounced(
        storage_id=held.storage_id,
        path=str(held.path),
        encryption=Encryption(info.encryption),
        compression=info.compression,
        is_online=True,
        problem=_damage_text(held.storage.damaged_chunks()),
        stored_bytes=_packed_bytes(held.path),
        capacity_bytes=capacity_bytes,
        free_bytes=free_bytes,
    )


def _open(path: Path, key: KeyMaterial | None) -> Storage:
    """Writable, with a sixteenth of the memory for blocks of each tenant's exports."""
    return Storage.open(path, key=key, writable=True, cache_bytes=serving_cache_bytes(16))
