"""Names, claims, encodes and puts chunks for one thread, and counts what was new. Knows nothing of files."""

import threading
from array import array
from dataclasses import dataclass, field

from native import blake3
from native.buffer import Buffer
from native.chunk import Encoder
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSink, EncodedBatch


@dataclass(slots=True)
class WrittenCounts:
    """Bytes read, and bytes of the chunks that the sink lacked. Shared by the readers of a run."""

    read_bytes: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_read(self, read_bytes: int) -> None:
        """Count bytes of content."""
        with self._lock:
            self.read_bytes += read_bytes

    def add(self, new_bytes: int, stored_bytes: int) -> None:
        """Count one batch."""
        with self._lock:
            self.new_bytes += new_bytes
            self.stored_bytes += stored_bytes


class ChunkWriter:
    """Writes chunks to a sink. For one thread."""

    def __init__(self, sink: ChunkSink, counts: WrittenCounts) -> None:
        self._sink = sink
        self._counts = counts
        self._keys = sink.keys.id_keys
        self._encoder = Encoder(sink.compression_level)
        self._out = bytearray(0)

    def write(
        self,
        kind: ChunkKind,
        data: Buffer,
        offsets: "array[int] | memoryview",
        lengths: "array[int] | memoryview",
    ) -> bytes:
        """Store the pieces of `data` (offsets of uint64, lengths of uint32) as chunks; their ids, 32 bytes
        each.
        """
        ids = blake3.keyed_batch(self._keys[kind], data, offsets, lengths)
        wanted = self._sink.claim(ids)
        if not any(wanted):
            return ids
        total_bytes = sum(size for size, is_wanted in zip(lengths, wanted, strict=True) if is_wanted)
        if len(self._out) < total_bytes:
            self._out = bytearray(total_bytes)
        table, written = self._encoder.encode(data, offsets, lengths, kind=kind, out=self._out, select=wanted)
        lacking = b"".join(
            ids[i * CHUNK_ID_BYTES : (i + 1) * CHUNK_ID_BYTES]
            for i, is_wanted in enumerate(wanted)
            if is_wanted
        )
        self._sink.put(EncodedBatch(lacking, table, bytes(memoryview(self._out)[:written])))
        self._counts.add(total_bytes, written)
        return ids

    def write_one(self, kind: ChunkKind, plain: bytes) -> bytes:
        """Store one chunk; its id."""
        return self.write(kind, plain, array("Q", [0]), array("I", [len(plain)]))
