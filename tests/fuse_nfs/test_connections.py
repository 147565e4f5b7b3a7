"""Connections that misbehave, and many calls at once."""

import ipaddress
import os
import random
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fuse_nfs.export import Export, parse_clients
from native.nfs import NfsSettings
from tests.fuse_nfs import rpc
from tests.fuse_nfs.conftest import MIB, RunningServer
from tests.fuse_nfs.rpc import opaque, u32, u64
from vdrd.disk.image import ImageDisk
from vdrd.model.errors import BadArgument, CannotListen, NotFound

Start = Callable[..., RunningServer]


def wait_for_log(caplog: pytest.LogCaptureFixture, text: str) -> None:
    """The log is written by the server's loop, after the connection is closed."""
    deadline = time.monotonic() + 20
    while text not in caplog.text:
        assert time.monotonic() < deadline, caplog.text
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (u32(0xFFFFFFFF), "call longer than the limit"),
        (u32(1 << 31 | (MIB + 8193)), "call longer than the limit"),
        (u32(0) * 80, "call of too many fragments"),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n" + bytes(50), "call longer than the limit"),
        (u32(1 << 31 | 4, 7), "not an RPC call"),
        (u32(1 << 31), "not an RPC call"),
        (u32(1 << 31 | 44, 7, 1, *[0] * 9), "not an RPC call"),
        (u32(1 << 31 | 40, 7, 0, 2, 100003, 3, 0, 1, 500, 0, 0), "not an RPC call"),
    ],
    ids=["huge", "too-long", "fragments", "http", "short", "empty", "reply", "credential"],
)
def test_peer_that_speaks_no_rpc_is_closed_with_a_logged_reason(
    writable: RunningServer, caplog: pytest.LogCaptureFixture, sent: bytes, reason: str
) -> None:
    with writable.client() as client, writable.client() as other:
        client.connection.sendall(sent)
        assert client.is_closed_by_peer()
        assert other.disk("point")
    wait_for_log(caplog, reason)


@pytest.mark.parametrize(
    ("how", "answer"),
    [
        ({"rpc_version": 3}, ("denied", 0, 2, 2)),
        ({"flavor": 6, "credential": opaque(b"gss")}, ("denied", 1, 5)),
        ({"flavor": 0}, ("denied", 1, 5)),
        ({"credential": opaque(u32(0) + opaque(b"m") + u32(0, 0, 17) + bytes(68))}, ("denied", 1, 1)),
        ({"credential": opaque(b"none")}, ("denied", 1, 1)),
    ],
)
def test_call_without_valid_credentials_is_denied(
    writable: RunningServer, how: dict[str, object], answer: tuple[object, ...]
) -> None:
    with writable.client() as client:
        handle = client.disk("point")
        with pytest.raises(rpc.RpcError) as caught:
            client.call(rpc.NFS, rpc.GETATTR, opaque(handle), **how)
        assert caught.value.args == answer
        assert client.read(handle, 0, 1)


@pytest.mark.parametrize(
    ("program", "procedure", "answer"),
    [
        ((100003, 4), 0, ("accepted", 2, 3, 3)),
        ((100003, 3), 22, ("accepted", 3)),
        ((100005, 1), 1, ("accepted", 2, 3, 3)),
        ((100005, 3), 6, ("accepted", 3)),
        ((100227, 3), 0, ("accepted", 1)),
        ((100000, 2), 0, ("accepted", 1)),
        ((100003, 3), rpc.READ, ("accepted", 4)),
        ((100005, 3), 1, ("accepted", 4)),
    ],
)
def test_what_is_not_served_is_answered_as_rpc_has_it(
    writable: RunningServer, program: tuple[int, int], procedure: int, answer: tuple[object, ...]
) -> None:
    with writable.client() as client:
        with pytest.raises(rpc.RpcError) as caught:
            client.call(program, procedure)
        assert caught.value.args == answer


def test_call_in_fragments_of_one_byte_is_understood(writable: RunningServer) -> None:
    with writable.client() as client:
        message = client.message(rpc.NFS, 0, flavor=rpc.AUTH_NONE)
        sent = b"".join(u32(1) + message[i : i + 1] for i in range(len(message) - 1))
        client.connection.sendall(sent + u32(1 << 31 | 1) + message[-1:])
        client.answer().end()


def test_pipelined_calls_are_all_answered(writable: RunningServer, image: Path) -> None:
    content = image.read_bytes()
    noise = random.Random(1)
    with writable.client() as client:
        handle = client.disk("point")
        wanted: dict[int, tuple[int, int]] = {}
        for _ in range(400):
            offset, count = noise.randrange(4 * MIB), noise.choice([10, 4096, 65536, MIB])
            client.send_record(client.message(rpc.NFS, rpc.READ, opaque(handle) + u64(offset) + u32(count)))
            wanted[client.xid] = (offset, count)
            if len(wanted) < 16:
                continue
            reader = rpc.Reader(client.receive_record())
            offset, count = wanted.pop(reader.u32())
            reader.at = 28
            reader.optional_attributes()
            reader.u64()
            assert reader.opaque() == content[offset : offset + count]
        for _ in range(len(wanted)):
            wanted.pop(rpc.Reader(client.receive_record()).u32())
        assert not wanted


