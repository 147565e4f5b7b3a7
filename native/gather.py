"""Reads what a batch asks for (contract: `csrc/gather.h`)."""

from enum import IntEnum

from native import buffer
from native._core import ffi, lib
from native.err import NativeError, check
from native.event import EventList
from native.segment import EXTENTS_MAX, PIECE_BYTES

_OUT_BYTES = 4 << 20
_DATA_BYTES = 4 << 20
_PACKS = 256


class GatherStep(IntEnum):
    """`vdr_gather_result`."""

    END = lib.VDR_GATHER_END
    FULL = lib.VDR_GATHER_FULL
    LARGE = lib.VDR_GATHER_LARGE


class Gather:
    """Reader of batches. For one thread; `root_fd` must stay open meanwhile."""

    def __init__(self, root_fd: int, data_id_key: bytes) -> None:
        handle = lib.vdr_gather_open(root_fd, buffer.key(data_id_key, 32))
        if handle == ffi.NULL:
            raise MemoryError
        self._handle = ffi.gc(handle, lib.vdr_gather_close)
        self._out = ffi.new("uint64_t[]", _OUT_BYTES // 8)
        self._records = ffi.cast("uint8_t *", self._out)
        self.data = bytearray(_DATA_BYTES)
        """Packs of the step, at `pack_offsets` and `pack_lengths`."""
        self._data = buffer.writable(self.data)
        self._offsets = ffi.new("uint64_t[]", _PACKS)
        self._lengths = ffi.new("uint32_t[]", _PACKS)
        self.events = EventList()
        self._io = ffi.new("vdr_gather_io *")
        self._io.out = self._records
        self._io.out_bytes = _OUT_BYTES
        self._io.data = self._data
        self._io.data_bytes = _DATA_BYTES
        self._io.pack_offsets = self._offsets
        self._io.pack_lengths = self._lengths
        self._io.pack_capacity = _PACKS
        self._batch = None

    def close(self) -> None:
        """Close the directories it holds; not usable afterwards."""
        ffi.release(self._handle)

    def begin(self, batch: bytes) -> None:
        """Start on a batch from `Merge.take_batch`."""
        self._batch = buffer.readable(batch)
        self._io.batch = self._batch
        self._io.batch_bytes = len(batch)
        self._io.batch_used = 0

    def step(self) -> GatherStep:
        """Go on until the batch ends, buffers are full or a large file is the caller's to read."""
        return GatherStep(
            check(lib.vdr_gather_step(self._handle, self._io, self.events.handle), "file manifest")
        )

    @property
    def pack_count(self) -> int:
        """Packs complete in `data`."""
        return int(self._io.pack_count)

    @property
    def pack_offsets(self) -> memoryview:
        """Where each pack begins, as uint64."""
        return memoryview(ffi.buffer(self._offsets, 8 * self.pack_count)).cast("Q")

    @property
    def pack_lengths(self) -> memoryview:
        """Length of each pack, as uint32."""
        return memoryview(ffi.buffer(self._lengths, 4 * self.pack_count)).cast("I")

    @property
    def data_used(self) -> int:
        """Bytes of `data` in use."""
        return int(self._io.data_used)

    def take_read_bytes(self) -> int:
        """Bytes of small files read since the last call."""
        count = int(self._io.read_bytes)
        self._io.read_bytes = 0
        return count

    @property
    def large_fd(self) -> int:
        """Descriptor of the large file handed over; the caller closes it."""
        return int(self._io.large_fd)

    def refresh_large(self) -> bool:
        """Take the file's newest stat data into its record; True when it changed since the last time."""
        record = self._records + self._io.large_at
        return bool(check(lib.vdr_gather_refresh(self._io.large_fd, record), "stat"))

    def large_entry(self) -> memoryview:
        """Fixed part of the large file's record, writable."""
        return memoryview(ffi.buffer(self._records + self._io.large_at, lib.VDR_ENTRY_FIXED_BYTES))

    def large_path(self) -> bytes:
        """Path of the large file."""
        record = self._records + self._io.large_at
        entry = ffi.cast("vdr_entry *", record)
        at = lib.VDR_ENTRY_FIXED_BYTES + entry.extent_count * PIECE_BYTES
        return bytes(ffi.buffer(record + at, entry.path_bytes))

    def finish_large(self, pieces: bytes, *, size_bytes: int, flags: int) -> None:
        """Complete the large file's record: its pieces (`<32sQII` each), the bytes read, and flags to add."""
        count = len(pieces) // PIECE_BYTES
        if count > EXTENTS_MAX or len(pieces) % PIECE_BYTES:
            raise ValueError("pieces of a wrong length")
        at = self._io.large_at
        entry = ffi.cast("vdr_entry *", self._records + at)
        entry.size_bytes = size_bytes
        entry.flags |= flags
        entry.shared_bytes = lib.VDR_STATE_DONE
        array = ffi.new("vdr_piece[]", max(count, 1))
        ffi.memmove(array, pieces, len(pieces))
        written = check(
            lib.vdr_entry_set_pieces(self._records + at, _OUT_BYTES - at, array, count), "file manifest"
        )
        self._io.out_used = at + written

    def drop_large(self) -> None:
        """Leave the large file out: it vanished."""
        self._io.out_used = self._io.large_at

    def take(self, pack_ids: bytes) -> bytes:
        """The completed entries, packs named by their ids; empties all buffers."""
        used = self._io.out_used
        if len(pack_ids) != 32 * self.pack_count:
            raise NativeError("argument", "one id for each pack is needed")
        ids = buffer.readable(pack_ids)
        check(lib.vdr_entry_name_packs(self._records, used, ids, self.pack_count), "file manifest")
        records = bytes(ffi.buffer(self._out, used))
        self._io.out_used = self._io.data_used = self._io.pack_count = 0
        return records
