"""FAT12, FAT16 and FAT32 (format: Microsoft FAT specification, with long names)."""

import struct
from collections.abc import Iterator
from datetime import UTC, datetime

from vdrd.disk.volumes.file_system import DIRECTORY, DIRECTORY_NAMES_MAX, FILE, FileSystem, Node, Run
from vdrd.disk.volumes.ranges import Range, Unreadable

_ENTRY_BYTES = 32
_ENTRY = struct.Struct("<11sBBBHHHHHHHI")
_READ_ONLY, _LABEL, _DIRECTORY, _LONG = 0x01, 0x08, 0x10, 0x0F
_LOWER_BASE, _LOWER_EXTENSION = 0x08, 0x10
_CODEPAGE = "cp437"
_TABLE_BYTES = 1 << 16


class ClusterTable:
    """The table that chains clusters, of 12, 16 or 32 bits each."""

    def __init__(self, volume: Range, at: int, length: int, bits: int, cluster_count: int) -> None:
        self._volume = volume
        self._at = at
        self._length = length
        self._bits = bits
        self.cluster_count = cluster_count
        self._block = -1
        self._entries: tuple[int, ...] = ()

    def chain(self, first: int) -> Iterator[int]:
        """Clusters from `first` to the end of their chain. Raises Unreadable when it goes in a circle."""
        cluster = first
        for _ in range(self.cluster_count + 1):
            if not 2 <= cluster < self.cluster_count + 2:
                return
            yield cluster
            cluster = self._next(cluster)
        raise Unreadable("a chain of clusters goes in a circle")

    def _next(self, cluster: int) -> int:
        if self._bits == 12:
            value = int.from_bytes(self._read(cluster * 3 // 2, 2), "little")
            return value >> 4 if cluster & 1 else value & 0xFFF
        per_block = _TABLE_BYTES * 8 // self._bits
        block, index = divmod(cluster, per_block)
        if block != self._block:
            at = block * _TABLE_BYTES
            raw = self._read(at, min(_TABLE_BYTES, self._length - at))
            width = self._bits // 8
            self._entries = struct.unpack(f"<{len(raw) // width}{'H' if width == 2 else 'I'}", raw)
            self._block = block
        return self._entries[index] & 0x0FFFFFFF

    def _read(self, offset: int, length: int) -> bytes:
        if offset + length > self._length:
            raise Unreadable("its table of clusters is too short")
        return self._volume.read(self._at + offset, length)


class Fat(FileSystem):
    """One FAT. `ref` is the offset of a directory entry in the volume; 0 is the root."""

    has_owners = False

    def __init__(self, volume: Range) -> None:
        super().__init__(volume)
        raw = volume.read(0, 512)
        sector_bytes, sectors, reserved, tables, root_entries, total, _, table_sectors = struct.unpack_from(
            "<HBHBHHBH", raw, 11
        )
        total = total or struct.unpack_from("<I", raw, 32)[0]
        is_wide = not table_sectors
        table_sectors = table_sectors or struct.unpack_from("<I", raw, 36)[0]
        root_bytes = root_entries * _ENTRY_BYTES
        data_sector = reserved + tables * table_sectors + -(-root_bytes // sector_bytes)
        cluster_count = max(0, (total - data_sector) // sectors)
        bits = 12 if cluster_count < 4085 else 16 if cluster_count < 65525 else 32
        if is_wide:
            # Small ones that were made so by hand are told by their fields alone.
            bits = 32
        self.name = "vfat"
        self._cluster_bytes = sectors * sector_bytes
        self._data_at = data_sector * sector_bytes
        self._root_at = (data_sector * sector_bytes) - -(-root_bytes // sector_bytes) * sector_bytes
        self._root_bytes = root_bytes
        self._root_cluster = struct.unpack_from("<I", raw, 44)[0] if bits == 32 else 0
        length = table_sectors * sector_bytes
        self._table = ClusterTable(volume, reserved * sector_bytes, length, bits, cluster_count)
        fields_at = 67 if bits == 32 else 39
        serial = struct.unpack_from("<I", raw, fields_at)[0]
        self.uuid = f"{serial >> 16:04X}-{serial & 0xFFFF:04X}"
        self.label = self._label() or _text(raw[fields_at + 4 : fields_at + 15])
        if self.label == "NO NAME":
            self.label = ""

    @staticmethod
    def is_here(volume: Range) -> bool:
        """True if the first sector makes sense as that of a FAT."""
        if volume.size_bytes < 4096:
            return False
        raw = volume.read(0, 512)
        sector_bytes, sectors, reserved, tables = struct.unpack_from("<HBHB", raw, 11)
        return (
            raw[510:] == b"\x55\xaa"
            and raw[0] in (0xEB, 0xE9)
            and sector_bytes in (512, 1024, 2048, 4096)
            and sectors > 0
            and sectors & (sectors - 1) == 0
            and reserved > 0
            and tables in (1, 2)
            and raw[3:11] not in (b"NTFS    ", b"EXFAT   ")
        )

    def _label(self) -> str:
        for _, entry in self._entries(0):
            name, attributes = entry[:11], entry[11]
            if attributes & _LABEL and attributes != _LONG and name[0] not in (0, 0xE5):
                return _text(name)
        return ""

    def node(self, ref: int) -> Node:
        """See FileSystem."""
        if ref == 0:
            return Node(0, DIRECTORY, 0o755, 0, 0, 0, 0, 0)
        raw = self.volume.read(ref, _ENTRY_BYTES)
        _, attributes, _, _, _, _, _, _, time, date, _, size = _ENTRY.unpack(raw)
        kind = DIRECTORY if attributes & _DIRECTORY else FILE
        mode = 0o755 if kind == DIRECTORY else 0o644
        if attributes & _READ_ONLY:
            mode &= 0o555
        changed_ns = dos_time_ns(date, time)
        return Node(ref, kind, mode, 0, 0, size if kind == FILE else 0, changed_ns, changed_ns)

    def content_runs(self, node: Node) -> Iterator[Run]:
        """See FileSystem."""
        return self._runs(self._first_cluster(node.ref))

    def _first_cluster(self, ref: int) -> int:
        raw = self.volume.read(ref, _ENTRY_BYTES)
        high, low = struct.unpack_from("<H", raw, 20)[0], struct.unpack_from("<H", raw, 26)[0]
        return int(high << 16 | low if self._root_cluster else low)

    def _runs(self, first: int) -> Iterator[Run]:
        for number, cluster in enumerate(self._table.chain(first)):
            place = self._data_at + (cluster - 2) * self._cluster_bytes
            yield Run(number * self._cluster_bytes, self._cluster_bytes, place)

    def _entries(self, ref: int) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of the entries of a directory, deleted ones too, up to its end."""
        if ref == 0 and not self._root_cluster:
            places: Iterator[tuple[int, int]] = iter([(self._root_at, self._root_bytes)])
        else:
            first = self._root_cluster if ref == 0 else self._first_cluster(ref)
            places = ((run.place, run.length) for run in self._runs(first))
        count = 0
        for place, length in places:
            raw = self.volume.read(place, length)
            for at in range(0, length, _ENTRY_BYTES):
                entry = raw[at : at + _ENTRY_BYTES]
                if entry[0] == 0:
                    return
                count += 1
                if count > DIRECTORY_NAMES_MAX:
                    raise Unreadable("a directory with more names than can be kept in mind")
                yield place + at, entry

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """See FileSystem."""
        if self.node(ref).kind != DIRECTORY:
            raise Unreadable("that is no directory")
        pieces: dict[int, bytes] = {}
        checksum = -1
        for place, entry in self._entries(ref):
            attributes = entry[11]
            if entry[0] == 0xE5:
                pieces = {}
            elif attributes & 0x3F == _LONG:
                if entry[0] & 0x40:
                    pieces, checksum = {}, entry[13]
                if entry[13] == checksum:
                    pieces[entry[0] & 0x3F] = entry[1:11] + entry[14:26] + entry[28:32]
            elif not attributes & _LABEL:
                is_whole = sorted(pieces) == list(range(1, len(pieces) + 1)) and pieces
                if is_whole and checksum == _checksum(entry[:11]):
                    name = utf16_name(b"".join(pieces[i] for i in sorted(pieces)))
                else:
                    name = _short_name(entry)
                pieces = {}
                if name not in (b".", b".."):
                    yield name, place
            else:
                pieces = {}


def _checksum(short: bytes) -> int:
    total = 0
    for byte in short:
        total = ((total & 1) << 7) + (total >> 1) + byte & 0xFF
    return total


def _short_name(entry: bytes) -> bytes:
    raw = (b"\xe5" if entry[0] == 5 else entry[:1]) + entry[1:11]
    base, extension = _text(raw[:8]), _text(raw[8:])
    base = base.lower() if entry[12] & _LOWER_BASE else base
    extension = extension.lower() if entry[12] & _LOWER_EXTENSION else extension
    return (f"{base}.{extension}" if extension else base).encode()


def _text(raw: bytes) -> str:
    return raw.decode(_CODEPAGE).rstrip(" \0")


def utf16_name(raw: bytes) -> bytes:
    """A name in UTF-16, ended by a zero, as UTF-8. Lone surrogates, which Windows allows, stay as they
    are."""
    text = raw.decode("utf-16-le", "surrogatepass").partition("\0")[0]
    return text.encode("utf-8", "surrogatepass")


def dos_time_ns(date: int, time: int) -> int:
    """A date and time of DOS, which has no zone, as UTC; 0 for one that is none."""
    try:
        moment = datetime(
            1980 + (date >> 9),
            date >> 5 & 0xF,
            date & 0x1F,
            time >> 11,
            time >> 5 & 0x3F,
            (time & 0x1F) * 2,
            tzinfo=UTC,
        )
    except ValueError:
        return 0
    return int(moment.timestamp()) * 1_000_000_000