def test_many_clients_write_and_read_at_once(writable: RunningServer, disk: ImageDisk) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            with writable.client() as client:
                handle = client.disk("point")
                for turn in range(60):
                    offset = (turn * 8 + number) * 8192
                    data = bytes([number + 1, turn]) * 4096
                    stable = rpc.FILE_SYNC if turn % 10 == 0 else rpc.UNSTABLE
                    assert client.write(handle, offset, data, stable)[0] == rpc.OK
                    assert client.read(handle, offset, 8192) == data
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    assert disk.native.read(8 * 8192, 2) == bytes([1, 1])


def test_peer_that_takes_no_answers_costs_bounded_memory_and_is_closed(
    start_server: Start, disk: ImageDisk, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(NfsSettings(threads=3, calls_max=5, stall_seconds=30))
    server.add(Export("point", disk))
    with server.client() as greedy, server.client() as other:
        greedy.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        arguments = opaque(greedy.disk("point")) + u64(0) + u32(MIB)
        for _ in range(2000):
            greedy.send_record(greedy.message(rpc.NFS, rpc.READ, arguments))
        assert other.read(other.disk("point"), 0, 100)
        assert server.exports.statistics().buffers <= 5 + 2 * 3 + 2
        assert server.exports.statistics().reads < 100, "the server reads on although nothing is taken"
        server.sweep(seconds=31)
        wait_for_log(caplog, "answers not taken in time")
        assert other.read(other.disk("point"), 0, 100)


def test_half_sent_call_is_closed_after_the_limit_and_not_before(
    start_server: Start, disk: ImageDisk, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(NfsSettings(stall_seconds=10, first_call_seconds=100))
    server.add(Export("point", disk))
    with server.client() as slow, server.client() as other:
        slow.connection.sendall(u32(1 << 31 | 1000) + bytes(100))
        other.mount("/")
        server.sweep(seconds=5)
        slow.connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            slow.connection.recv(1)
        slow.connection.settimeout(20)
        server.sweep(seconds=12)
        assert slow.is_closed_by_peer()
        assert other.mount("/")
    wait_for_log(caplog, "call not finished in time")


def is_closed(client: rpc.Client) -> bool:
    try:
        return client.is_closed_by_peer()
    except TimeoutError:
        return False


def test_silent_and_idle_connections_are_closed_after_their_limits(
    start_server: Start, disk: ImageDisk, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(NfsSettings(first_call_seconds=30, idle_seconds=3000))
    server.add(Export("point", disk))
    with server.client() as silent, server.client() as idle:
        idle.mount("/")
        server.sweep(seconds=40)
        assert silent.is_closed_by_peer()
        assert idle.mount("/")
        # The client may have its answer a moment before the server has counted it as given.
        idle.connection.settimeout(0.1)
        deadline = time.monotonic() + 60
        while not is_closed(idle):
            assert time.monotonic() < deadline
            server.sweep(seconds=3010)
    wait_for_log(caplog, "no call came in time")
    wait_for_log(caplog, "idle for too long")


def test_more_connections_than_allowed_are_refused(
    start_server: Start, disk: ImageDisk, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server(NfsSettings(connections_max=3))
    server.add(Export("point", disk))
    clients = [server.client() for _ in range(3)]
    for client in clients:
        client.mount("/")
    with server.client() as fourth:
        assert fourth.is_closed_by_peer()
    wait_for_log(caplog, "too many connections")
    clients[0].connection.close()
    deadline = time.monotonic() + 20
    while server.exports.statistics().connections == 3:
        assert time.monotonic() < deadline
    with server.client() as fifth:
        assert fifth.mount("/")
    for client in clients:
        client.connection.close()


def test_client_of_no_export_is_not_listened_to(
    start_server: Start, disk: ImageDisk, caplog: pytest.LogCaptureFixture
) -> None:
    server = start_server()
    server.add(Export("point", disk, clients=parse_clients(["192.0.2.0/24", "2001:db8::/32"])))
    with server.client() as client:
        assert client.is_closed_by_peer()
    wait_for_log(caplog, "not a client of any export")


def test_export_of_other_clients_is_neither_seen_nor_reached(server: RunningServer, disk: ImageDisk) -> None:
    server.add(Export("mine", disk, clients=parse_clients(["127.0.0.0/30"])))
    server.add(Export("theirs", disk, clients=parse_clients(["127.0.0.4/30", "192.0.2.1"])))
    with server.client() as client:
        assert client.call(rpc.MOUNT, 1, opaque(b"/theirs")).u32() == rpc.ACCES
        status, _ = client.nfs(rpc.LOOKUP, opaque(client.mount("/")) + opaque(b"theirs"))
        assert status == rpc.NOENT
        with rpc.Client("127.0.0.1", client.port, source="127.0.0.5") as other:
            stolen = other.disk("theirs")
        for procedure, rest in ((rpc.GETATTR, b""), (rpc.READ, u64(0) + u32(10))):
            assert client.nfs(procedure, opaque(stolen) + rest)[0] == rpc.ACCES
        reader = client.call(rpc.MOUNT, 5)
        assert (reader.u32(), reader.opaque()) == (1, b"/mine")


def test_dropped_connections_leak_nothing(writable: RunningServer) -> None:
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for turn in range(100):
        with writable.client() as client:
            handle = client.disk("point")
            for _ in range(turn % 4):
                client.send_record(client.message(rpc.NFS, rpc.READ, opaque(handle) + u64(0) + u32(MIB)))
            if turn % 2:
                client.connection.sendall(u32(1 << 31 | 5000))
    deadline = time.monotonic() + 20
    while writable.exports.statistics().connections:
        assert time.monotonic() < deadline
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    assert writable.exports.statistics().buffers <= 2 * NfsSettings().threads


def test_remove_waits_for_calls_and_the_disk_is_free(writable: RunningServer, disk: ImageDisk) -> None:
    stop = threading.Event()
    clients = [writable.client() for _ in range(3)]
    handle = clients[0].disk("point")

    def read_on(client: rpc.Client) -> None:
        with client:
            while not stop.is_set():
                client.nfs(rpc.READ, opaque(handle) + u64(0) + u32(MIB))

    threads = [threading.Thread(target=read_on, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for _ in range(50):
        writable.remove("point")
        writable.add(Export("point", disk, is_writable=True))
    stop.set()
    for thread in threads:
        thread.join(60)
    with pytest.raises(BadArgument, match="exported already"):
        writable.add(Export("point", disk))
    writable.remove("point")
    with pytest.raises(NotFound, match="point"):
        writable.remove("point")


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "x" * 128, "ä" * 100])
def test_export_name_that_is_none_is_refused(server: RunningServer, disk: ImageDisk, name: str) -> None:
    with pytest.raises(BadArgument, match="cannot be the name"):
        server.add(Export(name, disk))


def test_writable_export_of_a_read_only_disk_is_refused(server: RunningServer, image: Path) -> None:
    with ImageDisk.open(image) as read_only, pytest.raises(BadArgument):
        server.add(Export("point", read_only, is_writable=True))


def test_stop_answers_what_was_asked_and_closes(start_server: Start, disk: ImageDisk) -> None:
    server = start_server()
    server.add(Export("point", disk))
    client = server.client()
    handle = client.disk("point")
    assert client.read(handle, 0, 10)
    server.stop()
    assert client.is_closed_by_peer()
    client.connection.close()


async def test_listening_fails_as_a_whole_and_names_the_port() -> None:
    from fuse_nfs.listen import ListenAddress, open_listeners

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(CannotListen, match=f"127.0.0.1 port {port}: address already in use"):
            open_listeners(ListenAddress("127.0.0.1", 0, port, None))


def test_clients_on_ipv6_are_served(disk: ImageDisk) -> None:
    import trio

    from fuse_nfs.listen import ListenAddress
    from fuse_nfs.server import serve_exports

    def use(port: int) -> bytes:
        with rpc.Client("::1", port) as client:
            return client.read(client.disk("point"), 0, 100)

    async def main() -> bytes:
        async with serve_exports(ListenAddress("::1", 0, 0, None)) as server:
            assert server.add(Export("point", disk)) == "nfs://[::1]/point/disk.raw"
            return await trio.to_thread.run_sync(use, server.nfs_port)

    assert trio.run(main) == disk.native.read(0, 100)


def test_clients_are_read_from_texts() -> None:
    assert parse_clients(["10.0.0.0/8", "fd00::1"]) == (
        ipaddress.ip_network("10.0.0.0/8"),
        ipaddress.ip_network("fd00::1/128"),
    )
    for bad in (["10.0.0.1/8"], ["host"], ["10.0.0.1"] * 17):
        with pytest.raises(BadArgument, match="client"):
            parse_clients(bad)


def test_busy_client_leaves_others_their_turn(start_server: Start, disk: ImageDisk) -> None:
    server = start_server(NfsSettings(threads=1, calls_max=64))
    server.add(Export("point", disk))
    stop = threading.Event()
    busy = server.client()
    arguments = opaque(busy.disk("point")) + u64(0) + u32(4096)

    def send() -> None:
        while not stop.is_set():
            busy.send_record(busy.message(rpc.NFS, rpc.READ, arguments))
        busy.connection.shutdown(socket.SHUT_WR)

    def receive() -> None:
        while busy.connection.recv(1 << 20):
            pass

    threads = [threading.Thread(target=work) for work in (send, receive)]
    for thread in threads:
        thread.start()
    with server.client() as other:
        for _ in range(20):
            assert other.mount("/point")
    stop.set()
    for thread in threads:
        thread.join(60)
    busy.connection.close()
