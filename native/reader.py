"""Reading chunks by id (contract: `csrc/reader.h`)."""

from array import array
from typing import Any

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.chunk import KEY_TABLE_BYTES
from native.err import NativeError, check
from native.index import NO_PACK, Index


class FetchFailed(Exception):
    """A chunk cannot be read: its place in the request, the error's stable code, its pack's number."""

    def __init__(self, position: int, code: str, pack: int | None, errno: int) -> None:
        super().__init__(f"chunk {position}: {code}")
        self.position = position
        self.code = code
        self.pack = pack
        self.errno = errno


class Reader:
    """Owns one reference to a `vdr_reader`. Thread-safe but for `close`; disks over it keep their own."""

    def __init__(self, index: Index, packs_fd: int, encryption: int, cache_bytes: int) -> None:
        handle = lib.vdr_reader_open(index.handle, packs_fd, encryption, cache_bytes)
        if handle == ffi.NULL:
            raise NativeError("memory", "reader")
        self.handle: Any = ffi.gc(handle, lib.vdr_reader_close)

    def close(self) -> None:
        """Drop the reference."""
        ffi.release(self.handle)

    def keys_add(self, domain: int, epoch: int, id_keys: bytes, pack_root: bytes) -> None:
        """Give the keys of one domain and epoch."""
        result = lib.vdr_reader_keys_add(
            self.handle, domain, epoch, buffer.key(id_keys, KEY_TABLE_BYTES), buffer.key(pack_root, 32)
        )
        check(result, "reader keys")

    def fetch_into(
        self, ids: Buffer, out: bytearray | memoryview, offsets: Buffer, capacities: Buffer
    ) -> bytearray:
        """Read chunks to uint64 `offsets` of `out`, uint32 `capacities` long at most; returns uint32
        lengths."""
        id_array, room = buffer.readable(ids), buffer.writable(out)
        starts, sizes = buffer.readable(offsets, "uint64_t"), buffer.readable(capacities, "uint32_t")
        count = len(sizes)
        if len(id_array) != 32 * count or len(starts) != count:
            raise ValueError("ids, offsets and capacities do not belong together")
        if count and max(o + n for o, n in zip(starts, sizes, strict=True)) > len(room):
            raise ValueError("a chunk would lie outside the buffer")
        lengths = bytearray(4 * count)
        self._fetch(id_array, starts, sizes, room=room, lengths=buffer.writable(lengths, "uint32_t"))
        return lengths

    def _fetch(self, ids: Any, starts: Any, sizes: Any, *, room: Any, lengths: Any) -> None:
        bad, bad_pack = ffi.new("uint64_t *"), ffi.new("uint32_t *")
        result = lib.vdr_reader_fetch(
            self.handle, ids, len(sizes), starts, sizes, room, lengths, bad, bad_pack
        )
        if result < 0:
            code = ffi.string(lib.vdr_err_name(result)).decode()
            pack = None if bad_pack[0] == NO_PACK else int(bad_pack[0])
            raise FetchFailed(int(bad[0]), code, pack, ffi.errno)

    def fetch(self, ids: Buffer, plain_bytes: "array[int]") -> list[bytes]:
        """Plain bytes of chunks, in order; `plain_bytes` ('I') are their lengths as the index has them."""
        id_array, sizes = buffer.readable(ids), buffer.readable(plain_bytes, "uint32_t")
        count = len(sizes)
        if len(id_array) != 32 * count:
            raise ValueError("ids and lengths do not belong together")
        starts = ffi.new("uint64_t[]", count)
        total = 0
        for i, length in enumerate(plain_bytes):
            starts[i] = total
            total += length
        # Not bytearray: clearing the memory first would cost as much as decrypting into it.
        room = _uncleared("uint8_t[]", total)
        lengths = ffi.new("uint32_t[]", count)
        self._fetch(id_array, starts, sizes, room=room, lengths=lengths)
        view = ffi.buffer(room)
        return [view[s : s + n] for s, n in zip(starts, lengths, strict=True)]

    def statistics(self) -> dict[str, int]:
        """Counters since open."""
        counts = ffi.new("vdr_reader_counts *")
        lib.vdr_reader_statistics(self.handle, counts)
        names = ("chunks", "read_bytes", "cache_hits", "cache_misses", "cached_bytes", "ahead_chunks")
        return {name: int(getattr(counts, name)) for name in names}


_uncleared = ffi.new_allocator(should_clear_after_alloc=False)
