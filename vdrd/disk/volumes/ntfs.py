"""NTFS (format: the Linux-NTFS project's documentation). Streams beside the content, and ACLs, are not
shown."""

import struct
from bisect import bisect_right
from collections.abc import Iterator

from vdrd.disk.volumes.fat import utf16_name
from vdrd.disk.volumes.file_system import (
    CODED,
    DIRECTORY,
    DIRECTORY_NAMES_MAX,
    FILE,
    HOLE,
    SYMLINK,
    FileSystem,
    Node,
    Run,
)
from vdrd.disk.volumes.ntfs_record import Attribute, attributes_in, cluster_runs, fixed_up, lznt1_decompressed
from vdrd.disk.volumes.ranges import READ_BYTES_MAX, Range, Unreadable

_STANDARD, _LIST, _FILE_NAME, _VOLUME_NAME, _VOLUME_STATE = 0x10, 0x20, 0x30, 0x60, 0x70
_DATA, _INDEX_ROOT, _INDEX_BLOCKS, _BITMAP, _REPARSE = 0x80, 0x90, 0xA0, 0xB0, 0xC0
_INDEX = "$I30"
_VOLUME_RECORD, _ROOT_RECORD, _FIRST_SHOWN = 3, 5, 16
_IN_USE, _IS_DIRECTORY = 1, 2
_COMPRESSED, _ENCRYPTED = 0x1, 0x4000
_READ_ONLY = 0x1
_LAST_ENTRY = 2
_DOS_NAME = 2
_DIRTY = 1
_RECORD_BITS = (1 << 48) - 1
_EPOCH_TICKS = 116_444_736_000_000_000
_LIST_BYTES_MAX = 1 << 20
_PARTS_MAX = 4096
_LINK_TAGS = {0xA000000C: 20, 0xA0000003: 16}
"""Reparse tags of links, with where the names begin."""
_LINUX_LINK_TAG = 0xA000001D
_FILTERED_TAGS = {0x80000017: "compressed as a whole by Windows", 0x80000013: "kept by Windows deduplication"}


