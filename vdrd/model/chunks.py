"""Chunks as the backup code sees them: where they go to and where they come from.

A chunk is a run of bytes named by a keyed hash (`docs/formats/store.md`). Backup code claims ids, encodes
what is lacking and puts it; restore code fetches. Both work the same against a local storage and against a
node across the network.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

CHUNK_ID_BYTES = 32
CHUNK_BYTES_MAX = 4 << 20
"""No chunk's plain bytes are longer; every reader refuses more before it allocates."""


class ChunkKind(IntEnum):
    """What a chunk holds. Each kind is hashed with a key of its own, so bytes of one kind never answer for
    another."""

    DATA = 1
    MAP_NODE = 2
    MANIFEST_SEGMENT = 3
    MANIFEST_NODE = 4


@dataclass(frozen=True, slots=True)
class ChunkKeys:
    """Keys that name chunks within one key domain (not the encryption key). 32 bytes each."""

    id_keys: dict[ChunkKind, bytes]
    cut_key: bytes
    """Seeds the gear table of the content-defined cuts."""


@dataclass(frozen=True, slots=True)
class EncodedBatch:
    """Chunks ready to travel: compressed or raw, not encrypted.

    `ids` holds 32 bytes each; `table` one little-endian record each, `<IIBBH`: plain bytes, encoded bytes,
    codec (0 raw, 1 zstd), kind, zero; `payload` their encoded bytes back to back.
    """

    ids: bytes
    table: bytes
    payload: bytes | memoryview

    @property
    def count(self) -> int:
        """Number of chunks."""
        return len(self.ids) // CHUNK_ID_BYTES


class ChunkSink(Protocol):
    """Takes the chunks of one backup. Thread-safe: several workers call it at once."""

    @property
    def keys(self) -> ChunkKeys:
        """Keys to name chunks with."""
        ...

    @property
    def compression_level(self) -> int | None:
        """zstd level to encode with, None for raw."""
        ...

    def claim(self, ids: bytes) -> bytes:
        """Ask which of these chunks to send.

        `ids` is n*32 bytes. Returns n bytes: 1 where the sink lacks the chunk and the caller must put it
        before the commit, 0 where it is stored already or was claimed earlier in this same session.
        """
        ...

    def put(self, batch: EncodedBatch) -> None:
        """Store chunks that were claimed. Raises StorageFull or StorageUnwritable (the session is then
        unusable), Damaged when a chunk does not hash to its id."""
        ...


class ChunkSource(Protocol):
    """Gives chunks back. Thread-safe."""

    def fetch(self, ids: bytes) -> list[bytes]:
        """Plain bytes of each chunk, in order. Raises Damaged naming the first chunk that is missing or
        wrong."""
        ...
