"""Creates files, directories and their attributes in a restore's target (contract: `csrc/lay.h`)."""

from collections.abc import Sequence

from native import buffer
from native._core import ffi, lib
from native.err import check
from native.event import EventList

WANTS_MAX = 64
"""Chunks asked for at once; no entry needs more."""
_EVENTS_BYTES = 4 << 20
"""Room for several events of each entry of a block."""
LINK_STATE: int = lib.VDR_STATE_LINK


def mark_link(block: bytearray, at: int) -> None:
    """Mark the record at offset `at` as a further name of a file that another record creates."""
    block[at + 4 : at + 6] = LINK_STATE.to_bytes(2, "little")


def wants(block: bytes | bytearray, begin: int) -> tuple[int, bytes]:
    """Chunks (ids, 32 bytes each) that the entries from offset `begin` on need, and up to which offset."""
    records = buffer.readable(block)
    ids = ffi.new("uint8_t[]", 32 * WANTS_MAX)
    end = ffi.new("size_t *")
    count = check(lib.vdr_lay_wants(records, len(block), begin, end, ids, WANTS_MAX), "restore")
    return int(end[0]), bytes(ffi.buffer(ids, 32 * count))


class Lay:
    """Writes to one target directory. For one thread; `root_fd` must stay open meanwhile.

    OSError from any method means that the target is full. `nonce` is unique to restore and thread.
    """

    def __init__(self, root_fd: int, *, overwrites: bool, nonce: int) -> None:
        handle = lib.vdr_lay_open(root_fd, overwrites, nonce)
        if handle == ffi.NULL:
            raise MemoryError
        self._handle = ffi.gc(handle, lib.vdr_lay_close)
        self._written = ffi.new("uint64_t *")
        self.events = EventList(_EVENTS_BYTES)

    def close(self) -> None:
        """Close the directories it holds; not usable afterwards."""
        ffi.release(self._handle)

    @property
    def written_bytes(self) -> int:
        """Bytes of content written by `files`."""
        return int(self._written[0])

    def directories(self, block: bytes | bytearray) -> int:
        """Make the directories of a block of loose entries."""
        records = buffer.readable(block)
        return check(
            lib.vdr_lay_directories(self._handle, records, len(block), self.events.handle), "restore"
        )

    def files(
        self, block: bytes | bytearray, begin: int, end: int, ids: bytes, chunks: Sequence[bytes]
    ) -> int:
        """Create what stands between two offsets, from the chunks that `wants` asked for; how many."""
        arrays = [buffer.readable(chunk) for chunk in chunks]
        pointers = ffi.new("uint8_t *[]", arrays or [ffi.NULL])
        lengths = ffi.new("uint32_t[]", [len(chunk) for chunk in chunks] or 1)
        return check(
            lib.vdr_lay_files(
                self._handle,
                buffer.readable(block),
                begin,
                end,
                buffer.readable(ids),
                ffi.cast("uint8_t **", pointers),
                lengths,
                len(chunks),
                self.events.handle,
                self._written,
            ),
            "restore",
        )

    def begin(self, record: bytes) -> int | None:
        """Descriptor of a temporary file for a large file's content; None when it cannot be created."""
        result = lib.vdr_lay_begin(self._handle, buffer.readable(record), self.events.handle)
        return None if result == lib.VDR_E_MISSING else check(result, "restore")

    def end(self, record: bytes, fd: int, *, is_good: bool) -> bool:
        """Name the file that `begin` made, with its attributes, or remove it. Closes `fd`."""
        records = buffer.readable(record)
        return bool(lib.vdr_lay_end(self._handle, records, fd, is_good, self.events.handle))

    def link(self, record: bytes, first: bytes) -> bool:
        """Give the file at path `first` the name of `record` too."""
        records = buffer.readable(record)
        return bool(
            lib.vdr_lay_link(self._handle, records, buffer.readable(first), len(first), self.events.handle)
        )

    def flags(self, record: bytes) -> bool:
        """Set inode flags of what `record` names."""
        return bool(lib.vdr_lay_flags(self._handle, buffer.readable(record), self.events.handle))

    def finish(self, block: bytes | bytearray, *, is_end: bool = False) -> int:
        """Set the attributes of directories whose subtree ends in this block."""
        records = buffer.readable(block)
        return check(
            lib.vdr_lay_finish(self._handle, records, len(block), is_end, self.events.handle), "restore"
        )
