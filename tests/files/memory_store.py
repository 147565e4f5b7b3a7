"""A chunk sink and source in memory that keeps the contract of `vdrd.model.chunks`, and checks it."""

import hashlib
import struct
import threading

import zstandard

from native import blake3
from vdrd.model.chunks import CHUNK_BYTES_MAX, ChunkKeys, ChunkKind, EncodedBatch
from vdrd.model.errors import Damaged

KEYS = ChunkKeys(
    id_keys={kind: hashlib.sha256(f"id {kind}".encode()).digest() for kind in ChunkKind},
    cut_key=hashlib.sha256(b"cut").digest(),
)


class MemoryStore:
    """Sink and source in one."""

    def __init__(self) -> None:
        self.chunks: dict[bytes, bytes] = {}
        self.kinds: dict[bytes, ChunkKind] = {}
        self.fetched: list[bytes] = []
        self._claimed: set[bytes] = set()
        self._lock = threading.Lock()
        self.stored_bytes = 0

    @property
    def keys(self) -> ChunkKeys:
        return KEYS

    @property
    def compression_level(self) -> int | None:
        return 1

    def claim(self, ids: bytes) -> bytes:
        answers = bytearray()
        with self._lock:
            for at in range(0, len(ids), 32):
                chunk_id = ids[at : at + 32]
                is_lacking = chunk_id not in self.chunks and chunk_id not in self._claimed
                self._claimed.add(chunk_id)
                answers.append(is_lacking)
        return bytes(answers)

    def put(self, batch: EncodedBatch) -> None:
        at = 0
        payload = bytes(batch.payload)
        for i, (plain_bytes, encoded_bytes, codec, kind, zero) in enumerate(
            struct.iter_unpack("<IIBBH", batch.table)
        ):
            encoded = payload[at : at + encoded_bytes]
            at += encoded_bytes
            plain = zstandard.decompress(encoded, plain_bytes) if codec else encoded
            chunk_id = batch.ids[32 * i : 32 * i + 32]
            assert zero == 0
            assert len(plain) == plain_bytes
            assert 0 < plain_bytes <= CHUNK_BYTES_MAX
            assert blake3.keyed(KEYS.id_keys[ChunkKind(kind)], plain) == chunk_id
            with self._lock:
                assert chunk_id in self._claimed
                assert chunk_id not in self.chunks
                self.chunks[chunk_id] = plain
                self.kinds[chunk_id] = ChunkKind(kind)
                self.stored_bytes += encoded_bytes
        assert at == len(payload)
        assert 32 * (len(batch.table) // 12) == len(batch.ids)

    def lose(self, chunk_id: bytes) -> None:
        """Forget a chunk, as a storage does whose pack was removed."""
        del self.chunks[chunk_id]
        self._claimed.discard(chunk_id)

    def fetch(self, ids: bytes) -> list[bytes]:
        plains = []
        for at in range(0, len(ids), 32):
            chunk_id = ids[at : at + 32]
            if chunk_id not in self.chunks:
                raise Damaged(what=f"chunk {chunk_id.hex()}", reason="it is missing")
            self.fetched.append(chunk_id)
            plains.append(self.chunks[chunk_id])
        return plains
