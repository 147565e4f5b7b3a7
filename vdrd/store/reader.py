"""Reading chunks of an open storage."""

import os
from array import array
from collections.abc import Callable
from typing import TypeVar

from native.disk import Disk
from native.diskmap import point_disk
from native.index import NO_PACK
from native.reader import FetchFailed, Reader
from vdrd.model.chunks import CHUNK_BYTES_MAX, CHUNK_ID_BYTES
from vdrd.model.errors import Damaged
from vdrd.model.points import DiskRoot
from vdrd.store.index import ChunkIndex

T = TypeVar("T")

CACHE_BYTES = 64 << 20
"""Map nodes and blocks kept for random reads: the nodes of 100 GiB of disk take half of it."""


def serving_cache_bytes(part: int) -> int:
    """Budget for whoever serves disks from points: one of `part` parts of this machine's memory, 4 GiB at
    most. Blocks that are not in it are decoded again, at under a GB a second and core."""
    memory_bytes = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(CACHE_BYTES, min(memory_bytes // part, 4 << 30))


_REASONS = {
    "missing": "it is in no pack",
    "corrupt": "its record does not hold",
    "auth": "its record fails authentication",
    "codec": "its record cannot be decompressed",
    "io": "its pack cannot be read",
    "space": "it is longer than it can be here",
    "crypto": "its key is not known here",
}


class ChunkReader:
    """A ChunkSource over packs. Thread-safe. `native` serves disks without the interpreter."""

    def __init__(
        self,
        index: ChunkIndex,
        reader: Reader,
        *,
        is_alone: bool,
        settle: Callable[[int | None], bool],
        is_confined: bool = False,
        on_refresh: Callable[[], None] = lambda: None,
    ) -> None:
        """`is_alone`: nobody else writes, so what the index lacks is nowhere. `settle` sees to it that what
        this process has put into a pack is in its file, and says whether the pack is its own. `is_confined`:
        to one key domain, in which a chunk of another is not there. `on_refresh`: the index may know new
        packs.
        """
        self._index = index
        self._is_alone = is_alone
        self._settle = settle
        self._is_confined = is_confined
        self._on_refresh = on_refresh
        self.native = reader

    def fetch(self, ids: bytes) -> list[bytes]:
        """Plain bytes of each chunk, in order. Raises Damaged naming the first chunk that is missing or
        wrong."""
        lengths = self._lengths(ids)
        if lengths and max(lengths) > CHUNK_BYTES_MAX:
            raise Damaged(what="index", reason="a chunk's length is out of bounds")
        return self._settled(ids, lambda: self.native.fetch(ids, lengths))

    def fetch_into(self, ids: bytes, out: bytearray | memoryview, piece_bytes: int) -> "array[int]":
        """Like `fetch`, chunk i to out[i * piece_bytes], without an object for each; returns their lengths.

        Raises Damaged too when one is longer than `piece_bytes`.
        """
        count = len(ids) // CHUNK_ID_BYTES
        offsets = array("Q", range(0, count * piece_bytes, piece_bytes))
        room = array("I", [piece_bytes]) * count
        lengths = array("I")
        found = self._settled(ids, lambda: self.native.fetch_into(ids, out, offsets, room))
        lengths.frombytes(bytes(found))
        return lengths

    def _settled(self, ids: bytes, fetch: Callable[[], T]) -> T:
        """What `fetch` gives; asked again when the chunk it lacked may have come to its place meanwhile."""
        try:
            return fetch()
        except FetchFailed as error:
            if error.code == "missing" and not self._is_alone:
                self._lengths(ids)  # looks again, for what another process wrote meanwhile
            elif not self._settle(error.pack):
                raise self._damaged(ids, error.position, error.code, error.pack) from error
        try:
            return fetch()
        except FetchFailed as error:
            raise self._damaged(ids, error.position, error.code, error.pack) from error

    def _lengths(self, ids: bytes) -> "array[int]":
        for is_last in (self._is_alone, True):
            places = array("I")
            places.frombytes(self._index.native.find(ids))
            missing = next((i for i, pack in enumerate(places[0::4]) if pack == NO_PACK), None)
            if missing is None:
                return places[3::4]
            if is_last:
                raise self._damaged(ids, missing, "missing", None)
            self._index.refresh()
            self._on_refresh()
        raise AssertionError

    def _damaged(self, ids: bytes, position: int, code: str, pack: int | None) -> Damaged:
        chunk_id = ids[CHUNK_ID_BYTES * position : CHUNK_ID_BYTES * (position + 1)]
        if code == "crypto" and self._is_confined:
            # Whoever asks may be another tenant, who must not learn that it is there.
            code, pack = "missing", None
        reason = _REASONS.get(code, code)
        pack_id = None if pack is None else self._index.native.pack_id(pack)
        where = f" (pack {pack_id.hex()})" if pack_id else ""
        return Damaged(what=f"chunk {chunk_id.hex()}", reason=reason + where)

    def open_disk(self, root: DiskRoot) -> Disk:
        """Read-only native disk of a point. It stays good until closed, whatever happens to this reader."""
        return point_disk(self.native, root.root_id, root.levels, root.size_bytes, root.block_bytes)

    def statistics(self) -> dict[str, int]:
        """Counters since open."""
        return self.native.statistics()

    def close(self) -> None:
        """Let go of the native reader; disks over it keep it."""
        self.native.close()
