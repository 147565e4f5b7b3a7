"""A node's storage as an agent sees it: a ChunkSink and a ChunkSource over a few data channels.

Threads share a pool of channels and each holds one for one exchange. Puts are not waited for: up to
PUTS_IN_FLIGHT of them travel on each channel while the next batch is encoded; the commit waits for all. Must
not know what the chunks mean.
"""

import struct
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import zstandard

from schemas.link import Abort, Chunks, Claim, Claimed, Committed, Fault, Fetch, Message, Opened, Put, PutDone
from vdrd.model.chunks import CHUNK_BYTES_MAX, CHUNK_ID_BYTES, ChunkKeys, ChunkKind, EncodedBatch
from vdrd.model.errors import Damaged, ProtocolViolation, Unreachable, VdrError
from vdrd.model.points import Point, PointDraft
from vdrd.net.channel import DataChannel
from vdrd.protocol.data import TABLE_RECORD_BYTES
from vdrd.protocol.faults import error_of
from vdrd.protocol.points import commit_of

PUTS_IN_FLIGHT = 4
"""Per channel.

With batches of 1 MiB enough for 80 ms of delay at 400 Mbit/s a channel; more would only fill memory.
"""
PUT_BYTES_MAX = 6 << 20
"""Payload of one Put: with its ids and table below the bound of a frame."""
CLAIM_IDS_MAX = 65_536
FETCH_IDS_MAX = 16_384

RAW, ZSTD = 0, 1
_RECORD = struct.Struct("<IIBBH")
R = TypeVar("R")


class ChannelPool:
    """The channels of one run.

    Thread-safe. A channel that fails makes the whole pool fail, with the first reason.
    """

    def __init__(self, channels: Sequence[DataChannel], opened: Opened) -> None:
        if not channels:
            raise ValueError("a pool needs a channel")
        self.opened = opened
        self._channels = tuple(channels)
        self._free = list(channels)
        self._changed = threading.Condition()
        self._failure: VdrError | None = None
        self._is_closed = False

    @classmethod
    def open(cls, channels: Sequence[DataChannel], tickets: Sequence[bytes]) -> "ChannelPool":
        """Show one ticket on each channel.

        When one fails all are closed. Raises TicketRefused, Unreachable.
        """
        try:
            opened = [channel.open(ticket) for channel, ticket in zip(channels, tickets, strict=True)]
        except BaseException:
            for channel in channels:
                channel.close()
            raise
        return cls(channels, opened[0])

    @contextmanager
    def hold(self) -> Iterator[DataChannel]:
        """A channel for this thread alone; the one with the fewest answers under way. Waits for a free one.

        Raises what made the pool fail. Leaving by an error that is the connection's makes it fail.
        """
        channel = self._acquire()
        try:
            yield channel
        except (Unreachable, ProtocolViolation) as error:
            self.fail(error)
            raise
        finally:
            self._release(channel)

    def fail(self, error: VdrError) -> None:
        """Nothing goes any more; the first reason stays. Wakes all threads that wait or work."""
        with self._changed:
            if self._failure is None:
                self._failure = _fresh(error)
            self._changed.notify_all()
        for channel in self._channels:
            channel.shut()

    def drain(self) -> None:
        """Wait until every put is answered. Raises what one of them failed with."""
        self._acquire_all()
        try:
            for channel in self._channels:
                self.settle(channel, 0)
        finally:
            self._release(*self._channels)

    def settle(self, channel: DataChannel, left: int) -> None:
        """Take the answers to puts, in their order, until only `left` questions of a held channel are open.

        Raises what a put failed with; the pool fails with it, as nobody may commit without its chunks.
        """
        try:
            while channel.outstanding > left:
                answer_of(channel, PutDone)
        except VdrError as error:
            self.fail(error)
            raise

    def close(self, reason: str = "") -> None:
        """Close all channels, when no thread uses them any more."""
        with self._changed:
            if self._is_closed:
                return
            self._is_closed = True
            if self._failure is None:
                self._failure = Unreachable(peer="the node", reason="the run is over")
        for channel in self._channels:
            channel.close(reason)

    def _acquire(self) -> DataChannel:
        with self._changed:
            while True:
                if self._failure is not None:
                    raise _fresh(self._failure)
                if self._free:
                    channel = min(self._free, key=lambda one: one.outstanding)
                    self._free.remove(channel)
                    return channel
                self._changed.wait()

    def _acquire_all(self) -> None:
        with self._changed:
            while len(self._free) < len(self._channels):
                if self._failure is not None:
                    raise _fresh(self._failure)
                self._changed.wait()
            if self._failure is not None:
                raise _fresh(self._failure)
            self._free.clear()

    def _release(self, *channels: DataChannel) -> None:
        with self._changed:
            self._free.extend(channels)
            self._changed.notify_all()


