"""What a storage knows to be damaged, and keeps in files so that the next process knows it too.

The native index holds the marks while the storage is open: a marked record answers only where there is no
other, and a backup stores its chunk again. A mark goes with its pack, or when the record is found to hold
after all. Knows nothing of points; `docs/formats/store.md` has the file.
"""

import os
import threading
from contextlib import suppress

from native.index import Index
from vdrd.formats.damage import (
    FILE_BYTES_MAX,
    FRAME_ID,
    FRAME_OFFSET,
    Mark,
    decode_marks,
    encode_marks,
)
from vdrd.model.errors import Damaged, StorageUnwritable, VdrError
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring

SUFFIX = ".damage"
_ATTEMPTS = 3


class DamageBook:
    """Thread-safe. Any process may add a file of marks, a reading one too; only the writer removes files."""

    def __init__(
        self, directory: StorageDirectory, keyring: Keyring, index: Index, *, is_writable: bool
    ) -> None:
        self._directory = directory
        self._keyring = keyring
        self._index = index
        self._is_writable = is_writable
        self._lock = threading.Lock()
        self._files: set[str] = set()
        self._stored: set[Mark] = set()
        self._has_bad_file = False
        self.mended: set[int] = set()
        """Numbers of framed packs whose records this process has written again."""

    # ---- knowing ----

    def marks(self) -> list[Mark]:
        """Everything marked in packs that are in use."""
        found = []
        for number, offset, chunk_id in self._index.damages():
            pack_id = self._index.pack_id(number)
            if pack_id is not None:
                found.append(Mark(pack_id, offset, chunk_id))
        return found

    def framed_packs(self) -> list[int]:
        """Numbers of packs whose records may be whole but whose header, table or trailer is not."""
        return [number for number, offset, _ in self._index.damages() if offset == FRAME_OFFSET]

    def note(self, number: int, offset: int, chunk_id: bytes) -> None:
        """A record does not hold."""
        self._index.damage_add(number, offset, chunk_id)

    def note_frame(self, number: int) -> None:
        """Header, table or trailer of a pack do not hold."""
        self._index.damage_add(number, FRAME_OFFSET, FRAME_ID)

    def clear(self, number: int, offset: int = FRAME_OFFSET) -> None:
        """A record (or a frame) holds after all."""
        self._index.damage_remove(number, offset)

    # ---- keeping ----

    def refresh(self) -> list[Damaged]:
        """Take in marks that another process has left since; returns why files cannot be used."""
        damages = []
        with self._lock:
            for path in sorted((self._directory.root / "index").glob(f"*{SUFFIX}")):
                name = f"index/{path.name}"
                if name in self._files:
                    continue
                try:
                    self._take(name)
                except Damaged as error:
                    damages.append(error)
                    self._has_bad_file = True
                self._files.add(name)  # a bad one too: the next save replaces it
        return damages

    def _take(self, name: str) -> None:
        what = f"damage marks {name.removeprefix('index/')}"
        try:
            with self._directory.path(name).open("rb") as file:
                data = file.read(FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            return  # a writer has put files together meanwhile
        except OSError as error:
            raise Damaged(what=what, reason=(error.strerror or "error").lower()) from error
        keyring = self._keyring
        for mark in decode_marks(data, keyring.storage_id, keyring.record_key, what):
            self._stored.add(mark)
            number = self._index.pack_find(mark.pack_id)
            if number is not None:
                self._index.damage_add(number, mark.offset, mark.chunk_id)

    def save(self) -> None:
        """Keep what is known now; durable on return. Costs nothing when nothing has changed.

        Raises StorageFull, StorageUnwritable: on read-only media nothing is remembered.
        """
        with self._lock:
            marks = set(self.marks())
            news = marks if self._is_writable else marks - self._stored
            is_same = marks == self._stored and not self._has_bad_file if self._is_writable else not news
            if not is_same:
                kept = self._write(news) if news else None
                if self._is_writable:
                    for name in self._files - {kept}:
                        self._directory.remove(name)
                    self._files = {kept} if kept else set()
                    self._stored = marks
                    self._has_bad_file = False
                elif kept:
                    self._files.add(kept)
                    self._stored |= news

    def save_if_possible(self) -> bool:
        """`save`, where nobody is to be troubled by a failure: False when there was one."""
        with suppress(VdrError):
            self.save()
            return True
        return False

    def _write(self, marks: set[Mark]) -> str:
        name = f"index/{os.urandom(8).hex()}{SUFFIX}"
        data = encode_marks(marks, self._keyring.storage_id, self._keyring.record_key)
        for attempt in range(_ATTEMPTS):
            try:
                self._directory.write_file(name, data)
                break
            except StorageUnwritable:
                # A writer that opened the storage this moment has cleared `tmp`.
                if self._is_writable or attempt == _ATTEMPTS - 1:
                    raise
        return name
