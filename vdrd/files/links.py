"""Hard links during a backup: the first name of a file is read, the others take over what was found. Bounded
memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

from native.segment import ENTRY_FIXED_BYTES, PIECE_BYTES, linked_offsets
from vdrd.files.entry import FIXED

GROUPS_MAX = 200_000
"""Files with open names that are remembered; one beyond is read once for every name."""
STATE_LINK = 3
STATE_READ_END = 2
_RECORD, _STATE, _PATH, _NLINK, _TARGET, _ATTRIBUTES, _EXTENTS = 0, 1, 2, 19, 20, 21, 22
_INODE, _MAJOR, _MINOR = 14, 15, 16


@dataclass(slots=True)
class _Group:
    record: bytes
    names_left: int


class LinkGroups:
    """Completes the VDR_STATE_LINK records of blocks that pass in path order."""

    def __init__(self, read: Callable[[bytes], bytes]) -> None:
        self._groups: dict[tuple[int, int, int], _Group] = {}
        self._read = read
        """Reads one record by itself: for a name whose first was not kept."""

    def complete(self, block: bytes) -> bytes:
        """The block with every record complete."""
        parts = []
        begin = 0
        for at in linked_offsets(block):
            fields = FIXED.unpack_from(block, at)
            end = at + fields[_RECORD]
            key = (fields[_MAJOR], fields[_MINOR], fields[_INODE])
            group = self._groups.get(key)
            if fields[_STATE] == STATE_LINK:
                parts.append(block[begin:at])
                begin = end
                if group is not None:
                    parts.append(_renamed(group.record, _path(block, at, fields)))
                else:
                    parts.append(self._reread(block[at:end], key, fields[_NLINK]))
            elif group is None and len(self._groups) < GROUPS_MAX:
                self._groups[key] = group = _Group(block[at:end], fields[_NLINK])
            if group is not None:
                group.names_left -= 1
                if group.names_left <= 0:
                    self._groups.pop(key, None)
        parts.append(block[begin:])
        return b"".join(parts) if len(parts) > 1 else block

    def _reread(self, record: bytes, key: tuple[int, int, int], names: int) -> bytes:
        block = self._read(record[:4] + STATE_READ_END.to_bytes(2, "little") + record[6:])
        if block and len(self._groups) < GROUPS_MAX:
            self._groups[key] = _Group(block, names - 1)
        return block


def _path(block: bytes, at: int, fields: tuple[int, ...]) -> bytes:
    path_at = at + ENTRY_FIXED_BYTES + fields[_EXTENTS] * PIECE_BYTES
    return block[path_at : path_at + fields[_PATH]]


def _renamed(record: bytes, path: bytes) -> bytes:
    """The same file under another path."""
    fields = list(FIXED.unpack_from(record))
    path_at = ENTRY_FIXED_BYTES + fields[_EXTENTS] * PIECE_BYTES
    tail_at = path_at + fields[_PATH]
    tail = record[tail_at : tail_at + fields[_TARGET] + fields[_ATTRIBUTES]]
    body = record[ENTRY_FIXED_BYTES:path_at] + path + tail
    padding = -(ENTRY_FIXED_BYTES + len(body)) % 8
    fields[_RECORD] = ENTRY_FIXED_BYTES + len(body) + padding
    fields[_PATH] = len(path)
    return FIXED.pack(*fields) + body + bytes(padding)
