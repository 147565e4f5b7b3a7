"""The node's side of data channels: each is served by a thread of its own, from the ticket to the end.

Serves any ChunkSink and ChunkSource; what a run may do is its service's decision, which the owner of the node
gives with the ticket. Knows neither storages nor jobs.
"""

import logging
import struct
import threading
from contextlib import suppress
from typing import Protocol

from schemas.link import (
    Abort,
    Chunks,
    Claim,
    Claimed,
    Commit,
    Committed,
    Fetch,
    Goodbye,
    Hello,
    Message,
    Open,
    Opened,
    Put,
    PutDone,
)
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkSink, ChunkSource, EncodedBatch
from vdrd.model.errors import BadInput, NotAuthorised, PeerBusy, VdrError
from vdrd.model.points import Point, PointDraft
from vdrd.model.rate import RateLimit
from vdrd.net.channel import DataChannel
from vdrd.net.dial import Detached
from vdrd.net.identity import PeerIdentity, Role
from vdrd.net.ticket import Grant, TicketOffice
from vdrd.protocol.faults import fault_of, internal_fault_of
from vdrd.protocol.points import draft_of

log = logging.getLogger(__name__)

WORKING_SECONDS = 5.0
"""How often the agent hears that a long question is still worked on."""
FETCH_IDS_PER_READ = 32
"""Chunks read from the storage at once:

a frame of 2 MiB with the usual chunks of 64 KiB, and 32 chunks in memory.
"""
CHUNKS_BYTES_MAX = 4 << 20
"""Payload of one Chunks; a single chunk is never longer."""
_RECORD = struct.Struct("<IIBBH")


class NotOffered(BadInput):
    """A question that this run's service does not answer."""

    code = "not-offered"
    template = "this run does not take {question}"


class ChannelService(Protocol):
    """What a run offers to its agent. Called by several threads at once."""

    @property
    def sink(self) -> ChunkSink | None:
        """Where chunks go; None for a restore."""
        ...

    @property
    def source(self) -> ChunkSource | None:
        """Where chunks come from (for a backup: the parents); None when there is nothing to read."""
        ...

    def commit(self, draft: PointDraft) -> Point:
        """Make the point; durable on return. May take long."""
        ...

    def channel_ended(self, error: VdrError | None, left: int) -> None:
        """A channel of the run ended: in order (None) or by `error`; `left` others are still open."""
        ...


class _Turn:
    """Whose turn it is to send on a channel:

    the pulse's while its thread works on a question, else the thread's.
    """

    def __init__(self, channel: DataChannel) -> None:
        self._channel = channel
        self._lock = threading.Lock()
        self._is_working = False
        self._was_working = False

    def begin(self) -> None:
        """A question is being worked on."""
        with self._lock:
            self._is_working, self._was_working = True, False

    def end(self) -> None:
        """The answer is about to be sent."""
        with self._lock:
            self._is_working = False

    def beat(self) -> None:
        """Called by the pulse: says Working for a question that was there at the last beat already."""
        with self._lock:
            if self._is_working and self._was_working:
                # A broken connection shows at the thread's own next step.
                with suppress(VdrError):
                    self._channel.send_working()
            self._was_working = self._is_working


