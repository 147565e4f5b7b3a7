"""Reads the batches of a backup and stores their content: one `BatchReader` per thread, any number side by
side.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from native.cdc import Cutter
from native.event import Event, EventDetail, EventKind
from native.gather import Gather, GatherStep
from native.segment import ENTRY_FIXED_BYTES
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.content import ContentWriter
from vdrd.files.entry import (
    FIXED,
    HASH_AT,
    HASH_BYTES,
    EntryFlag,
    pack_pieces,
    piece_offsets,
)
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKind, ChunkSink, ChunkSource
from vdrd.model.errors import Damaged

ATTEMPTS = 3
"""Readings of a large file that changes meanwhile."""
ANSWERS_MAX = 100_000
"""Chunks remembered as proved; about 10 MiB."""
_SIZE_FIELD = 9


class KeptChunks:
    """Knows, for a run that reads everything, which chunks files may keep: those that can be read, or, with
    `lost`, all but those. Shared by readers."""

    def __init__(self, source: ChunkSource, lost: frozenset[bytes] | None = None) -> None:
        self._source = source
        self._lost = lost
        self._answers: dict[bytes, bool] = {}

    def drop_lost(self, batch: bytes) -> bytes:
        """The batch without those old pieces whose chunk is gone or damaged: such files are stored again."""
        kept = bytearray(batch)
        for at in piece_offsets(batch):
            if not self._is_good(batch[at : at + CHUNK_ID_BYTES]):
                # No content has this hash, so the file counts as changed.
                record_at = at - ENTRY_FIXED_BYTES
                kept[record_at + HASH_AT : record_at + HASH_AT + HASH_BYTES] = bytes(HASH_BYTES)
        return bytes(kept)

    def _is_good(self, chunk_id: bytes) -> bool:
        if self._lost is not None:
            return chunk_id not in self._lost
        answer = self._answers.get(chunk_id)
        if answer is None:
            try:
                self._source.fetch(chunk_id)
                answer = True
            except Damaged:
                answer = False
            if len(self._answers) >= ANSWERS_MAX:
                self._answers.clear()
            self._answers[chunk_id] = answer
        return answer


@dataclass(slots=True)
class ReadBatch:
    """A batch read: blocks of complete loose entries in order (links excepted), and what happened."""

    blocks: list[bytes] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)


class BatchReader:
    """Reads batches of one tree. For one thread at a time."""

    def __init__(
        self,
        root_fd: int,
        sink: ChunkSink,
        cutter: Cutter,
        counts: WrittenCounts,
        *,
        on_read: Callable[[int], None],
        kept: KeptChunks | None = None,
    ) -> None:
        self._kept = kept
        self._gather = Gather(root_fd, sink.keys.id_keys[ChunkKind.DATA])
        self._writer = ChunkWriter(sink, counts)
        self._content = ContentWriter(sink, cutter, counts)
        self._on_read = on_read

    def close(self) -> None:
        """Close the directories it holds and end its thread."""
        self._gather.close()
        self._content.close()

    def read(self, batch: bytes) -> ReadBatch:
        """Read all that the batch asks for. Errors of the sink are raised; those of single files become
        events.
        """
        result = ReadBatch()
        self._gather.begin(self._kept.drop_lost(batch) if self._kept else batch)
        while True:
            step = self._gather.step()
            result.events += self._gather.events.drain()
            self._on_read(self._gather.take_read_bytes())
            if step is GatherStep.LARGE:
                self._read_large(result)
                continue
            result.blocks.append(self._store_packs())
            if step is GatherStep.END:
                return result

    def _store_packs(self) -> bytes:
        gather = self._gather
        if not gather.pack_count:
            return gather.take(b"")
        data = memoryview(gather.data)[: gather.data_used]
        return gather.take(self._writer.write(ChunkKind.DATA, data, gather.pack_offsets, gather.pack_lengths))

    def _read_large(self, result: ReadBatch) -> None:
        """Store the file that the gather handed over, again when it changed meanwhile."""
        gather = self._gather
        fd = gather.large_fd
        flags = EntryFlag(0)
        try:
            for _ in range(ATTEMPTS):
                size_bytes = FIXED.unpack_from(gather.large_entry())[_SIZE_FIELD]
                content = self._content.write(fd, size_bytes, self._on_read)
                if not gather.refresh_large():
                    break
            else:
                flags = EntryFlag.UNSTABLE
                result.events.append(self._event(EventKind.UNSTABLE, 0))
            if content.is_list:
                flags |= EntryFlag.LIST
            gather.finish_large(pack_pieces(content.extents), size_bytes=content.bytes_read, flags=flags)
        except OSError as error:
            result.events.append(self._event(EventKind.UNREADABLE, error.errno or 0))
            gather.finish_large(b"", size_bytes=size_bytes, flags=EntryFlag.UNREADABLE)
        finally:
            os.close(fd)

    def _event(self, kind: EventKind, error: int) -> Event:
        return Event(kind, error, EventDetail.NONE, self._gather.large_path())
