"""exFAT (format: Microsoft exFAT file system specification)."""

import struct
from collections.abc import Iterator

from vdrd.disk.volumes.fat import ClusterTable, dos_time_ns, utf16_name
from vdrd.disk.volumes.file_system import DIRECTORY, DIRECTORY_NAMES_MAX, FILE, FileSystem, Node, Run
from vdrd.disk.volumes.ranges import Range, Unreadable

_ENTRY_BYTES = 32
_FILE_ENTRY, _STREAM_ENTRY, _NAME_ENTRY, _LABEL_ENTRY = 0x85, 0xC0, 0xC1, 0x83
_READ_ONLY, _DIRECTORY = 0x01, 0x10
_NO_CHAIN = 0x02
_QUARTER_NS = 15 * 60 * 1_000_000_000
_DIRTY = 0x02


class ExFat(FileSystem):
    """One exFAT. `ref` is the offset of a file entry in the volume; 0 is the root."""

    name = "exfat"
    has_owners = False

    def __init__(self, volume: Range) -> None:
        super().__init__(volume)
        raw = volume.read(0, 512)
        table_sector, table_sectors, heap_sector, cluster_count, self._root_cluster, serial = (
            struct.unpack_from("<IIIIII", raw, 80)
        )
        flags, sector_log, cluster_log = struct.unpack_from("<HBB", raw, 106)
        if not 9 <= sector_log <= 12 or sector_log + cluster_log > 25:
            raise Unreadable("its boot sector is damaged")
        self.is_unclean = bool(flags & _DIRTY)
        self._cluster_bytes = 1 << sector_log + cluster_log
        self._heap_at = heap_sector << sector_log
        if cluster_count * self._cluster_bytes > volume.size_bytes:
            raise Unreadable("it is longer than its volume")
        length = table_sectors << sector_log
        self._table = ClusterTable(volume, table_sector << sector_log, length, 32, cluster_count)
        self.uuid = f"{serial >> 16:04X}-{serial & 0xFFFF:04X}"
        self._streams: dict[int, int] = {}
        """Where the stream entry of a file stands that does not follow its file entry."""
        for _, entry in self._entries(0):
            if entry[0] == _LABEL_ENTRY:
                self.label = utf16_name(entry[2 : 2 + 2 * min(entry[1], 15)]).decode("utf-8", "replace")

    @staticmethod
    def is_here(volume: Range) -> bool:
        """True if the name stands there."""
        return volume.size_bytes >= 1 << 16 and volume.read(3, 8) == b"EXFAT   "

    def node(self, ref: int) -> Node:
        """See FileSystem."""
        if ref == 0:
            return Node(0, DIRECTORY, 0o755, 0, 0, 0, 0, 0)
        entry, stream = self._pair(ref)
        attributes = struct.unpack_from("<H", entry, 4)[0]
        changed, hundredths, zone = struct.unpack_from("<I", entry, 12)[0], entry[21], entry[23]
        kind = DIRECTORY if attributes & _DIRECTORY else FILE
        mode = 0o755 if kind == DIRECTORY else 0o644
        if attributes & _READ_ONLY:
            mode &= 0o555
        changed_ns = dos_time_ns(changed >> 16, changed & 0xFFFF) + hundredths * 10_000_000
        if zone & 0x80:
            changed_ns -= ((zone & 0x7F) - (128 if zone & 0x40 else 0)) * _QUARTER_NS
        size = struct.unpack_from("<Q", stream, 24)[0] if kind == FILE else 0
        return Node(ref, kind, mode, 0, 0, size, changed_ns, changed_ns)

    def _pair(self, ref: int) -> tuple[bytes, bytes]:
        entry = self.volume.read(ref, _ENTRY_BYTES)
        stream = self.volume.read(self._streams.get(ref, ref + _ENTRY_BYTES), _ENTRY_BYTES)
        if entry[0] != _FILE_ENTRY or stream[0] != _STREAM_ENTRY:
            raise Unreadable("a directory is damaged")
        return entry, stream

    def content_runs(self, node: Node) -> Iterator[Run]:
        """See FileSystem. What was never written reads as zeros."""
        _, stream = self._pair(node.ref)
        written = struct.unpack_from("<Q", stream, 8)[0]
        for run in self._stream_runs(stream):
            if run.offset >= written:
                return
            yield Run(run.offset, min(run.length, written - run.offset), run.place)

    def _stream_runs(self, stream: bytes) -> Iterator[Run]:
        first, length = struct.unpack_from("<IQ", stream, 20)
        if stream[1] & _NO_CHAIN:
            if length:
                yield Run(0, length, self._place(first))
            return
        for number, cluster in enumerate(self._table.chain(first)):
            yield Run(number * self._cluster_bytes, self._cluster_bytes, self._place(cluster))

    def _place(self, cluster: int) -> int:
        return int(self._heap_at + (cluster - 2) * self._cluster_bytes)

    def _entries(self, ref: int) -> Iterator[tuple[int, bytes]]:
        """Offset and bytes of the entries of a directory, up to its end."""
        runs: Iterator[Run]
        if ref == 0:
            clusters = self._table.chain(self._root_cluster)
            runs = iter(Run(0, self._cluster_bytes, self._place(cluster)) for cluster in clusters)
        else:
            runs = self._stream_runs(self._pair(ref)[1])
        count = 0
        for run in runs:
            for begin in range(0, run.length, 4096):
                raw = self.volume.read(run.place + begin, min(4096, run.length - begin))
                for at in range(0, len(raw) - _ENTRY_BYTES + 1, _ENTRY_BYTES):
                    entry = raw[at : at + _ENTRY_BYTES]
                    if entry[0] == 0:
                        return
                    count += 1
                    if count > DIRECTORY_NAMES_MAX:
                        raise Unreadable("a directory with more names than can be kept in mind")
                    yield run.place + begin + at, entry

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """See FileSystem."""
        if self.node(ref).kind != DIRECTORY:
            raise Unreadable("that is no directory")
        file_at, name_length, name = -1, 0, b""
        for place, entry in self._entries(ref):
            if entry[0] == _FILE_ENTRY:
                file_at, name_length, name = place, 0, b""
            elif entry[0] == _STREAM_ENTRY and file_at >= 0:
                name_length = entry[3]
                if place != file_at + _ENTRY_BYTES:
                    self._streams[file_at] = place
            elif entry[0] == _NAME_ENTRY and name_length:
                name += entry[2:32]
                if len(name) >= 2 * name_length:
                    yield utf16_name(name[: 2 * name_length]), file_at
                    file_at, name_length = -1, 0
