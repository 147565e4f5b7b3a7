"""Reading whole pack files: their tables for the index, and the rescue of packs that were never closed."""

import os
import string
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from native import chunk
from native.aead import Aead, Algorithm
from native.crc32c import crc32c
from native.pack_check import PackChecker
from vdrd.formats import pack as pack_format
from vdrd.formats.keys import DomainKeys
from vdrd.model.errors import Damaged, StorageFull
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring
from vdrd.store.packs import pack_name, partial_name

_HEX = set(string.hexdigits.lower())
_WALK_ROWS = 4096
_RECORD_MAGIC = b"VCHK"


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

    def __init__(
        self, root: Path, pack_id: bytes, keyring: Keyring, header: pack_format.PackHeader | None = None
    ) -> None:
        """`header`: believed in place of the file's own."""
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
        self.header = header or pack_format.decode_header(head, self.what)
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
        """Rows of the records that hold, read from the records themselves: for a pack whose table is lost.

        A record that does not hold is stepped over, by its length or to the next that begins like one.
        """
        data = self.path.read_bytes()
        rows, end = walk_records(data, self._keyring.algorithm)
        while (at := _next_record(data, end)) is not None:
            more, end = walk_records(data, self._keyring.algorithm, at)
            rows += more
        return rows

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


def guess_pack(root: Path, pack_id: bytes, keyring: Keyring, domains: Iterable[int]) -> PackFile | None:
    """A pack whose header is lost, under the key domain and epoch by which its first record opens; None when
    none does."""
    for domain in sorted(domains):
        for epoch in range(keyring.epoch_count):
            header = pack_format.PackHeader(
                keyring.algorithm, epoch, domain, keyring.storage_id, pack_id, created=0
            )
            try:
                pack = PackFile(root, pack_id, keyring, header)
                row = pack.whole_rows()[: pack_format.ROW_BYTES]
                with pack.path.open("rb") as file, closing_aead(pack.aead()) as aead:
                    status, _ = PackChecker().records(file.fileno(), aead, pack.keys.id_key_table, row)
            except (Damaged, OSError):
                return None
            if row and not any(status):
                return pack
    return None


@contextmanager
def closing_aead(aead: Aead | None) -> Iterator[Aead | None]:
    """Wipe the key at the end, if there is one."""
    try:
        yield aead
    finally:
        if aead is not None:
            aead.close()


def _next_record(data: bytes, at: int) -> int | None:
    """Where the record after the one at `at`, which does not hold, may begin."""
    header = data[at : at + chunk.RECORD_HEADER_BYTES]
    if header.startswith(_RECORD_MAGIC) and header[48:52] == crc32c(header[:48]).to_bytes(4, "little"):
        after = at + chunk.RECORD_HEADER_BYTES + int.from_bytes(header[12:16], "little")
        return after if after < len(data) else None
    found = data.find(_RECORD_MAGIC, at + 1)
    return None if found < 0 else found


def walk_records(
    data: bytes, algorithm: Algorithm, start: int = pack_format.HEADER_BYTES
) -> tuple[bytes, int]:
    """Rows of all whole records of a pack's bytes from `start` on, and where the last ends."""
    rows = bytearray()
    end = start
    while True:
        more, end = chunk.walk(data, end, algorithm, rows_max=_WALK_ROWS)
        rows += more
        if len(more) < _WALK_ROWS * pack_format.ROW_BYTES:
            return bytes(rows), end