class DataChannelServer:
    """Serves data channels of all runs. Thread-safe. `DataReception` of a listener."""

    def __init__(
        self,
        tickets: TicketOffice[ChannelService],
        *,
        channels_max: int = 256,
        channels_per_agent_max: int = 64,
        rate: RateLimit | None = None,
        working_seconds: float = WORKING_SECONDS,
    ) -> None:
        self.tickets = tickets
        self.rate = rate or RateLimit()
        """Limits what the node sends (restores); agents limit what they send."""
        self._channels_max = channels_max
        self._channels_per_agent_max = channels_per_agent_max
        self._working_seconds = working_seconds
        self._lock = threading.Lock()
        self._channels: dict[DataChannel, str] = {}
        self._turns: dict[DataChannel, _Turn] = {}
        self._threads: set[threading.Thread] = set()
        self._is_closing = threading.Event()
        self._pulse = threading.Thread(target=self._beat, name="data channels' pulse")
        self._pulse.start()

    def admit_data(self, peer: PeerIdentity, _hello: Hello) -> None:
        """Raises NotAuthorised or PeerBusy to refuse a connection before it costs a thread."""
        if peer.role is not Role.AGENT:
            raise NotAuthorised(reason="only agents open data channels")
        with self._lock:
            held = sum(channel.peer.ident == peer.ident for channel in self._channels)
            is_full = len(self._channels) >= self._channels_max
        if is_full or held >= self._channels_per_agent_max:
            raise PeerBusy(peer="the node")

    def adopt(self, connection: Detached, _hello: Hello | None = None) -> None:
        """Serve a greeted connection, accepted from an agent or dialled to a passive one. Returns at once."""
        channel = DataChannel(connection, is_agent=False, rate=self.rate)
        thread = threading.Thread(target=self._serve, args=(channel,), name=f"data {channel.address}")
        with self._lock:
            self._channels[channel] = ""
            self._threads.add(thread)
        thread.start()

    def close_run(self, run_id: str) -> None:
        """Void the run's tickets and end its channels; their threads end soon after."""
        self.tickets.void(run_id)
        with self._lock:
            ending = [channel for channel, run in self._channels.items() if run == run_id]
        for channel in ending:
            channel.shut()

    def close(self) -> None:
        """End all channels and wait for their threads."""
        with self._lock:
            channels, threads = list(self._channels), list(self._threads)
        for channel in channels:
            channel.shut()
        self._is_closing.set()
        for thread in (*threads, self._pulse):
            thread.join()

    def statistics(self) -> dict[str, int]:
        """What the server does now."""
        with self._lock:
            return {"channels": len(self._channels), "opening": list(self._channels.values()).count("")}

    def _serve(self, channel: DataChannel) -> None:
        grant: Grant[ChannelService] | None = None
        failure: VdrError | None = None
        try:
            grant = self._open(channel)
            if grant is not None:
                self._answer_all(channel, grant.service)
        except VdrError as error:
            failure = error
            log.warning("data channel broken peer=%s reason=%s", channel, error)
        except Exception as error:
            # The root of this thread: a defect ends one channel, not the node.
            failure = VdrError(what=f"a data channel failed inside: {error}")
            log.exception("data channel failed peer=%s", channel)
        finally:
            channel.close()
            self._leave(channel, grant, failure)

    def _leave(
        self, channel: DataChannel, grant: Grant[ChannelService] | None, failure: VdrError | None
    ) -> None:
        with self._lock:
            del self._channels[channel]
            self._turns.pop(channel, None)
            self._threads.discard(threading.current_thread())
            left = 0 if grant is None else list(self._channels.values()).count(grant.run_id)
        if grant is not None:
            grant.service.channel_ended(failure, left)

    def _open(self, channel: DataChannel) -> Grant[ChannelService] | None:
        opening = channel.receive()
        assert isinstance(opening, Open)
        try:
            grant = self.tickets.redeem(opening.ticket, channel.peer)
        except VdrError as error:
            log.warning("data channel refused peer=%s reason=%s", channel, error)
            channel.send(fault_of(0, error))
            return None
        with self._lock:
            self._channels[channel] = grant.run_id
        channel.welcome(opening, _opened_of(grant))
        log.info("data channel open peer=%s run=%s", channel, grant.run_id)
        return grant

    def _answer_all(self, channel: DataChannel, service: ChannelService) -> None:
        turn = _Turn(channel)
        with self._lock:
            self._turns[channel] = turn
        while True:
            message = channel.receive()
            if isinstance(message, Goodbye):
                return
            if isinstance(message, Abort):
                log.info("run aborted by agent peer=%s reason=%s", channel, message.reason)
                return
            try:
                answer = self._answer(channel, service, message, turn)
            except VdrError as error:
                answer = fault_of(0, error)
            except Exception:
                # A defect in the storage's code fails the question; the agent decides about its run.
                log.exception("question failed peer=%s question=%s", channel, type(message).__name__)
                answer = internal_fault_of(0)
            channel.send(answer)

    def _answer(
        self, channel: DataChannel, service: ChannelService, message: Message, turn: _Turn
    ) -> Message:
        if isinstance(message, Fetch) and service.source is not None:
            return self._send_chunks(channel, service.source, message.ids)
        turn.begin()
        try:
            return self._store(channel, service, message)
        finally:
            turn.end()

    def _store(self, channel: DataChannel, service: ChannelService, message: Message) -> Message:
        sink = service.sink
        match message:
            case Claim() if sink is not None:
                return Claimed(sink.claim(message.ids))
            case Put() if sink is not None:
                batch = EncodedBatch(message.ids, message.table, message.payload)
                sink.put(batch)
                return PutDone(batch.count)
            case Commit() if sink is not None:
                point = service.commit(draft_of(message, str(channel)))
                return Committed(point.point_id, point.time)
            case _:
                raise NotOffered(question=message.__struct_config__.tag)

    def _send_chunks(self, channel: DataChannel, source: ChunkSource, ids: bytes) -> Message:
        """Send all but the last frame of an answer to Fetch, and return that."""
        step = FETCH_IDS_PER_READ * CHUNK_ID_BYTES
        table, payload = bytearray(), bytearray()
        for start in range(0, len(ids), step):
            for chunk in source.fetch(ids[start : start + step]):
                if payload and len(payload) + len(chunk) > CHUNKS_BYTES_MAX:
                    channel.send(Chunks(more=True, table=bytes(table), payload=memoryview(payload)))
                    table, payload = bytearray(), bytearray()
                table += _RECORD.pack(len(chunk), len(chunk), 0, 0, 0)
                payload += chunk
        return Chunks(more=False, table=bytes(table), payload=memoryview(payload))

    def _beat(self) -> None:
        while not self._is_closing.wait(self._working_seconds):
            with self._lock:
                turns = list(self._turns.values())
            for turn in turns:
                turn.beat()


def _opened_of(grant: Grant[ChannelService]) -> Opened:
    sink = grant.service.sink
    if sink is None:
        return Opened(grant.run_id, "tls")
    id_keys = {int(kind): key for kind, key in sink.keys.id_keys.items()}
    return Opened(grant.run_id, "tls", b"", id_keys, sink.keys.cut_key, sink.compression_level, True)
