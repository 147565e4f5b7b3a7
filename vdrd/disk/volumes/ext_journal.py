"""The journal of ext3 and ext4 (JBD2), replayed in memory: which block would hold which of its blocks."""

import struct
from collections.abc import Callable, Iterator

from vdrd.disk.volumes.ranges import Range, Unreadable, check_range

_MAGIC = 0xC03B3998
_DESCRIPTOR, _COMMIT, _REVOKE = 1, 2, 5
_SUPERBLOCKS = (3, 4)
_WIDE, _CHECKSUM_2, _CHECKSUM_3, _FAST_COMMIT = 0x2, 0x8, 0x10, 0x20
_REVOKE_FEATURE, _ASYNC = 0x1, 0x4
_ESCAPED, _SAME_UUID, _LAST = 1, 2, 8
_BLOCKS_MAX = 1 << 20


class ReplayedVolume:
    """A volume with the blocks of a journal in their places."""

    def __init__(self, volume: Range, blocks: dict[int, bytes], block_bytes: int) -> None:
        self._volume = volume
        self._blocks = blocks
        self._block_bytes = block_bytes
        self.size_bytes = volume.size_bytes

    def read(self, offset: int, length: int) -> bytes:
        """See Range."""
        first, last = offset // self._block_bytes, (offset + max(length, 1) - 1) // self._block_bytes
        plain = self._volume.read(offset, length)
        touched = [n for n in range(first, last + 1) if n in self._blocks]
        if not touched:
            return plain
        out = bytearray(plain)
        for number in touched:
            start = number * self._block_bytes - offset
            block = self._blocks[number]
            begin, end = max(start, 0), min(start + self._block_bytes, length)
            out[begin:end] = block[begin - start : end - start]
        return bytes(out)

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """See Range. Content of files that the journal holds itself (data=journal) has no place on the
        disk."""
        check_range(offset, length, self.size_bytes)
        first, last = offset // self._block_bytes, (offset + max(length, 1) - 1) // self._block_bytes
        if last - first < len(self._blocks):
            is_touched = any(number in self._blocks for number in range(first, last + 1))
        else:
            is_touched = any(first <= number <= last for number in self._blocks)
        if is_touched:
            raise Unreadable("its content stands in the journal")
        return self._volume.pieces(offset, length)


def replayed(read: Callable[[int, int], bytes], size_bytes: int, block_bytes: int) -> dict[int, bytes]:
    """Blocks that the committed transactions of a journal hold, by number. Raises Unreadable."""
    head = read(0, 1024)
    magic, kind, _, journal_block_bytes, _, first, sequence, start = struct.unpack_from(">8I", head)
    end = struct.unpack_from(">I", head, 16)[0]
    if magic != _MAGIC or kind not in _SUPERBLOCKS or journal_block_bytes != block_bytes:
        raise Unreadable("its journal is damaged")
    features = struct.unpack_from(">I", head, 40)[0] if kind == _SUPERBLOCKS[1] else 0
    if features & ~(_REVOKE_FEATURE | _WIDE | _ASYNC | _CHECKSUM_2 | _CHECKSUM_3 | _FAST_COMMIT):
        raise Unreadable("its journal has unknown features")
    if features & _FAST_COMMIT:
        end -= struct.unpack_from(">I", head, 84)[0] or 256
    if not start:
        return {}
    if not (0 < first < end <= size_bytes // block_bytes and first <= start < end):
        raise Unreadable("its journal is damaged")
    walk = _Walk(read, block_bytes, features, first, end)
    return walk.run(start, sequence)


class _Walk:
    """Reads the log from its start, transaction by transaction, until one is not committed."""

    def __init__(
        self, read: Callable[[int, int], bytes], block_bytes: int, features: int, first: int, end: int
    ) -> None:
        self._read = read
        self._block_bytes = block_bytes
        self._features = features
        self._first = first
        self._end = end
        self._left = end - first
        self._written: dict[int, tuple[int, int, bool]] = {}
        self._revoked: dict[int, int] = {}

    def run(self, at: int, sequence: int) -> dict[int, bytes]:
        """Blocks to show, by number."""
        pending: list[tuple[int, int, bool]] = []
        revoked: list[int] = []
        while self._left > 0:
            block = self._block(at)
            magic, kind, found = struct.unpack_from(">III", block)
            if magic != _MAGIC or found != sequence & 0xFFFFFFFF:
                break
            at = self._next(at)
            if kind == _DESCRIPTOR:
                for number, is_escaped in self._tags(block):
                    pending.append((number, at, is_escaped))
                    at = self._next(at)
            elif kind == _REVOKE:
                revoked += self._revokes(block)
            elif kind == _COMMIT:
                for number, place, is_escaped in pending:
                    self._written[number] = (sequence, place, is_escaped)
                for number in revoked:
                    self._revoked[number] = sequence
                pending, revoked = [], []
                sequence += 1
            else:
                break
        return dict(self._shown())

    def _shown(self) -> Iterator[tuple[int, bytes]]:
        for number, (sequence, place, is_escaped) in self._written.items():
            # A revoke covers what its own transaction and earlier ones wrote.
            if self._revoked.get(number, -1) >= sequence:
                continue
            block = self._read(place * self._block_bytes, self._block_bytes)
            yield number, _MAGIC.to_bytes(4, "big") + block[4:] if is_escaped else block

    def _block(self, at: int) -> bytes:
        return self._read(at * self._block_bytes, self._block_bytes)

    def _next(self, at: int) -> int:
        self._left -= 1
        if self._left < 0 or len(self._written) > _BLOCKS_MAX:
            raise Unreadable("its journal goes in a circle")
        return at + 1 if at + 1 < self._end else self._first

    def _tags(self, block: bytes) -> Iterator[tuple[int, bool]]:
        is_wide, is_third = bool(self._features & _WIDE), bool(self._features & _CHECKSUM_3)
        tag_bytes = 16 if is_third else (12 if is_wide else 8) + 2 * bool(self._features & _CHECKSUM_2)
        room = len(block) - 4 * bool(self._features & (_CHECKSUM_2 | _CHECKSUM_3))
        at = 12
        while at + tag_bytes <= room:
            if is_third:
                number, flags, high = struct.unpack_from(">III", block, at)
            else:
                number, _, flags = struct.unpack_from(">IHH", block, at)
                high = struct.unpack_from(">I", block, at + 8)[0] if is_wide else 0
            yield number | (high << 32 if is_wide else 0), bool(flags & _ESCAPED)
            at += tag_bytes + (0 if flags & _SAME_UUID else 16)
            if flags & _LAST:
                return

    def _revokes(self, block: bytes) -> list[int]:
        used = struct.unpack_from(">I", block, 12)[0]
        if not 16 <= used <= len(block):
            raise Unreadable("its journal is damaged")
        width = 8 if self._features & _WIDE else 4
        return [int.from_bytes(block[at : at + width], "big") for at in range(16, used - width + 1, width)]
