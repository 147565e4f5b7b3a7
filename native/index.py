"""Chunk index (contract: `csrc/index.h`)."""

import struct
from typing import Any

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.err import NativeError, check

ID_BYTES = 32
ENTRY_BYTES: int = lib.VDR_INDEX_ENTRY_BYTES
NO_PACK: int = lib.VDR_INDEX_NO_PACK
PLANES: int = lib.VDR_INDEX_PLANES
PLACE_BYTES = 16
"""A place as it lies in memory: `<IIII` pack, offset, stored bytes, plain bytes."""
DAMAGE = struct.Struct("<II32s")


class Index:
    """Owns one reference to a `vdr_index`. Thread-safe but for `close`, which comes after all other calls."""

    def __init__(self) -> None:
        handle = lib.vdr_index_open()
        if handle == ffi.NULL:
            raise MemoryError
        self.handle: Any = ffi.gc(handle, lib.vdr_index_close)

    def close(self) -> None:
        """Drop the reference. Readers keep their own."""
        ffi.release(self.handle)

    def pack_add(self, pack_id: bytes, domain: int = 0, epoch: int = 0) -> int:
        """Number of a pack, made known if need be."""
        return check(
            lib.vdr_index_pack_add(self.handle, buffer.key(pack_id, 16), domain, epoch), "index pack"
        )

    def pack_find(self, pack_id: bytes) -> int | None:
        """Number of a pack, None when unknown."""
        number = int(lib.vdr_index_pack_find(self.handle, buffer.key(pack_id, 16)))
        return None if number < 0 else number

    def pack_id(self, pack: int) -> bytes | None:
        """Id of a pack, None when it is retired or unknown."""
        out = ffi.new("uint8_t[16]")
        domain, epoch = ffi.new("uint32_t *"), ffi.new("uint32_t *")
        found = lib.vdr_index_pack_get(self.handle, pack, out, domain, epoch)
        return bytes(ffi.buffer(out)) if found >= 0 else None

    @property
    def pack_count(self) -> int:
        """Packs ever made known, retired ones included: numbers are below this."""
        return int(lib.vdr_index_pack_count(self.handle))

    def pack_retire(self, pack: int, ids: bytes = b"") -> bool:
        """Pass over a pack from now on; False, and nothing happens, if one of `ids` was claimed in it."""
        result = lib.vdr_index_pack_retire(self.handle, pack, buffer.readable(ids), len(ids) // ID_BYTES)
        return check(result, "index pack") == 1

    def segment_add(self, fd: int, entries_offset: int, count: int, packs: Buffer) -> int:
        """Map a segment; `packs` are uint32 pack numbers. Returns its handle."""
        numbers = buffer.readable(packs, "uint32_t")
        return check(
            lib.vdr_index_segment_add(self.handle, fd, entries_offset, count, numbers, len(numbers)),
            "index segment",
        )

    def segment_drop(self, segment: int) -> None:
        """Unmap a segment whose entries stand elsewhere or are unwanted."""
        check(lib.vdr_index_segment_drop(self.handle, segment), "index segment")

    def insert(self, ids: Buffer, places: Buffer) -> int:
        """Put entries in the table (16 bytes of `places` for 32 of `ids`); returns how many were new."""
        id_array, place_array = buffer.readable(ids), buffer.readable(places, "vdr_place")
        count = len(id_array) // ID_BYTES
        if len(place_array) != count:
            raise ValueError("one place for each id is needed")
        return check(lib.vdr_index_insert(self.handle, id_array, place_array, count), "index insert")

    def find(self, ids: Buffer) -> bytearray:
        """Places of chunks, 16 bytes each; NO_PACK where a chunk has none."""
        id_array = buffer.readable(ids)
        count = len(id_array) // ID_BYTES
        out = bytearray(count * PLACE_BYTES)
        check(
            lib.vdr_index_find(self.handle, id_array, count, buffer.writable(out, "vdr_place")), "index find"
        )
        return out

    def claim(self, ids: Buffer, domain: int = 0) -> bytearray:
        """One byte a chunk: 1 where it has no place in a pack of this key domain that is whole. Chunks that
        have one are touched."""
        id_array = buffer.readable(ids)
        out = bytearray(len(id_array) // ID_BYTES)
        result = lib.vdr_index_claim(self.handle, domain, id_array, len(out), buffer.writable(out))
        check(result, "index claim")
        return out

    def lacking(self, ids: Buffer) -> bytearray:
        """One byte a chunk: 1 where it has no place that is whole. Touches nothing."""
        id_array = buffer.readable(ids)
        out = bytearray(len(id_array) // ID_BYTES)
        check(lib.vdr_index_lacking(self.handle, id_array, len(out), buffer.writable(out)), "index lacking")
        return out

    def damage_add(self, pack: int, offset: int, chunk_id: bytes) -> bool:
        """Know that a record does not hold; True when that is news."""
        result = lib.vdr_index_damage_add(self.handle, pack, offset, buffer.key(chunk_id, ID_BYTES))
        return check(result, "index damage") == 1

    def damage_remove(self, pack: int, offset: int) -> bool:
        """Know that a record holds; True when that is news."""
        return check(lib.vdr_index_damage_remove(self.handle, pack, offset), "index damage") == 1

    def damages(self) -> list[tuple[int, int, bytes]]:
        """Records known not to hold, in packs that serve: pack number, offset, chunk id."""
        count = 0
        while True:
            found = ffi.new("vdr_damage[]", count)
            total = int(lib.vdr_index_damage_list(self.handle, found, count))
            if total <= count:
                rows = DAMAGE.iter_unpack(ffi.buffer(found)[: total * DAMAGE.size])
                return sorted((pack, offset, chunk_id) for pack, offset, chunk_id in rows)
            count = total

    @property
    def damage_version(self) -> int:
        """Grows with every change of what `damages` gives."""
        return int(lib.vdr_index_damage_version(self.handle))

    def pack_entries(self, pack: int) -> tuple[bytes, bytes]:
        """Ids (32 bytes each) and places (16 bytes each) of all entries in a pack. Looks at the whole
        index."""
        count = 0
        while True:
            ids, places = bytearray(count * ID_BYTES), bytearray(count * PLACE_BYTES)
            total = int(
                lib.vdr_index_pack_entries(
                    self.handle, pack, buffer.writable(ids), buffer.writable(places, "vdr_place"), count
                )
            )
            if total <= count:
                return bytes(ids[: total * ID_BYTES]), bytes(places[: total * PLACE_BYTES])
            count = total

    def touch_clear(self) -> None:
        """Forget all touches: no backup is open."""
        lib.vdr_index_touch_clear(self.handle)

    def write(self, segments: list[int], *, from_table: bool, translate: Buffer, fd: int, offset: int) -> int:
        """Write merged, sorted entries; `translate` maps pack numbers (uint32, NO_PACK leaves out)."""
        table = buffer.readable(translate, "uint32_t")
        handles = ffi.new("int64_t[]", segments)
        result = lib.vdr_index_write(
            self.handle, handles, len(segments), from_table, table, len(table), fd, offset
        )
        return check(result, "index write")

    def table_drop(self, flags: Buffer) -> int:
        """Take the entries of flagged packs out of the table."""
        array = buffer.readable(flags)
        return check(lib.vdr_index_table_drop(self.handle, array, len(array)), "index table")

    @property
    def table_count(self) -> int:
        """Entries in memory."""
        return int(lib.vdr_index_table_count(self.handle))

    @property
    def segment_entries(self) -> int:
        """Entries in all segments."""
        return int(lib.vdr_index_segment_entries(self.handle))

    def mark_begin(self, plane: int = 0) -> None:
        """Forget earlier marks."""
        lib.vdr_index_mark_begin(self.handle, _plane(plane))

    def mark(self, ids: Buffer, plane: int = 0) -> bytearray:
        """Mark chunks as alive: 0 marked before, 1 marked now, 2 missing."""
        id_array = buffer.readable(ids)
        out = bytearray(len(id_array) // ID_BYTES)
        array = buffer.writable(out)
        check(lib.vdr_index_mark(self.handle, _plane(plane), id_array, len(out), array), "index mark")
        return out

    def unmarked(self, ids: Buffer, plane: int = 0) -> bytearray:
        """1 where a chunk is there and has no mark. Marks nothing."""
        id_array = buffer.readable(ids)
        out = bytearray(len(id_array) // ID_BYTES)
        array = buffer.writable(out)
        check(lib.vdr_index_unmarked(self.handle, _plane(plane), id_array, len(out), array), "index mark")
        return out

    def usage(self) -> list[tuple[int, int]]:
        """Marked bytes (record headers included) and marked chunks of each pack, by number."""
        count = self.pack_count
        live_bytes, live_chunks = ffi.new("uint64_t[]", count), ffi.new("uint32_t[]", count)
        check(lib.vdr_index_usage(self.handle, live_bytes, live_chunks, count), "index usage")
        return list(zip(live_bytes, live_chunks, strict=True))

    def marked(self, pack: int, ids: Buffer) -> bytearray:
        """1 where the marked place of a chunk is in `pack`."""
        id_array = buffer.readable(ids)
        out = bytearray(len(id_array) // ID_BYTES)
        check(
            lib.vdr_index_marked(self.handle, pack, id_array, len(out), buffer.writable(out)), "index marked"
        )
        return out


def _plane(plane: int) -> int:
    if not 0 <= plane < PLANES:
        raise ValueError(f"there are {PLANES} planes of marks, not {plane + 1}")
    return plane


__all__ = ["ENTRY_BYTES", "ID_BYTES", "NO_PACK", "PLACE_BYTES", "Index", "NativeError"]
