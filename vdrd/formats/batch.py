"""Batches of encoded chunks: the table that travels beside the payload."""

import struct

from native.chunk import CODEC_RAW
from vdrd.model.chunks import ChunkKind, EncodedBatch

ENTRY = struct.Struct("<IIBBH")


def raw_batch(chunk_id: bytes, data: bytes, kind: ChunkKind) -> EncodedBatch:
    """A batch of one chunk that is not worth compressing."""
    return EncodedBatch(chunk_id, ENTRY.pack(len(data), len(data), CODEC_RAW, kind, 0), data)
