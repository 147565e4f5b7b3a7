"""Partition tables: GPT (UEFI 2.10, chapter 5), with its backup, and MBR with extended partitions."""

import struct
import zlib
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

from vdrd.disk.volumes.ranges import READ_BYTES_MAX, Range, Slice, Unreadable

_SECTOR_BYTES = (512, 4096)
_GPT_MAGIC = b"EFI PART"
_GPT_ENTRIES_MAX = 1024
_GPT_HEADER = struct.Struct("<8s4sIIIQQQQ16sQIII")
_GPT_ENTRY = struct.Struct("<16s16sQQQ72s")
_MBR_ENTRY = struct.Struct("<B3xB3xII")
_PROTECTIVE = 0xEE
_EXTENDED = {0x05, 0x0F, 0x85}
_LOGICAL_MAX = 256


class Partition(NamedTuple):
    """One partition. `number` is the one that Linux gives it."""

    number: int
    whole: Range
    label: str
    uuid: str


def partitions(disk: Range) -> list[Partition] | None:
    """Partitions by number; None if there is no table. One that goes beyond the disk's end is left out."""
    for sector_bytes in _SECTOR_BYTES:
        found = _gpt(disk, sector_bytes)
        if found is not None:
            return found
    return _mbr(disk)


def _gpt(disk: Range, sector_bytes: int) -> list[Partition] | None:
    last = disk.size_bytes // sector_bytes - 1
    for sector in (1, last):
        if 1 <= sector <= last:
            entries = _gpt_entries(disk, sector, sector_bytes)
            if entries is not None:
                return list(_gpt_partitions(disk, entries, sector_bytes))
    return None


def _gpt_entries(disk: Range, sector: int, sector_bytes: int) -> list[bytes] | None:
    """Entries of the table whose header stands in `sector`, if both checksums are right."""
    raw = disk.read(sector * sector_bytes, sector_bytes)
    if not raw.startswith(_GPT_MAGIC):
        return None
    _, _, header_bytes, crc, _, own, _, _, _, _, first, count, entry_bytes, entries_crc = (
        _GPT_HEADER.unpack_from(raw)
    )
    if not _GPT_HEADER.size <= header_bytes <= sector_bytes or own != sector:
        return None
    if zlib.crc32(raw[:16] + bytes(4) + raw[20:header_bytes]) != crc:
        return None
    if (
        not 128 <= entry_bytes <= 4096
        or not 0 < count <= _GPT_ENTRIES_MAX
        or count * entry_bytes > READ_BYTES_MAX
    ):
        return None
    try:
        table = disk.read(first * sector_bytes, count * entry_bytes)
    except Unreadable:
        return None
    if zlib.crc32(table) != entries_crc:
        return None
    return [table[i * entry_bytes : (i + 1) * entry_bytes] for i in range(count)]


def _gpt_partitions(disk: Range, entries: list[bytes], sector_bytes: int) -> Iterator[Partition]:
    for number, raw in enumerate(entries, 1):
        kind, unique, first, last, _, name = _GPT_ENTRY.unpack_from(raw)
        if kind == bytes(16):
            continue
        try:
            whole = Slice(disk, first * sector_bytes, (last - first + 1) * sector_bytes)
        except Unreadable:
            continue
        label = name.decode("utf-16-le", "replace").partition("\0")[0]
        yield Partition(number, whole, label, str(UUID(bytes_le=unique)))


def _mbr(disk: Range) -> list[Partition] | None:
    if disk.size_bytes < 512:
        return None
    raw = disk.read(0, 512)
    entries = _mbr_entries(raw)
    if entries is None or _is_boot_sector(raw):
        return None
    serial = f"{struct.unpack_from('<I', raw, 440)[0]:08x}"
    sectors = disk.size_bytes // 512
    found: list[Partition] = []
    for number, (kind, first, count) in enumerate(entries, 1):
        if not kind or not count or kind == _PROTECTIVE:
            continue
        if first < 1 or first >= sectors:
            return None
        if kind in _EXTENDED:
            found += _logical(disk, first, serial)
        elif first + count <= sectors:
            found.append(
                Partition(number, Slice(disk, first * 512, count * 512), "", f"{serial}-{number:02x}")
            )
    return sorted(found, key=lambda partition: partition.number) or None


def _mbr_entries(raw: bytes) -> list[tuple[int, int, int]] | None:
    """Type, first sector and count of the four entries; None if it is no such table."""
    if raw[510:512] != b"\x55\xaa":
        return None
    entries = [_MBR_ENTRY.unpack_from(raw, 446 + 16 * i) for i in range(4)]
    if any(status & 0x7F for status, *_ in entries):
        return None
    return [(kind, first, count) for _, kind, first, count in entries]


def _is_boot_sector(raw: bytes) -> bool:
    """True for the first sector of FAT, exFAT and NTFS, which ends like a table."""
    return raw[3:11] in (b"NTFS    ", b"EXFAT   ") or raw[54:57] == b"FAT" or raw[82:85] == b"FAT"


def _logical(disk: Range, extended: int, serial: str) -> Iterator[Partition]:
    at = extended
    seen = set()
    number = 5
    while at not in seen and number < 5 + _LOGICAL_MAX and (at + 1) * 512 <= disk.size_bytes:
        seen.add(at)
        entries = _mbr_entries(disk.read(at * 512, 512))
        if entries is None:
            return
        (kind, first, count), (next_kind, next_first, _) = entries[:2]
        if kind and count and (at + first + count) * 512 <= disk.size_bytes:
            whole = Slice(disk, (at + first) * 512, count * 512)
            yield Partition(number, whole, "", f"{serial}-{number:02x}")
        number += 1
        if next_kind not in _EXTENDED:
            return
        at = extended + next_first
