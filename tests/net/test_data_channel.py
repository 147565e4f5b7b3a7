"""Data channels over real TLS and seals: an agent's RemoteSink and RemoteSource against a node's server."""

import os
import struct
import threading
from datetime import UTC, datetime

import pytest
import trio
import trio.testing

from schemas.link import Claim, Fetch
from vdrd.model.chunks import ChunkKind, EncodedBatch
from vdrd.model.errors import (
    Damaged,
    NotAuthorised,
    PeerBusy,
    ProtocolViolation,
    StorageFull,
    TicketRefused,
    Unreachable,
)
from vdrd.model.points import BackupType, DiskRoot, FilesRoot, ObjectKind, PointDraft
from vdrd.net.channel import DataChannel
from vdrd.net.data_server import NotOffered
from vdrd.net.dial import dial_detached
from vdrd.net.identity import Expected, Role
from vdrd.net.remote import ChannelPool, RemoteSink, RemoteSource, split_batch


def draft(root=None):
    return PointDraft(
        object_name="h:/dev/sda",
        kind=ObjectKind.FILES if isinstance(root, FilesRoot) else ObjectKind.DISK,
        backup_type=BackupType.INCREMENTAL,
        root=root or DiskRoot(b"r" * 32, 2, 1 << 30, 65536),
        source="/dev/sda",
        host="h",
        logical_bytes=1 << 30,
        new_bytes=123,
        stored_bytes=45,
        started_at=datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC),
        parent_id="cd" * 16,
        warnings=("one", "two"),
        warning_count=2,
        labels={"run-id": "r"},
    )


async def in_thread(function, *args):
    return await trio.to_thread.run_sync(function, *args)


@pytest.mark.parametrize(
    "root", [DiskRoot(None, 0, 5, 65536), FilesRoot(b"f" * 32, 3, 77)], ids=["disk", "files"]
)
async def test_backup_over_channels_stores_chunks_and_commits_the_same_draft(plant, root):
    pool = await plant.pool(2)

    def backup():
        sink = RemoteSink(pool)
        assert sink.keys.id_keys == {kind: bytes([kind]) * 32 for kind in ChunkKind}
        assert sink.keys.cut_key == b"c" * 32
        assert sink.compression_level == 1
        chunks = [bytes([number]) * 70_000 for number in range(40)]
        batch = plant.batch_of(chunks, codec=1)
        assert sink.claim(batch.ids) == b"\1" * 40
        assert sink.claim(batch.ids) == b"\0" * 40
        sink.put(batch)
        point = sink.commit(draft(root))
        pool.close()
        return chunks, point

    chunks, point = await in_thread(backup)
    assert set(plant.store.chunks.values()) == set(chunks)
    assert plant.store.committed == [draft(root)]
    assert point.draft == draft(root)
    assert point.time == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


async def test_put_many_batches_by_many_threads_all_arrive(plant):
    pool = await plant.pool(3)
    chunks = [os.urandom(50_000) for _ in range(200)]

    def backup():
        sink = RemoteSink(pool)
        failures = []

        def work(part):
            try:
                for start in range(0, len(part), 5):
                    batch = plant.batch_of(part[start : start + 5])
                    sink.claim(batch.ids)
                    sink.put(batch)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=work, args=(chunks[number::4],)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not failures
        sink.commit(draft())
        pool.close()

    await in_thread(backup)
    assert set(plant.store.chunks.values()) == set(chunks)


async def test_put_larger_than_a_frame_is_split(plant):
    pool = await plant.pool()
    chunks = [os.urandom(4 << 20) for _ in range(4)]

    def backup():
        sink = RemoteSink(pool)
        sink.put(plant.batch_of(chunks))
        sink.commit(draft())
        pool.close()

    await in_thread(backup)
    assert set(plant.store.chunks.values()) == set(chunks)


async def test_put_does_not_wait_for_the_node_until_the_window_is_full(plant):
    pool = await plant.pool()
    plant.store.gate.clear()

    def backup():
        sink = RemoteSink(pool)
        for number in range(4):
            sink.put(plant.batch_of([bytes([number]) * 1000]))
        # Four travel while the node has stored none.
        assert not plant.store.chunks
        plant.store.gate.set()
        sink.commit(draft())
        pool.close()

    await in_thread(backup)
    assert len(plant.store.chunks) == 4


async def test_put_failing_at_the_node_fails_the_commit_with_its_reason(plant):
    pool = await plant.pool(2)
    plant.store.put_failure = StorageFull(path="/storage")

    def backup():
        sink = RemoteSink(pool)
        sink.put(plant.batch_of([b"x"]))
        with pytest.raises(StorageFull, match="no space left on /storage"):
            sink.commit(draft())
        with pytest.raises(StorageFull):
            sink.put(plant.batch_of([b"y"]))
        pool.close()

    await in_thread(backup)
    assert plant.store.committed == []


