"""The catalog's file: opening, locking, migrating, and running work on it from Trio.

Work is a plain function that takes a connection. `write` runs it in one transaction that is durable when the
call returns;
`read` runs it on a snapshot. Knows no table.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import resources
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

import trio

from vdrd.model.errors import ExitCode, StorageFull, VdrError

P = ParamSpec("P")
T = TypeVar("T")

READERS = 4
"""Reading connections. Pages are read in well under 100 ms, so more would only queue for two cores."""

_BUSY_SECONDS = 10.0


class CatalogLocked(VdrError):
    """Another server has the catalog open."""

    code = "catalog-locked"
    template = "catalog {path} is in use by another server"
    hint = "stop the other one first; a state directory belongs to one server"
    exit_code = ExitCode.REFUSED


class CatalogNewer(VdrError):
    """The catalog was written by a newer version."""

    code = "catalog-newer"
    template = "catalog {path} has version {found}, this program knows up to {supported}"
    hint = "use a newer version of vdr, or restore the copy made before the upgrade"
    exit_code = ExitCode.REFUSED


class CatalogDamaged(VdrError):
    """The catalog's file is not what SQLite wrote."""

    code = "catalog-damaged"
    template = "catalog {path} is damaged: {reason}"
    hint = "restore it from a metadata backup; points can be read back from their storages"
    exit_code = ExitCode.DAMAGED


class CatalogUnusable(VdrError):
    """The catalog cannot be read or written just now."""

    code = "catalog-unusable"
    template = "catalog {path} cannot be used: {reason}"
    hint = "look at its file system: is it full, read-only or failing"
    retryable = True


def migrations() -> list[tuple[int, str, str]]:
    """Number, name and SQL of every migration, in order."""
    found = [
        (int(entry.name.split("_", 1)[0]), entry.name, entry.read_text(encoding="utf-8"))
        for entry in resources.files("schemas").joinpath("catalog").iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found)


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
    connection.row_factory = sqlite3.Row
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA temp_store = MEMORY")
    return connection


def _migrate(connection: sqlite3.Connection, path: Path) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    steps = migrations()
    newest = steps[-1][0]
    if version > newest:
        raise CatalogNewer(path=path, found=version, supported=newest)
    for number, _name, sql in steps:
        if number > version:
            try:
                connection.executescript(f"BEGIN IMMEDIATE;\n{sql}\nPRAGMA user_version = {number};\nCOMMIT;")
            except BaseException:
                if connection.in_transaction:
                    connection.rollback()
                raise


class Catalog:
    """An open catalog. Make one with `Catalog.open`; it holds a lock on the file until `close`."""

    def __init__(self, path: Path, lock_fd: int, writer: sqlite3.Connection) -> None:
        self.path = path
        self._lock_fd = lock_fd
        self._writer = writer
        self._writer_limiter = trio.CapacityLimiter(1)
        self._reader_limiter = trio.CapacityLimiter(READERS)
        self._idle_readers: list[sqlite3.Connection] = []

    @classmethod
    def open(cls, path: Path) -> "Catalog":
        """Open, or make, the catalog at `path` and bring it to the newest version. Blocking.

        Raises CatalogLocked, CatalogNewer, CatalogDamaged, StorageFull.
        """
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_fd = os.open(path.with_name(path.name + ".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise CatalogLocked(path=path) from error
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            with _translated(path):
                writer = _connect(path)
                try:
                    writer.execute("PRAGMA journal_mode = WAL")
                    # A run that was reported as done must still be done after a power cut.
                    writer.execute("PRAGMA synchronous = FULL")
                    _migrate(writer, path)
                except BaseException:
                    writer.close()
                    raise
        except BaseException:
            os.close(lock_fd)
            raise
        return cls(path, lock_fd, writer)

    def close(self) -> None:
        """Close every connection and give up the lock. Nothing may be running."""
        for reader in self._idle_readers:
            reader.close()
        self._idle_readers.clear()
        self._writer.close()
        os.close(self._lock_fd)

    async def write(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, ...)` in a transaction of its own; durable on return, undone if it raises.

        Not cancellable once started, so that a caller knows what happened.
        """
        return await trio.to_thread.run_sync(
            lambda: self.write_now(work, *args, **kwargs), limiter=self._writer_limiter
        )

    def write_now(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """`write` for code that may block: before the loop starts, and in tests. One caller at a time."""
        with _translated(self.path):
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                result = work(self._writer, *args, **kwargs)
                self._writer.execute("COMMIT")
            except BaseException:
                with suppress(sqlite3.Error):
                    self._writer.execute("ROLLBACK")
                raise
            return result

    async def read(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run `work(connection, ...)` on a consistent snapshot. It must not write."""
        return await trio.to_thread.run_sync(
            lambda: self._read_now(work, *args, **kwargs), limiter=self._reader_limiter
        )

    def _read_now(
        self, work: Callable[Concatenate[sqlite3.Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        with _translated(self.path):
            # list.pop and append are atomic; the limiter bounds how many connections are ever made.
            try:
                reader = self._idle_readers.pop()
            except IndexError:
                reader = _connect(self.path)
                reader.execute("PRAGMA query_only = ON")
            try:
                reader.execute("BEGIN")
                try:
                    return work(reader, *args, **kwargs)
                finally:
                    reader.execute("ROLLBACK")
            finally:
                self._idle_readers.append(reader)


@contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        code = getattr(error, "sqlite_errorcode", None)
        if code == sqlite3.SQLITE_FULL:
            raise StorageFull(path=path.parent) from error
        if code in {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}:
            raise CatalogDamaged(path=path, reason=error) from error
        if isinstance(error, sqlite3.OperationalError):
            raise CatalogUnusable(path=path, reason=error) from error
        raise