class Ntfs(FileSystem):
    """One NTFS. `ref` is the number of a file record."""

    name = "ntfs"
    has_owners = False
    root_ref = _ROOT_RECORD

    def __init__(self, volume: Range) -> None:
        super().__init__(volume)
        raw = volume.read(0, 512)
        sector_bytes, sectors = struct.unpack_from("<HB", raw, 11)
        table_cluster = struct.unpack_from("<Q", raw, 48)[0]
        record_clusters = struct.unpack_from("<b", raw, 64)[0]
        self._cluster_bytes = sector_bytes * (sectors if sectors <= 0x80 else 1 << 256 - sectors)
        self._record_bytes = (
            1 << -record_clusters if record_clusters < 0 else record_clusters * self._cluster_bytes
        )
        if self._cluster_bytes not in (1 << n for n in range(9, 22)):
            raise Unreadable("its boot sector is damaged")
        if self._record_bytes not in (512, 1024, 2048, 4096):
            raise Unreadable("its boot sector is damaged")
        self.uuid = f"{struct.unpack_from('<Q', raw, 72)[0]:016X}"
        self._last: tuple[int, int, list[Attribute]] = (-1, 0, [])
        place = table_cluster * self._cluster_bytes
        self._table = [Run(0, self._record_bytes * _FIRST_SHOWN, place)]
        self._table_begins = [0]
        self._table = list(self._attribute_runs(self._record(0)[1], _DATA, ""))
        self._table_begins = [run.offset for run in self._table]
        _, found = self._record(_VOLUME_RECORD)
        for attribute in found:
            if attribute.type == _VOLUME_NAME and attribute.value is not None:
                self.label = attribute.value.decode("utf-16-le", "replace")
            elif attribute.type == _VOLUME_STATE and attribute.value is not None:
                self.is_unclean = bool(struct.unpack_from("<H", attribute.value, 10)[0] & _DIRTY)

    @staticmethod
    def is_here(volume: Range) -> bool:
        """True if the name stands there."""
        return volume.size_bytes >= 1 << 16 and volume.read(3, 8) == b"NTFS    "

    # ---- records -------------------------------------------------------------------------------------------

    def _record(self, ref: int) -> tuple[int, list[Attribute]]:
        """Flags and attributes of a file, those in further records too."""
        if self._last[0] != ref:
            raw = self._raw_record(ref)
            flags = struct.unpack_from("<H", raw, 22)[0]
            if not flags & _IN_USE:
                raise Unreadable(f"file record {ref} is not in use")
            found = list(attributes_in(raw))
            listed = next((one for one in found if one.type == _LIST), None)
            if listed is not None:
                found = [one for one in found if one.type != _LIST]
                for further in self._further(ref, listed):
                    found += attributes_in(self._raw_record(further))
            self._last = (ref, flags, found)
        return self._last[1:]

    def _raw_record(self, ref: int) -> bytes:
        offset = ref * self._record_bytes
        number = bisect_right(self._table_begins, offset) - 1
        run = self._table[number]
        if number < 0 or offset >= run.offset + run.length or run.place < 0:
            raise Unreadable(f"there is no file record {ref}")
        raw = self.volume.read(run.place + offset - run.offset, self._record_bytes)
        return fixed_up(raw, b"FILE")

    def _further(self, ref: int, listed: Attribute) -> list[int]:
        raw = listed.value
        if raw is None:
            if listed.size_bytes > _LIST_BYTES_MAX:
                raise Unreadable("a list of attributes of impossible length")
            raw = self._joined(cluster_runs([listed], self._cluster_bytes), listed.size_bytes)
        records: dict[int, None] = {}
        at = 0
        while at + 26 <= len(raw):
            length = struct.unpack_from("<H", raw, at + 4)[0]
            record = struct.unpack_from("<Q", raw, at + 16)[0] & _RECORD_BITS
            if record != ref:
                records[record] = None
            if length < 26 or len(records) > _PARTS_MAX:
                raise Unreadable("a list of attributes is damaged")
            at += length
        return list(records)

    def _joined(self, runs: Iterator[Run], size_bytes: int) -> bytes:
        """Content of an attribute in clusters that is known to be small."""
        out = b""
        for run in runs:
            count = min(run.length, size_bytes - len(out), READ_BYTES_MAX)
            out += bytes(count) if run.place < 0 else self.volume.read(run.place, count)
            if len(out) >= size_bytes:
                break
        return out

    def _attribute_runs(self, found: list[Attribute], kind: int, name: str) -> Iterator[Run]:
        parts = [one for one in found if one.type == kind and one.name == name and one.value is None]
        return cluster_runs(parts, self._cluster_bytes)

    def node(self, ref: int) -> Node:
        """See FileSystem."""
        flags, found = self._record(ref)
        mtime = ctime = bits = size = 0
        links = 0
        kind = DIRECTORY if flags & _IS_DIRECTORY else FILE
        for one in found:
            if one.type == _STANDARD and one.value is not None:
                mtime, ctime = struct.unpack_from("<QQ", one.value, 8)
                bits = struct.unpack_from("<I", one.value, 32)[0]
            elif one.type == _FILE_NAME and one.value is not None:
                links += one.value[65] != _DOS_NAME
            elif one.type == _DATA and not one.name and not one.first_cluster:
                size = one.size_bytes
            elif one.type == _REPARSE and self._link(one):
                kind = SYMLINK
        mode = {DIRECTORY: 0o755, SYMLINK: 0o777, FILE: 0o644}[kind]
        if bits & _READ_ONLY and kind == FILE:
            mode = 0o444
        size = size if kind == FILE else 0
        links = 1 if kind == DIRECTORY else max(1, links)
        return Node(ref, kind, mode, 0, 0, size, _time_ns(mtime), _time_ns(ctime), links)

    def link_target(self, node: Node) -> bytes:
        """See FileSystem: of links and junctions, with slashes."""
        for one in self._record(node.ref)[1]:
            if one.type == _REPARSE:
                return self._link(one)
        raise Unreadable("a link is damaged")

    def _link(self, reparse: Attribute) -> bytes:
        """Target of a reparse point; empty if it is no link."""
        raw = reparse.value
        if raw is None:
            return b""
        tag = struct.unpack_from("<I", raw)[0]
        if tag == _LINUX_LINK_TAG:
            return raw[12:]
        if tag not in _LINK_TAGS:
            return b""
        at, length = struct.unpack_from("<HH", raw, 8)
        begin = _LINK_TAGS[tag] + at
        target = utf16_name(raw[begin : begin + length])
        return target.removeprefix(b"\\??\\").replace(b"\\", b"/")

    # ---- content -------------------------------------------------------------------------------------------

    def content_runs(self, node: Node) -> Iterator[Run]:
        """See FileSystem."""
        _, found = self._record(node.ref)
        for one in found:
            if one.type == _REPARSE and one.value is not None:
                reason = _FILTERED_TAGS.get(struct.unpack_from("<I", one.value)[0])
                if reason:
                    raise Unreadable(f"the file is {reason}")
        data = self._content(found)
        if data is None or not node.size_bytes:
            return
        if data.flags & _ENCRYPTED:
            raise Unreadable("the file is encrypted")
        if data.value is not None or data.flags & _COMPRESSED:
            yield Run(0, node.size_bytes, CODED)
            return
        for run in self._attribute_runs(found, _DATA, ""):
            if run.offset >= data.written_bytes:
                return
            yield Run(run.offset, min(run.length, data.written_bytes - run.offset), run.place)

    def _content(self, found: list[Attribute]) -> Attribute | None:
        for one in found:
            if one.type == _DATA and not one.name and not one.first_cluster:
                return one
        return None

    def read_coded(self, node: Node, offset: int, length: int) -> bytes:
        """See FileSystem: content within the record, and compressed content."""
        _, found = self._record(node.ref)
        data = self._content(found)
        if data is None:
            raise Unreadable("a file is damaged")
        if data.value is not None:
            return data.value[offset : offset + length]
        unit_bytes = self._cluster_bytes << data.unit_log
        if not 0 < data.unit_log <= 4 or unit_bytes > READ_BYTES_MAX:
            raise Unreadable("a compressed file is damaged")
        runs = list(self._attribute_runs(found, _DATA, ""))
        begins = [run.offset for run in runs]
        first = offset // unit_bytes
        parts = [
            self._unit(runs, begins, number * unit_bytes, unit_bytes)
            for number in range(first, -(-(offset + length) // unit_bytes))
        ]
        skipped = offset - first * unit_bytes
        plain = b"".join(parts)[skipped : skipped + length]
        # What was never written reads as zeros.
        return plain[: max(0, data.written_bytes - offset)].ljust(length, b"\0")

    def _unit(self, runs: list[Run], begins: list[int], at: int, unit_bytes: int) -> bytes:
        """One compression unit: whole as it is, or compressed in its first clusters, or a hole."""
        end = at + unit_bytes
        raw = b""
        number = max(0, bisect_right(begins, at) - 1)
        for run in runs[number:]:
            if run.offset >= end:
                break
            begin, stop = max(at, run.offset), min(end, run.offset + run.length)
            if run.place != HOLE and begin < stop:
                raw += self.volume.read(run.place + begin - run.offset, stop - begin)
        if len(raw) == unit_bytes:
            return raw
        if not raw:
            return bytes(unit_bytes)
        return lznt1_decompressed(raw, unit_bytes).ljust(unit_bytes, b"\0")

    # ---- directories ---------------------------------------------------------------------------------------

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        """See FileSystem. Short names beside long ones, and the files of NTFS itself, are left out."""
        flags, found = self._record(ref)
        if not flags & _IS_DIRECTORY:
            raise Unreadable("that is no directory")
        count = 0
        for node in self._index_nodes(found):
            for name, child in _names(node):
                count += 1
                if count > DIRECTORY_NAMES_MAX:
                    raise Unreadable("a directory with more names than can be kept in mind")
                if child >= _FIRST_SHOWN:
                    yield name, child

    def _index_nodes(self, found: list[Attribute]) -> Iterator[bytes]:
        root = next((one for one in found if one.type == _INDEX_ROOT and one.name == _INDEX), None)
        if root is None or root.value is None:
            raise Unreadable("a directory is damaged")
        yield root.value[16:]
        block_bytes = struct.unpack_from("<I", root.value, 8)[0]
        if block_bytes not in (512, 1024, 2048, 4096, 8192, 16384, 32768, 65536):
            raise Unreadable("a directory is damaged")
        used = next((one for one in found if one.type == _BITMAP and one.name == _INDEX), None)
        if used is None:
            return
        bits = used.value
        if bits is None:
            bits = self._joined(
                self._attribute_runs(found, _BITMAP, _INDEX), min(used.size_bytes, READ_BYTES_MAX)
            )
        number = 0
        pending = b""
        for run in self._attribute_runs(found, _INDEX_BLOCKS, _INDEX):
            step = max(block_bytes, self._cluster_bytes)
            for at in range(0, run.length, min(step, run.length)):
                if run.place < 0:
                    raise Unreadable("a directory is damaged")
                pending += self.volume.read(run.place + at, min(step, run.length - at))
                while len(pending) >= block_bytes:
                    block, pending = pending[:block_bytes], pending[block_bytes:]
                    if number // 8 < len(bits) and bits[number // 8] >> number % 8 & 1:
                        yield fixed_up(block, b"INDX")[24:]
                    number += 1


def _names(node: bytes) -> Iterator[tuple[bytes, int]]:
    at, total = struct.unpack_from("<II", node)
    if total > len(node):
        raise Unreadable("a directory is damaged")
    while at + 16 <= total:
        child, length, key_bytes, flags = struct.unpack_from("<QHHH", node, at)
        if flags & _LAST_ENTRY:
            return
        if length < 16 or at + length > total or 16 + key_bytes > length:
            raise Unreadable("a directory is damaged")
        key = node[at + 16 : at + 16 + key_bytes]
        name_length, space = struct.unpack_from("<BB", key, 64)
        if space != _DOS_NAME:
            yield utf16_name(key[66 : 66 + 2 * name_length]), child & _RECORD_BITS
        at += length


def _time_ns(ticks: int) -> int:
    return (ticks - _EPOCH_TICKS) * 100 if ticks else 0