async def test_put_wrong_content_is_refused_by_the_node(plant):
    pool = await plant.pool()
    good = plant.batch_of([b"content"])

    def backup():
        sink = RemoteSink(pool)
        sink.put(type(good)(b"i" * 32, good.table, good.payload))
        with pytest.raises(Damaged, match="does not hash to its id"):
            sink.commit(draft())
        pool.close()

    await in_thread(backup)
    assert plant.store.chunks == {}


async def test_commit_taking_long_is_kept_alive_by_the_node(plant):
    pool = await plant.pool()
    plant.store.gate.clear()

    def backup():
        for channel in pool._channels:
            channel._socket.set_patience(0.5)
        threading.Timer(1.5, plant.store.gate.set).start()
        return RemoteSink(pool).commit(draft())

    point = await in_thread(backup)
    assert point.point_id == "ab" * 16
    await in_thread(pool.close)


async def test_fetch_many_chunks_returns_them_in_order(plant):
    chunks = [os.urandom(100_000 + number) for number in range(150)]
    plant.store.chunks = {plant.store.id_of(chunk): chunk for chunk in chunks}
    pool = await plant.pool()
    ids = b"".join(map(plant.store.id_of, chunks))
    fetched = await in_thread(RemoteSource(pool).fetch, ids)
    assert fetched == chunks
    assert await in_thread(RemoteSource(pool).fetch, b"") == []
    await in_thread(pool.close)


async def test_fetch_missing_chunk_raises_and_leaves_the_channel_usable(plant):
    plant.store.chunks = {plant.store.id_of(b"here"): b"here"}
    pool = await plant.pool()
    source = RemoteSource(pool)
    with pytest.raises(Damaged, match="is missing"):
        await in_thread(source.fetch, plant.store.id_of(b"here") + b"?" * 32)
    assert await in_thread(source.fetch, plant.store.id_of(b"here")) == [b"here"]
    await in_thread(pool.close)


@pytest.mark.parametrize("seals", [(), ("aes-256-gcm",), ("sm4-gcm",)], ids=["tls", "aes", "sm4"])
async def test_channel_with_each_seal_carries_bulk_both_ways(plant, seals):
    channel = await plant.channel()
    (ticket,) = plant.issue()
    chunk = os.urandom(3_000_000)

    def work():
        opened = channel.open(ticket, seals)
        assert opened.seal == (seals[0] if seals else "tls")

        pool = ChannelPool([channel], opened)
        RemoteSink(pool).put(plant.batch_of([chunk]))
        assert RemoteSource(pool).fetch(plant.store.id_of(chunk)) == [chunk]
        pool.close()

    await in_thread(work)


async def test_ticket_used_twice_is_refused(plant):
    (ticket,) = plant.issue()
    first, second = await plant.channel(), await plant.channel()
    await in_thread(first.open, ticket)
    with pytest.raises(TicketRefused, match="unknown or was used"):
        await in_thread(second.open, ticket)
    assert first.is_open
    first.close()
    second.close()


async def test_ticket_of_another_agent_is_refused_and_spent(plant, world):
    (ticket,) = plant.issue()
    thief = await plant.channel(world.profile(Role.AGENT))
    with pytest.raises(TicketRefused, match="not given to agent/"):
        await in_thread(thief.open, ticket)
    thief.close()
    owner = await plant.channel()
    with pytest.raises(TicketRefused):
        await in_thread(owner.open, ticket)
    owner.close()


async def test_ticket_expired_or_void_is_refused(plant):
    (expired,) = plant.issue(seconds=0)
    (void,) = plant.issue(run="run-2")
    plant.server.close_run("run-2")
    for ticket, reason in ((expired, "expired"), (void, "unknown")):
        channel = await plant.channel()
        with pytest.raises(TicketRefused, match=reason):
            await in_thread(channel.open, ticket)
        channel.close()


async def test_channel_by_another_role_is_refused_before_a_ticket(plant, world):
    with pytest.raises(NotAuthorised, match="only agents"):
        await plant.channel(world.profile(Role.CONSOLE))


async def test_question_before_the_ticket_is_a_violation(plant, caplog):
    channel = await plant.channel()

    def work():
        channel._data._machine.state = type(channel._data.state).OPEN
        channel.send(Claim(b"i" * 32))
        with pytest.raises(Unreachable):
            channel.receive()
        channel.close()

    await in_thread(work)
    assert "claim in state ready" in caplog.text


async def test_question_of_a_restore_run_that_writes_is_refused(plant):
    class ReadOnly:
        sink = None
        source = plant.store

        def channel_ended(self, error, left):
            pass

    (ticket,) = plant.tickets.issue("restore", plant.agent_ident, ReadOnly())
    channel = await plant.channel()

    def work():
        opened = channel.open(ticket)
        assert not opened.writable
        assert opened.id_keys == {}

        pool = ChannelPool([channel], opened)
        with pytest.raises(NotOffered):
            RemoteSink(pool).claim(b"i" * 32)
        pool.close()

    await in_thread(work)


