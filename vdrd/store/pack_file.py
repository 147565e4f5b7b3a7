"""Reading whole pack files: their tables for the index, and the rescue of packs that were never closed."""

import os
import string
from contextlib import suppress
from pathlib import Path

from native import chunk
from native.aead import Aead, Algorithm
from vdrd.formats import pack as pack_format
from vdrd.formats.keys import DomainKeys
from vdrd.model.errors import Damaged, StorageFull
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring
from vdrd.store.packs import pack_name, partial_name

_HEX = set(string.hexdigits.lower())
_WALK_ROWS = 4096


def _pack_id_of(name: str) -> bytes | None:
    stem = name.removesuffix(".pack")
    return bytes.fromhex(stem) if stem != name and len(stem) == 32 and set(stem) <= _HEX else None


def packs_on_disk(root: Path) -> dict[bytes, int]:
    """Ids and file lengths of all packs that have their name."""
    found: dict[bytes, int] = {}
    for folder in os.scandir(root / "packs"):
        if not folder.is_dir():
            continue
        for file in os.scandir(folder.path):
            pack_id = _pack_id_of(file.name)
            if pack_id is not None and pack_id.hex()[:2] == folder.name:
                with suppress(FileNotFoundError):
                    found[pack_id] = file.stat().st_size
    return found


class PackFile:
    """A closed pack, opened to be read as a whole. Raises Damaged naming the pack."""

    def __init__(self, root: Path, pack_id: bytes, keyring: Keyring) -> None:
        self.pack_id = pack_id
        self.path = root / pack_name(pack_id)
        self.what = f"pack {pack_id.hex()}"
        self.table_offset = 0
        """Where the table begins; known once `rows` was called."""
        self._keyring = keyring
        try:
            with self.path.open("rb") as file:
                self.file_bytes = os.fstat(file.fileno()).st_size
                head = file.read(pack_format.HEADER_BYTES)
        except OSError as error:
            raise Damaged(what=self.what, reason=(error.strerror or "error").lower()) from error
        self.head = head
        self.header = pack_format.decode_header(head, self.what)
        if self.header.pack_id != pack_id or self.header.storage_id != keyring.storage_id:
            raise Damaged(what=self.what, reason="it belongs elsewhere")
        if self.header.encryption != keyring.algorithm:
            raise Damaged(what=self.what, reason="it is encrypted differently")

    @property
    def keys(self) -> DomainKeys:
        """Keys of the pack's domain and epoch."""
        return self._keyring.domain(self.header.domain, self.header.epoch)

    def rows(self) -> bytes:
        """The table, its MAC checked: 48 bytes for each record."""
        with self.path.open("rb") as file:
            file.seek(max(self.file_bytes - pack_format.TRAILER_BYTES, 0))
            tail = file.read(pack_format.TRAILER_BYTES)
            trailer = pack_format.decode_trailer(tail, self.file_bytes, self.what)
            file.seek(trailer.table_offset)
            table = file.read(trailer.table_bytes)
        self.table_offset = trailer.table_offset
        key = self.keys.table_key(self.pack_id)
        pack_format.check_table(self.head, table, trailer, key, self.what)
        return table

    def whole_rows(self) -> bytes:
        """Rows of the records that hold, read from the records themselves: for a pack whose table is lost."""
        return walk_records(self.path.read_bytes(), self._keyring.algorithm)[0]

    def aead(self) -> Aead | None:
        """What opens the records."""
        algorithm = self._keyring.algorithm
        if algorithm is Algorithm.NONE:
            return None
        return Aead(algorithm, self.keys.pack_key(self.pack_id, algorithm))


def rescue_partials(directory: StorageDirectory, keyring: Keyring) -> list[bytes]:
    """Close what a writer that died left in `tmp`: whole records become a pack, everything else goes.

    Returns the ids of the packs that came of it. Called under the writer's lock, before anything is written.
    """
    rescued = []
    for path in sorted((directory.root / "tmp").iterdir()):
        pack_id = _pack_id_of(path.name)
        is_saved = False
        # On a full disk the space is worth more than what could be saved: no point uses it.
        with suppress(StorageFull):
            is_saved = pack_id is not None and _rescue(directory, keyring, pack_id)
        if is_saved and pack_id is not None:
            rescued.append(pack_id)
        else:
            directory.remove(f"tmp/{path.name}")
    return rescued


def _rescue(directory: StorageDirectory, keyring: Keyring, pack_id: bytes) -> bool:
    """Give a partial pack its table and its name. False when nothing in it is worth that."""
    name = partial_name(pack_id)
    data = directory.path(name).read_bytes()
    with suppress(Damaged):
        header = pack_format.decode_header(data[: pack_format.HEADER_BYTES], name)
        if (header.pack_id, header.storage_id, header.encryption) != (
            pack_id,
            keyring.storage_id,
            keyring.algorithm,
        ):
            return False
        key = keyring.domain(header.domain, header.epoch).table_key(pack_id)
        rows, end = walk_records(data, keyring.algorithm)
        if not rows:
            return False
        trailer = pack_format.encode_trailer(data[: pack_format.HEADER_BYTES], rows, end, key)
        fd = os.open(directory.path(name), os.O_RDWR | os.O_CLOEXEC)
        try:
            directory.truncate(fd, end, name)
            directory.write(fd, rows + trailer, end, name)
            directory.sync(fd, name)
        finally:
            os.close(fd)
        directory.rename(name, pack_name(pack_id))
        directory.sync_directory(f"packs/{pack_id.hex()[:2]}")
        return True
    return False


def walk_records(data: bytes, algorithm: Algorithm) -> tuple[bytes, int]:
    """Rows of all whole records of a pack's bytes, and where the last ends."""
    rows = bytearray()
    end = pack_format.HEADER_BYTES
    while True:
        more, end = chunk.walk(data, end, algorithm, rows_max=_WALK_ROWS)
        rows += more
        if len(more) < _WALK_ROWS * pack_format.ROW_BYTES:
            return bytes(rows), end
