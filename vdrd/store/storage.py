"""A storage, open: the one object that other packages hold."""

import os
import threading
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

from native.reader import Reader
from vdrd.formats import keys as key_format
from vdrd.formats import storage as header_format
from vdrd.formats.keys import RootKeys
from vdrd.formats.point import PointKeys
from vdrd.model.errors import (
    BadInput,
    Damaged,
    KeyMissing,
    StorageNotFound,
    StorageUnwritable,
    TargetRefused,
)
from vdrd.model.points import Point, PointDraft
from vdrd.model.storage import COMPRESSION_LEVELS, DEFAULT_COMPRESSION, Encryption, KeyMaterial, StorageInfo
from vdrd.store.directory import StorageDirectory
from vdrd.store.index import ChunkIndex
from vdrd.store.keyring import Keyring, unlock
from vdrd.store.locks import StorageLock
from vdrd.store.pack_file import rescue_partials
from vdrd.store.packs import PackPool
from vdrd.store.points import PointBook
from vdrd.store.reader import CACHE_BYTES, ChunkReader
from vdrd.store.session import WriteSession

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
        self.book = PointBook(directory, keyring)
        self.index = ChunkIndex(directory, keyring)
        self._pool: PackPool | None = None
        if writable:
            rescue_partials(directory, keyring)
        self.index.load(check=writable)
        if writable:
            self.index.flush()
            self.index.merge()
            self._pool = PackPool(directory, self.index.native, keyring, self.index.pack_sealed)
        self.reader = self._open_reader()

    def _open_reader(self) -> ChunkReader:
        packs = self.path / "packs"
        fd = os.open(packs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            native = Reader(self.index.native, fd, self.keyring.algorithm, CACHE_BYTES)
        finally:
            os.close(fd)
        domains = {row.domain for row in self.index.packs.values()} | {0}
        for domain in domains:
            for epoch in range(self.keyring.epoch_count):
                keys = self.keyring.domain(domain, epoch)
                native.keys_add(domain, epoch, keys.id_key_table, keys.pack_root)
        return ChunkReader(packs, self.index, native)

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
        _make_empty(path)
        now = datetime.now(UTC).replace(microsecond=0)
        info = StorageInfo(os.urandom(16).hex(), now, encryption, compression, header_format.BLOCK_BYTES)
        roots = RootKeys.generate()
        material = None if encryption is Encryption.NONE else key
        slot = key_format.encode_slot(roots, bytes.fromhex(info.storage_id), material, created=now)
        signing = PointKeys(key_format.ALGORITHMS[encryption], 0, roots.record_key(), roots.signing_seed())
        header = header_format.encode_header(info, (signing.public_key,), roots.record_key())
        for folder in _FOLDERS:
            directory.make_directory(folder)
        for number in range(256):
            directory.make_directory(f"packs/{number:02x}")
        for name in ("lock", "lock.read"):
            os.close(directory.create(name))
        directory.sync_directory("packs")
        directory.write_file(f"keys/{os.urandom(4).hex()}.json", slot)
        # Last: a directory without storage.json is no storage.
        directory.write_file("storage.json", header)

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        key: KeyMaterial | None = None,
        writable: bool = False,
        directory: StorageDirectory | None = None,
    ) -> "Storage":
        """Open a storage; writable takes its lock and clears up after a writer that died.

        Raises StorageNotFound, StorageNewer, KeyMissing, WrongKey, StorageLocked, Damaged.
        """
        header = _read_header(path)
        roots = unlock(path, header, key)
        header_format.check_header(header, roots.record_key(), path)
        lock = StorageLock(path, writable=writable)
        try:
            keyring = Keyring(header, roots)
            return cls(directory or StorageDirectory(path), header.info, keyring, lock, writable=writable)
        except BaseException:
            lock.close()
            raise

    def close(self) -> None:
        """Abort open sessions, make durable what was put, release the locks. Calling it again does
        nothing."""
        for session in list(self._sessions):
            session.abort()
        if self._pool is not None:
            self._pool.close()
            self._pool = None
        self.reader.close()
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

    def damaged_points(self) -> list[Damaged]:
        """Why points that are there cannot be read."""
        return self.book.list()[1]

    def point(self, reference: str) -> Point:
        """A point by its id, a unique prefix of it, or OBJECT@latest. Raises NotFound, Damaged."""
        return self.book.read(self.book.resolve(reference))

    # ---- writing ----

    @property
    def pool(self) -> PackPool:
        """Open packs. Raises StorageUnwritable when opened for reading."""
        if self._pool is None:
            raise StorageUnwritable(path=self.path, reason="it is not open for writing")
        return self._pool

    def session(self, *, check: bool = True, domain: int = 0) -> WriteSession:
        """Begin a backup. `check` verifies every chunk that is put against its id: leave it out only where
        the same process has just computed both."""
        self.pool.check()
        session = WriteSession(self, domain=domain, check=check, on_end=self._session_ended)
        with self._sessions_lock:
            self._sessions.add(session)
        return session

    def _session_ended(self, session: WriteSession) -> None:
        with self._sessions_lock:
            self._sessions.discard(session)
            if not self._sessions:
                self.index.native.touch_clear()

    def commit(self, draft: PointDraft) -> Point:
        """For sessions: everything put so far durable, then the index, then the point."""
        with self._commit_lock:
            self.pool.flush()
            self.index.flush()
            point = self.book.write(draft)
            self.index.merge()
            return point


def _make_empty(path: Path) -> None:
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise TargetRefused(path=path, reason="the directory is not empty")
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error


def _read_header(path: Path) -> header_format.StorageHeader:
    try:
        with (path / "storage.json").open("rb") as file:
            data = file.read(header_format.FILE_BYTES_MAX)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise StorageNotFound(path=path) from error
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
    return header_format.decode_header(data, path)