async def test_run_closed_by_the_node_wakes_the_agent(plant):
    pool = await plant.pool()
    plant.store.gate.clear()

    def work():
        sink = RemoteSink(pool)
        for number in range(4):
            sink.put(plant.batch_of([bytes([number])]))
        threading.Timer(0.1, plant.server.close_run, ("run-1",)).start()
        threading.Timer(0.2, plant.store.gate.set).start()
        with pytest.raises(Unreachable):
            sink.commit(draft())
        pool.close()

    await in_thread(work)
    assert plant.store.committed == []


async def test_agent_killed_is_reported_to_the_service(plant):
    pool = await plant.pool(2)
    first, second = pool._channels
    first.shut()
    await in_thread(first.close)
    await in_thread(lambda: RemoteSink(pool))
    second._socket.shut()
    second.close()
    await in_thread(plant.server.close)
    assert sorted(left for _, left in plant.store.ended) == [0, 1]
    assert all(isinstance(error, Unreachable) for error, _ in plant.store.ended)


async def test_sealed_record_changed_on_the_way_is_refused(plant):
    channel = await plant.channel()
    (ticket,) = plant.issue()

    def work():
        channel.open(ticket)
        seal = channel._stream._seal
        original = seal.seal_into

        def flip(plain, out):
            original(plain, out)
            out[10] ^= 1

        seal.seal_into = flip
        channel.send(Fetch(b"i" * 32))
        with pytest.raises(Unreachable):
            channel.receive()
        channel.close()

    await in_thread(work)
    await in_thread(plant.server.close)
    assert isinstance(plant.store.ended[0][0], ProtocolViolation)


async def test_node_dials_a_passive_agent_which_then_shows_its_ticket(plant, world):
    """The other way round: the agent listens, the node dials and still is the one that answers."""
    arrived = trio.Event()
    got = []

    class Receiver:
        def admit_data(self, peer, hello):
            assert peer.role is Role.NODE
            assert hello.run == "run-1"

        def adopt(self, connection, hello):
            got.append(connection)
            arrived.set()

    (ticket,) = plant.issue()
    async with world.listening(plant.agent_profile, data=Receiver()) as (_, address):
        connection = await dial_detached(
            address, world.profile(Role.NODE), expected=Expected(Role.AGENT, plant.agent_ident), run="run-1"
        )
        plant.server.adopt(connection)
        await arrived.wait()
        channel = DataChannel(got[0], is_agent=True)
        opened = await in_thread(channel.open, ticket)
        assert opened.run == "run-1"
        channel.close()


def test_split_batch_cuts_between_chunks_and_loses_nothing():
    sizes = [5, 3, 9, 1, 1, 20, 2]
    batch = EncodedBatch(
        ids=b"".join(bytes([number]) * 32 for number in range(len(sizes))),
        table=b"".join(struct.pack("<IIBBH", size, size, 0, 1, 0) for size in sizes),
        payload=os.urandom(sum(sizes)),
    )
    parts = list(split_batch(batch, 10))
    assert b"".join(part.ids for part in parts) == batch.ids
    assert b"".join(part.table for part in parts) == batch.table
    assert b"".join(bytes(part.payload) for part in parts) == batch.payload
    assert [part.count for part in parts] == [2, 2, 1, 1, 1]


async def test_channels_above_the_bound_of_one_agent_are_refused_and_others_go_on(plant, world):
    plant.server._channels_per_agent_max = 2
    held = [await plant.channel() for _ in range(2)]
    await trio.testing.wait_all_tasks_blocked(0.05)
    with pytest.raises(PeerBusy):
        await plant.channel()
    other = await plant.channel(world.profile(Role.AGENT))
    for channel in (*held, other):
        channel.close()


@pytest.mark.parametrize("question", ["claim", "fetch"])
async def test_question_after_a_put_that_failed_raises_its_reason_and_nothing_can_be_committed(
    plant, question
):
    pool = await plant.pool()
    plant.store.chunks = {plant.store.id_of(b"here"): b"here"}
    plant.store.put_failure = StorageFull(path="/storage")

    def backup():
        sink, source = RemoteSink(pool), RemoteSource(pool)
        sink.put(plant.batch_of([b"x"]))
        with pytest.raises(StorageFull):
            sink.claim(b"i" * 32) if question == "claim" else source.fetch(plant.store.id_of(b"here"))
        with pytest.raises(StorageFull):
            sink.commit(draft())
        pool.close()

    await in_thread(backup)
    assert plant.store.committed == []


async def test_claim_and_fetch_behind_puts_under_way_get_their_own_answers(plant):
    pool = await plant.pool()
    chunks = [os.urandom(30_000) for _ in range(3)]

    def backup():
        sink, source = RemoteSink(pool), RemoteSource(pool)
        for chunk in chunks:
            sink.put(plant.batch_of([chunk]))
        assert sink.claim(plant.store.id_of(chunks[0]) + b"n" * 32) == b"\0\1"
        sink.put(plant.batch_of([chunks[0]]))
        assert source.fetch(plant.store.id_of(chunks[2])) == [chunks[2]]
        pool.close()

    await in_thread(backup)
