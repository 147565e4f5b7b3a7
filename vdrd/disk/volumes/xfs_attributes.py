"""Extended attributes of XFS: in the inode, or in a tree of blocks with long values beside it."""

import struct
from collections.abc import Iterator
from typing import Protocol

from vdrd.disk.volumes import acl
from vdrd.disk.volumes.file_system import HOLE, Run
from vdrd.disk.volumes.ranges import Range, Unreadable

_LOCAL, _ROOT, _SECURE, _PARENT, _INCOMPLETE = 1, 2, 4, 8, 0x80
_LEAF_MAGICS, _NODE_MAGICS = (0xFBEE, 0x3BEE), (0xFEBE, 0x3EBE)
_VALUE_HEADER_BYTES = 56
_VALUE_BYTES_MAX = 65536
_LEAVES_MAX = 4096
_DEPTH_MAX = 6
_ACLS = {b"SGI_ACL_FILE": acl.ACCESS, b"SGI_ACL_DEFAULT": acl.DEFAULT}


class _FileSystem(Protocol):
    volume: Range
    block_bytes: int
    is_version_5: bool


def attributes_of(
    is_local: bool, raw: bytes, runs: list[Run], files: _FileSystem
) -> list[tuple[bytes, bytes]]:
    """Names and values. Raises Unreadable and what a parser of damaged bytes may."""
    found = _short(raw) if is_local else _Tree(runs, files).pairs()
    pairs = []
    for flags, name, value in found:
        if flags & (_PARENT | _INCOMPLETE):
            continue
        if flags & _ROOT and name in _ACLS:
            pairs.append((_ACLS[name], acl.from_xfs(value)))
        else:
            prefix = b"trusted." if flags & _ROOT else b"security." if flags & _SECURE else b"user."
            pairs.append((prefix + name, value))
    return pairs


def _short(raw: bytes) -> Iterator[tuple[int, bytes, bytes]]:
    at = 4
    for _ in range(raw[2]):
        name_bytes, value_bytes, flags = raw[at : at + 3]
        at += 3
        end = at + name_bytes + value_bytes
        if end > len(raw):
            raise Unreadable("attributes are damaged")
        yield flags, raw[at : at + name_bytes], raw[at + name_bytes : end]
        at = end


class _Tree:
    def __init__(self, runs: list[Run], files: _FileSystem) -> None:
        self._runs = runs
        self._files = files
        self._info_bytes = 56 if files.is_version_5 else 12

    def pairs(self) -> Iterator[tuple[int, bytes, bytes]]:
        """Flags, name and value of all attributes."""
        if not self._runs:
            return
        number = self._first_leaf()
        for _ in range(_LEAVES_MAX):
            raw = self._block(number)
            if self._magic(raw) not in _LEAF_MAGICS:
                raise Unreadable("attributes are damaged")
            yield from self._leaf(raw)
            number = struct.unpack_from(">I", raw)[0]
            if not number:
                return
        raise Unreadable("attributes go in a circle")

    def _first_leaf(self) -> int:
        number = 0
        for _ in range(_DEPTH_MAX):
            raw = self._block(number)
            if self._magic(raw) not in _NODE_MAGICS:
                return number
            # The first child: its number follows its hash.
            number = struct.unpack_from(
                ">I", raw, self._info_bytes + (8 if self._info_bytes > 12 else 4) + 4
            )[0]
        raise Unreadable("attributes are damaged")

    def _magic(self, raw: bytes) -> int:
        return int.from_bytes(raw[8:10], "big")

    def _block(self, number: int) -> bytes:
        at = number * self._files.block_bytes
        for run in self._runs:
            if run.offset <= at < run.offset + run.length and run.place != HOLE:
                return self._files.volume.read(run.place + at - run.offset, self._files.block_bytes)
        raise Unreadable("attributes are damaged")

    def _leaf(self, raw: bytes) -> Iterator[tuple[int, bytes, bytes]]:
        count = struct.unpack_from(">H", raw, self._info_bytes)[0]
        at = 80 if self._info_bytes > 12 else 32
        if at + 8 * count > len(raw):
            raise Unreadable("attributes are damaged")
        for _, place, flags, _ in struct.iter_unpack(">IHBB", raw[at : at + 8 * count]):
            if flags & _LOCAL:
                value_bytes, name_bytes = struct.unpack_from(">HB", raw, place)
                begin = place + 3
                value = raw[begin + name_bytes : begin + name_bytes + value_bytes]
            else:
                number, value_bytes, name_bytes = struct.unpack_from(">IIB", raw, place)
                begin = place + 9
                value = b"" if flags & _INCOMPLETE else self._value(number, value_bytes)
            name = raw[begin : begin + name_bytes]
            if len(name) != name_bytes or (len(value) != value_bytes and not flags & _INCOMPLETE):
                raise Unreadable("attributes are damaged")
            yield flags, name, value

    def _value(self, number: int, value_bytes: int) -> bytes:
        if value_bytes > _VALUE_BYTES_MAX:
            raise Unreadable("an attribute of impossible length")
        value = b""
        while len(value) < value_bytes:
            raw = self._block(number)
            if self._files.is_version_5:
                if not raw.startswith(b"XARM"):
                    raise Unreadable("attributes are damaged")
                raw = raw[_VALUE_HEADER_BYTES:]
            value += raw
            number += 1
        return value[:value_bytes]
