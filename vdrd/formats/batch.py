"""Batches of encoded chunks: the table that travels beside the payload."""

import struct
from array import array
from collections.abc import Sequence

from native.chunk import CODEC_RAW, Encoder
from vdrd.model.chunks import ChunkKind, EncodedBatch

ENTRY = struct.Struct("<IIBBH")


def raw_batch(chunk_id: bytes, data: bytes, kind: ChunkKind) -> EncodedBatch:
    """A batch of one chunk that is not worth compressing."""
    return EncodedBatch(chunk_id, ENTRY.pack(len(data), len(data), CODEC_RAW, kind, 0), data)


def encode_chunks(encoder: Encoder, ids: bytes, plains: Sequence[bytes], kind: ChunkKind) -> EncodedBatch:
    """A batch of chunks of one kind that are at hand as bytes."""
    lengths = array("I", map(len, plains))
    offsets = array("Q", [0]) * len(plains)
    total = 0
    for i, length in enumerate(lengths):
        offsets[i] = total
        total += length
    out = bytearray(total)
    table, encoded = encoder.encode(b"".join(plains), offsets, lengths, kind=kind, out=out)
    return EncodedBatch(ids, table, memoryview(out)[:encoded])
