"""A ChunkSource that remembers what was fetched lately: neighbouring small files share a chunk."""

import threading
from collections import OrderedDict

from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkSource

_KEPT_BYTES = 32 << 20
"""A directory's worth of shared chunks, for programs that walk a tree."""


class RecentChunks:
    """Chunks of `source`, the last 32 MiB of them from memory. Thread-safe."""

    def __init__(self, source: ChunkSource) -> None:
        self._source = source
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._kept_bytes = 0

    def fetch(self, ids: bytes) -> list[bytes]:
        """Plain bytes of each chunk, in order. Raises Damaged as the source does."""
        wanted = [ids[at : at + CHUNK_ID_BYTES] for at in range(0, len(ids), CHUNK_ID_BYTES)]
        with self._lock:
            found = {chunk_id: self._kept[chunk_id] for chunk_id in wanted if chunk_id in self._kept}
            for chunk_id in found:
                self._kept.move_to_end(chunk_id)
        missing = [chunk_id for chunk_id in dict.fromkeys(wanted) if chunk_id not in found]
        if missing:
            fetched = dict(zip(missing, self._source.fetch(b"".join(missing)), strict=True))
            self._keep(fetched)
            found |= fetched
        return [found[chunk_id] for chunk_id in wanted]

    def _keep(self, fetched: dict[bytes, bytes]) -> None:
        with self._lock:
            for chunk_id, plain in fetched.items():
                if chunk_id not in self._kept:
                    self._kept[chunk_id] = plain
                    self._kept_bytes += len(plain)
            while self._kept_bytes > _KEPT_BYTES:
                self._kept_bytes -= len(self._kept.popitem(last=False)[1])
