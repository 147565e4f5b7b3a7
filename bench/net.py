"""How fast links and data channels are: two processes on loopback, as agent and node are two processes.

    python bench/net.py [--mebibytes N] [--runs N]

Bulk: one or two channels, each kind of seal, puts (agent to node), fetches (node to agent), beside Trio's own
SSLStream and plain TCP. Links: round trips and handshakes. Nothing is stored: the sink drops what it gets.
"""

import argparse
import multiprocessing
import os
import resource
import socket
import ssl
import statistics
import struct
import tempfile
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from uuid import uuid4

import msgspec
import trio

from vdrd.model.chunks import ChunkKeys, ChunkKind, EncodedBatch
from vdrd.net import channel as channel_module
from vdrd.net.address import Address
from vdrd.net.ca import Authority
from vdrd.net.channel import DataChannel
from vdrd.net.credentials import Credentials, self_issue
from vdrd.net.data_server import DataChannelServer
from vdrd.net.dial import dial, dial_detached
from vdrd.net.identity import Expected, Role
from vdrd.net.link import DeafHandler
from vdrd.net.listen import LinkListener
from vdrd.net.remote import ChannelPool, RemoteSink, RemoteSource
from vdrd.net.ticket import TicketOffice
from vdrd.net.tls13 import Tls13Profile

CHUNK_BYTES = 64 << 10
BATCH_CHUNKS = 16
LOOPBACK = Address("127.0.0.1", 0)


class Echo(msgspec.Struct, tag="echo", tag_field="t"):
    text: str = ""