class RemoteSink:
    """`ChunkSink` over a pool; `commit` or `abort` ends it. Durable only after `commit`."""

    def __init__(self, pool: ChannelPool) -> None:
        opened = pool.opened
        self._pool = pool
        self.keys = ChunkKeys(
            id_keys={ChunkKind(kind): key for kind, key in opened.id_keys.items() if kind in list(ChunkKind)},
            cut_key=opened.cut_key,
        )
        self.compression_level = opened.compression_level

    def claim(self, ids: bytes) -> bytes:
        """As ChunkSink. Raises Unreachable, and what the node reports."""
        step = CLAIM_IDS_MAX * CHUNK_ID_BYTES
        return b"".join(self._claim(ids[start : start + step]) for start in range(0, len(ids), step))

    def put(self, batch: EncodedBatch) -> None:
        """As ChunkSink, but a failure at the node may only show at a later put or at the commit."""
        for part in split_batch(batch, PUT_BYTES_MAX):
            with self._pool.hold() as channel:
                self._pool.settle(channel, PUTS_IN_FLIGHT - 1)
                channel.send(Put(part.ids, part.table, memoryview(part.payload)))

    def commit(self, draft: PointDraft) -> Point:
        """Make the point of everything put; durable on return. Raises what the node reports."""
        self._pool.drain()
        with self._pool.hold() as channel:
            channel.send(commit_of(draft))
            answer = answer_of(channel, Committed)
        return Point(answer.point_id, answer.time, draft)

    def abort(self, reason: str = "") -> None:
        """Give up; what was put stays usable by the next run. Never fails."""
        try:
            with self._pool.hold() as channel:
                channel.send(Abort(reason[:200]))
        except VdrError:
            # The connection is gone, which tells the node the same.
            return

    def _claim(self, ids: bytes) -> bytes:
        with self._pool.hold() as channel:
            # Asked first, so that the question travels while earlier puts are still being answered.
            channel.send(Claim(ids))
            self._pool.settle(channel, 1)
            return answer_of(channel, Claimed).wanted


class RemoteSource:
    """`ChunkSource` over a pool."""

    def __init__(self, pool: ChannelPool) -> None:
        self._pool = pool
        self._local = threading.local()

    def fetch(self, ids: bytes) -> list[bytes]:
        """As ChunkSource. Raises Unreachable, Damaged."""
        chunks: list[bytes] = []
        step = FETCH_IDS_MAX * CHUNK_ID_BYTES
        for start in range(0, len(ids), step):
            chunks += self._fetch(ids[start : start + step])
        return chunks

    def _fetch(self, ids: bytes) -> list[bytes]:
        chunks: list[bytes] = []
        with self._pool.hold() as channel:
            channel.send(Fetch(ids))
            self._pool.settle(channel, 1)
            is_more = True
            while is_more:
                answer = answer_of(channel, Chunks)
                is_more = answer.more
                chunks += self._decoded(answer, str(channel))
            if len(chunks) * CHUNK_ID_BYTES != len(ids):
                raise ProtocolViolation(peer=channel, reason=f"{len(chunks)} chunks, not those asked for")
        return chunks

    def _decoded(self, answer: Chunks, peer: str) -> Iterator[bytes]:
        offset = 0
        for plain_bytes, encoded_bytes, codec, _, _ in records_of(answer.table, peer):
            encoded = answer.payload[offset : offset + encoded_bytes]
            offset += encoded_bytes
            if plain_bytes > CHUNK_BYTES_MAX or len(encoded) != encoded_bytes:
                raise ProtocolViolation(peer=peer, reason="a chunk that does not fit its table")
            yield bytes(encoded) if codec == RAW else self._inflated(encoded, plain_bytes)

    def _inflated(self, encoded: memoryview, plain_bytes: int) -> bytes:
        if not hasattr(self._local, "decompressor"):
            self._local.decompressor = zstandard.ZstdDecompressor()
        try:
            plain: bytes = self._local.decompressor.decompress(
                encoded, max_output_size=plain_bytes, allow_extra_data=False
            )
        except zstandard.ZstdError as error:
            raise Damaged(what="a chunk from the node", reason=str(error)) from error
        if len(plain) != plain_bytes:
            raise Damaged(what="a chunk from the node", reason="it is of another length")
        return plain


def _fresh(error: VdrError) -> VdrError:
    """The same error without its history: threads may raise it side by side, and it keeps nothing alive."""
    return type(error)(**error.fields)


def records_of(table: bytes, peer: str) -> Iterator[tuple[int, int, int, int, int]]:
    """Records of a chunk table. Raises ProtocolViolation when it is cut short."""
    if len(table) % TABLE_RECORD_BYTES:
        raise ProtocolViolation(peer=peer, reason="a chunk table cut short")
    return _RECORD.iter_unpack(table)


def answer_of(channel: DataChannel, wanted: type[R]) -> R:
    """The next answer, of a channel whose order is known. Raises what the node reports."""
    answer: Message = channel.receive()
    if isinstance(answer, Fault):
        raise error_of(answer)
    assert isinstance(answer, wanted)
    return answer


def split_batch(batch: EncodedBatch, payload_bytes_max: int) -> Iterator[EncodedBatch]:
    """The batch in parts of at most so many payload bytes (at least one chunk each), without copying the
    payload."""
    payload = memoryview(batch.payload)
    if len(payload) <= payload_bytes_max:
        yield batch
        return
    first = start = end = 0
    records = list(_RECORD.iter_unpack(batch.table))
    for number, (_, encoded_bytes, _, _, _) in enumerate(records):
        if number > first and end + encoded_bytes - start > payload_bytes_max:
            yield _part(batch, first, number, payload[start:end])
            first, start = number, end
        end += encoded_bytes
    yield _part(batch, first, len(records), payload[start:end])


def _part(batch: EncodedBatch, first: int, last: int, payload: memoryview) -> EncodedBatch:
    return EncodedBatch(
        ids=batch.ids[first * CHUNK_ID_BYTES : last * CHUNK_ID_BYTES],
        table=batch.table[first * TABLE_RECORD_BYTES : last * TABLE_RECORD_BYTES],
        payload=payload,
    )
