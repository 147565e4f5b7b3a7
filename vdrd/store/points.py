"""The points of a storage: listing, finding by what a user types, writing, removing."""

import os
import re
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from vdrd.formats import book as book_format
from vdrd.formats import point as point_format
from vdrd.formats.book import BookRow, FileMark
from vdrd.model.errors import Damaged, NotFound, StorageFull, StorageUnwritable
from vdrd.model.points import Point, PointDraft
from vdrd.store.directory import StorageDirectory
from vdrd.store.guard import POINT_NAME
from vdrd.store.keyring import Keyring

BOOK_NAME = "index/points.bin"
UNLISTED_MAX = 256
"""Points read one by one before `points.bin` is written again: a fifth of a second's work."""
_PREFIX = re.compile(r"[0-9a-f]{1,32}")
_LATEST = "@latest"
_SUFFIX = ".point"
_LAST_NAME = "f" * 32
"""The greatest id there could be: nothing sorts after it, so no point is made to."""
_FILE_BYTES_MAX = point_format.HEADER_BYTES + point_format.BODY_BYTES_MAX + point_format.SIGNATURE_BYTES


class PointBook:
    """Reads and writes `points/`. Thread-safe; a point once read is remembered, for it never changes."""

    def __init__(
        self, directory: StorageDirectory, keyring: Keyring, now: Callable[[], datetime], *, writable: bool
    ) -> None:
        """`now` dates the points that are made."""
        self._directory = directory
        self._keyring = keyring
        self._now = now
        self._lock = threading.Lock()
        self._known: dict[str, Point] = {}
        self._last_id = b""
        self._is_writable = writable
        self._rows: dict[str, BookRow] | None = None
        """Of `points.bin`, None while it was not looked at."""
        self._unlisted_count = 0  # points read that it lacks

    def names(self) -> list[str]:
        """Ids of all points, damaged ones included, oldest first."""
        with os.scandir(self._directory.root / "points") as files:
            stems = [file.name.removesuffix(_SUFFIX) for file in files if file.name.endswith(_SUFFIX)]
        return sorted(stem for stem in stems if POINT_NAME.fullmatch(stem))

    def read(self, name: str, *, afresh: bool = False) -> Point:
        """The point with this id. Raises NotFound, Damaged."""
        with self._lock:
            if not afresh and name in self._known:
                return self._known[name]
        path = self._directory.path(f"points/{name}{_SUFFIX}")
        row = None if afresh else self._book_rows().get(name)
        if row is not None and row.mark == _file_mark(path, name):
            return self._remember(name, point_format.decode_body(name, row.body))
        data = _read(path, name)
        keys = self._keyring.point_keys(point_format.point_epoch(data, name))
        point = point_format.decode_point(data, name, self._keyring.storage_id, keys)
        self._unlisted_count += 1
        return self._remember(name, point)

    def _remember(self, name: str, point: Point) -> Point:
        with self._lock:
            self._known[name] = point
        return point

    # ---- points.bin ----

    def _book_rows(self) -> dict[str, BookRow]:
        """What `points.bin` has; nothing when it does not hold: the points themselves are read then."""
        if self._rows is None:
            rows: dict[str, BookRow] = {}
            with suppress(OSError, Damaged):
                data = self._directory.path(BOOK_NAME).read_bytes()
                keys = self._keyring.point_keys(book_format.book_epoch(data))
                rows = book_format.decode_book(data, self._keyring.storage_id, keys, self._keyring.record_key)
            self._rows = rows
        return self._rows

    def _write_book(self, points: Iterable[Point]) -> None:
        """Keep what was read, for the next process. A storage that cannot be written goes without."""
        rows = {}
        for point in points:
            with suppress(NotFound, Damaged):
                mark = _file_mark(self._directory.path(f"points/{point.point_id}{_SUFFIX}"), point.point_id)
                rows[point.point_id] = BookRow(mark, point_format.encode_body(point))
        keyring = self._keyring
        data = book_format.encode_book(rows, keyring.storage_id, keyring.point_keys(), keyring.record_key)
        with suppress(StorageFull, StorageUnwritable):
            self._directory.write_file(BOOK_NAME, data)
        self._rows, self._unlisted_count = rows, 0

    def list(self, object_name: str | None = None) -> tuple[list[Point], list[Damaged]]:
        """Points of an object (of all), oldest first, and what keeps the others from being read."""
        points, damages = [], []
        for name in self.names():
            try:
                points.append(self.read(name))
            except NotFound:
                continue  # forgotten since it was listed
            except Damaged as error:
                damages.append(error)
        if self._is_writable and self._unlisted_count > max(UNLISTED_MAX, len(points) // 8):
            self._write_book(points)
        if object_name is not None:
            points = [point for point in points if point.draft.object_name == object_name]
        return points, damages

    def damaged_after(self, name: str) -> tuple[Damaged, ...]:
        """Why points newer than this one cannot be read."""
        damages = []
        for other in reversed(self.names()):
            if other <= name:
                break
            try:
                self.read(other)
            except NotFound:
                continue
            except Damaged as error:
                damages.append(error)
        return tuple(damages)

    def resolve(self, reference: str) -> str:
        """Id of the point that `reference` means: an id, a unique prefix of one, or OBJECT@latest. Raises
        NotFound."""
        if reference.endswith(_LATEST):
            latest = self._latest(reference.removesuffix(_LATEST))
            if latest is None:
                raise NotFound(what="point", name=reference)
            return latest
        prefix = reference.lower()
        found = (
            [name for name in self.names() if name.startswith(prefix)] if _PREFIX.fullmatch(prefix) else []
        )
        if len(found) > 1:
            raise NotFound(what="point", name=f"{reference} (it means {len(found)} points: give more digits)")
        if not found:
            raise NotFound(what="point", name=reference)
        return found[0]

    def _latest(self, object_name: str) -> str | None:
        """Newest point of an object that can be read."""
        for name in reversed(self.names()):
            with suppress(Damaged, NotFound):
                if self.read(name).draft.object_name == object_name:
                    return name
        return None

    def write(self, draft: PointDraft) -> Point:
        """Make a point of a draft; durable on return."""
        now = self._now()
        with self._lock:
            # Two commits within a millisecond, or a clock set back, still sort in the order of their commits:
            # what is latest must never be an older state.
            if not self._last_id:
                self._last_id = self._newest_id()
            point_id = max(point_format.new_point_id(now), _next(self._last_id))
            self._last_id = point_id
        point = Point(point_id.hex(), now, draft)
        data = point_format.encode_point(point, self._keyring.storage_id, self._keyring.point_keys())
        self._directory.write_file(f"points/{point.point_id}.point", data)
        with self._lock:
            self._known[point.point_id] = point
        return point

    def _newest_id(self) -> bytes:
        """Id of the newest point on disk; empty when there is none."""
        return next((bytes.fromhex(name) for name in reversed(self.names()) if name != _LAST_NAME), b"")

    def remove(self, names: Iterable[str]) -> None:
        """Remove points; durable on return. Who calls has asked the guard."""
        for name in names:
            self._directory.remove(f"points/{name}{_SUFFIX}")
            with self._lock:
                self._known.pop(name, None)
        self._directory.sync_directory("points")


def _file_mark(path: Path, name: str) -> FileMark:
    try:
        found = path.stat()
    except FileNotFoundError as error:
        raise NotFound(what="point", name=name) from error
    except OSError as error:
        raise Damaged(what=f"point {name}", reason=(error.strerror or "error").lower()) from error
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino


def _next(point_id: bytes) -> bytes:
    return (int.from_bytes(point_id, "big") + 1).to_bytes(16, "big")


def _read(path: Path, name: str) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(what="point", name=name) from error
    except OSError as error:
        raise Damaged(what=f"point {name}", reason=(error.strerror or "error").lower()) from error
    if len(data) > _FILE_BYTES_MAX:
        raise Damaged(what=f"point {name}", reason="it is too long")
    return data