class Node:
    """Sink, source and handler that do nothing: what is left is the network."""

    family = Echo
    keys = ChunkKeys({kind: bytes(32) for kind in ChunkKind}, bytes(32))
    compression_level = 1

    def __init__(self) -> None:
        self.sink = self.source = self
        self._chunk = os.urandom(CHUNK_BYTES)

    def claim(self, ids: bytes) -> bytes:
        return b"\1" * (len(ids) // 32)

    def put(self, batch: EncodedBatch) -> None:
        pass

    def fetch(self, ids: bytes) -> list[bytes]:
        return [self._chunk] * (len(ids) // 32)

    def channel_ended(self, error: object, left: int) -> None:
        pass

    async def admit(self, peer: object, hello: object) -> "Node":
        return self

    async def session(self, link: object) -> None:
        pass

    async def request(self, link: object, message: Echo) -> Echo:
        return message

    async def notify(self, link: object, message: object) -> None:
        pass


def cpu_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def node_process(credentials: Path, pipe: Connection) -> None:
    """Serves until the pipe says stop; answers 'tickets' and 'cpu'."""

    async def main() -> None:
        tickets: TicketOffice = TicketOffice()
        server = DataChannelServer(tickets)
        node = Node()
        profile = Tls13Profile(Credentials(credentials))
        async with trio.open_nursery() as nursery:
            listener = LinkListener(profile, control=node, data=server)
            (address,) = await nursery.start(listener.serve, [LOOPBACK])
            pipe.send(str(address))
            while (asked := await trio.to_thread.run_sync(pipe.recv)) != "stop":
                if asked == "cpu":
                    pipe.send(cpu_seconds())
                else:
                    pipe.send(tickets.issue("run", asked[0], node, count=asked[1]))
            nursery.cancel_scope.cancel()
        server.close()

    trio.run(main)


class Bench:
    """The agent's side, in this process."""

    def __init__(self, mebibytes: int, runs: int) -> None:
        self.total_bytes = mebibytes << 20
        self.runs = runs
        directory = Path(tempfile.mkdtemp(prefix="vdr-bench-net-"))
        authority = Authority.create(directory / "ca")
        self.ident = str(uuid4())
        node = self_issue(authority, directory / "node", Role.NODE, str(uuid4()))
        self.profile = Tls13Profile(self_issue(authority, directory / "agent", Role.AGENT, self.ident))
        self.pipe, theirs = multiprocessing.Pipe()
        self.process = multiprocessing.get_context("spawn").Process(
            target=node_process, args=(node.directory, theirs)
        )
        self.process.start()
        self.address = Address.parse(self.pipe.recv())

    def close(self) -> None:
        self.pipe.send("stop")
        self.process.join()

    def ask(self, question: object) -> object:
        self.pipe.send(question)
        return self.pipe.recv()

    def pool(self, channels: int) -> ChannelPool:
        async def dial_all() -> list[DataChannel]:
            found = []
            for _ in range(channels):
                connection = await dial_detached(self.address, self.profile, expected=Expected(Role.NODE))
                found.append(DataChannel(connection, is_agent=True))
            return found

        return ChannelPool.open(trio.run(dial_all), self.ask((self.ident, channels)))

    def bulk(self, name: str, channels: int, work: Callable[[ChannelPool, int], None]) -> None:
        rates, costs = [], []
        for _ in range(self.runs):
            pool = self.pool(channels)
            own, theirs = cpu_seconds(), self.ask("cpu")
            started = time.perf_counter()
            threads = [
                threading.Thread(target=work, args=(pool, self.total_bytes // channels))
                for _ in range(channels)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            pool.drain()
            elapsed = time.perf_counter() - started
            rates.append(self.total_bytes / elapsed / 1e9)
            gibibytes = self.total_bytes / (1 << 30)
            costs.append(((cpu_seconds() - own) / gibibytes, (self.ask("cpu") - theirs) / gibibytes))
            pool.close()
        own_cost, their_cost = (statistics.median(cost) for cost in zip(*costs, strict=True))
        print(f"| {name} | {channels} | {statistics.median(rates):.2f} | {own_cost:.2f} | {their_cost:.2f} |")

    def links(self) -> None:
        async def main() -> None:
            begun = time.perf_counter()
            for _ in range(50):
                async with dial(
                    self.address, self.profile, expected=Expected(Role.NODE), handler=DeafHandler()
                ):
                    pass
            print(f"| connect, prove, greet, close | {(time.perf_counter() - begun) / 50 * 1e3:.2f} ms |")
            async with dial(
                self.address, self.profile, expected=Expected(Role.NODE), handler=DeafHandler()
            ) as link:
                begun = time.perf_counter()
                for _ in range(1000):
                    await link.request(Echo("x" * 64), Echo)
                print(f"| request and reply, 64 bytes | {(time.perf_counter() - begun) * 1e3:.0f} us |")

        trio.run(main)


def put_all(pool: ChannelPool, total_bytes: int) -> None:
    sink = RemoteSink(pool)
    record = struct.pack("<IIBBH", CHUNK_BYTES, CHUNK_BYTES, 0, 1, 0)
    payload = memoryview(os.urandom(CHUNK_BYTES * BATCH_CHUNKS))
    batch = EncodedBatch(bytes(32 * BATCH_CHUNKS), record * BATCH_CHUNKS, payload)
    for _ in range(total_bytes // (CHUNK_BYTES * BATCH_CHUNKS)):
        sink.put(batch)


def fetch_all(pool: ChannelPool, total_bytes: int) -> None:
    source = RemoteSource(pool)
    for _ in range(total_bytes // (CHUNK_BYTES * BATCH_CHUNKS)):
        source.fetch(bytes(32 * BATCH_CHUNKS))


def receive_all(listener: socket.socket, context: tuple[str, str] | None) -> None:
    connection, _ = listener.accept()
    if context is not None:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(context[0])
        connection = tls.wrap_socket(connection, server_side=True)
    buffer = bytearray(1 << 20)
    while connection.recv_into(buffer):
        pass
    connection.close()


def reference(name: str, total_bytes: int, identity: Path | None, *, with_trio: bool) -> None:
    """The same bytes over what Python offers, without messages."""
    listener = socket.create_server(("127.0.0.1", 0))
    context = (str(identity), "") if identity else None
    process = multiprocessing.get_context("fork").Process(target=receive_all, args=(listener, context))
    process.start()
    data = os.urandom(1 << 20)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    tls.check_hostname, tls.verify_mode = False, ssl.CERT_NONE

    async def send_with_trio() -> None:
        stream = await trio.open_tcp_stream(*listener.getsockname())
        secure = trio.SSLStream(stream, tls, https_compatible=True)
        for _ in range(total_bytes >> 20):
            await secure.send_all(data)
        await secure.aclose()

    own, started = cpu_seconds(), time.perf_counter()
    if with_trio:
        trio.run(send_with_trio)
    else:
        with socket.create_connection(listener.getsockname()) as connection:
            sender = tls.wrap_socket(connection) if identity else connection
            for _ in range(total_bytes >> 20):
                sender.sendall(data)
            sender.close()
    process.join()
    elapsed = time.perf_counter() - started
    cost = (cpu_seconds() - own) / (total_bytes / (1 << 30))
    print(f"| {name} | 1 | {total_bytes / elapsed / 1e9:.2f} | {cost:.2f} | |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--mebibytes", type=int, default=1024, help="moved by each measurement (default 1024)"
    )
    parser.add_argument("--runs", type=int, default=3, help="of each, the median counts (default 3)")
    args = parser.parse_args()
    print(f"load at the start: {os.getloadavg()[0]:.1f}\n")
    bench = Bench(args.mebibytes, args.runs)
    print("| bulk | channels | GB/s | CPU s/GiB, agent | CPU s/GiB, node |\n|---|---|---|---|---|")
    for seal in ("aes-256-gcm", "sm4-gcm", "tls"):
        channel_module.DataChannel.open.__defaults__ = ((seal,),)
        for channels in (1, 2):
            bench.bulk(f"put, {seal}", channels, put_all)
        bench.bulk(f"fetch, {seal}", 1, fetch_all)
    identity = bench.profile.credentials.identity_path
    total_bytes = args.mebibytes << 20
    reference("reference: Trio SSLStream", total_bytes, identity, with_trio=True)
    reference("reference: ssl in a thread", total_bytes, identity, with_trio=False)
    reference("reference: plain TCP", total_bytes, None, with_trio=False)
    print("\n| control link | |\n|---|---|")
    bench.links()
    bench.close()


if __name__ == "__main__":
    main()
