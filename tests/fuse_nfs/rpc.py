"""A small ONC RPC client: enough to say to the server what real clients never say."""

import socket
import struct
from dataclasses import dataclass, field

PORTMAP, NFS, MOUNT = (100000, 2), (100003, 3), (100005, 3)
AUTH_NONE, AUTH_SYS = 0, 1

OK, PERM, NOENT, IO, ACCES, EXIST, XDEV, NOTDIR, ISDIR, INVAL, FBIG = 0, 1, 2, 5, 13, 17, 18, 20, 21, 22, 27
NOSPC, ROFS, NAMETOOLONG, NOTEMPTY, STALE = 28, 30, 63, 66, 70
BADHANDLE, NOT_SYNC, BAD_COOKIE, NOTSUPP, TOOSMALL = 10001, 10002, 10003, 10004, 10005

(GETATTR, SETATTR, LOOKUP, ACCESS, READLINK, READ, WRITE, CREATE, MKDIR, SYMLINK, MKNOD) = range(1, 12)
REMOVE, RMDIR, RENAME, LINK, READDIR, READDIRPLUS, FSSTAT, FSINFO, PATHCONF, COMMIT = range(12, 22)

UNSTABLE, DATA_SYNC, FILE_SYNC = 0, 1, 2


def u32(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def u64(value: int) -> bytes:
    return struct.pack(">Q", value)


def opaque(data: bytes) -> bytes:
    return u32(len(data)) + data + bytes(-len(data) % 4)


def sys_credential(machine: bytes = b"tester") -> bytes:
    return opaque(u32(0) + opaque(machine) + u32(0, 0, 0))


NO_CREDENTIAL = opaque(b"")


@dataclass
class Reader:
    """Takes an answer apart."""

    data: bytes
    at: int = 0

    def u32(self) -> int:
        self.at += 4
        return int(struct.unpack_from(">I", self.data, self.at - 4)[0])

    def u64(self) -> int:
        self.at += 8
        return int(struct.unpack_from(">Q", self.data, self.at - 8)[0])

    def fixed(self, length: int) -> bytes:
        found = self.data[self.at : self.at + length]
        assert len(found) == length
        self.at += length + -length % 4
        return found

    def opaque(self) -> bytes:
        return self.fixed(self.u32())

    def attributes(self) -> "Attributes":
        words = [self.u32() for _ in range(5)]
        size, used, _, fsid, fileid = (self.u64() for _ in range(5))
        times = [self.u64() for _ in range(3)]
        return Attributes(words[0], words[1], size, used, fsid, fileid, times[1])

    def optional_attributes(self) -> "Attributes | None":
        return self.attributes() if self.u32() else None

    def change(self) -> "tuple[tuple[int, int] | None, Attributes | None]":
        """wcc_data as ((size, mtime) before, attributes after)."""
        before = None
        if self.u32():
            before = (self.u64(), self.u64())
            self.u64()
        return before, self.optional_attributes()

    def rest(self) -> list[int]:
        return [self.u32() for _ in range((len(self.data) - self.at) // 4)]

    def end(self) -> None:
        assert self.at == len(self.data), "bytes left over"


@dataclass
class Attributes:
    kind: int
    mode: int
    size: int
    used: int
    fsid: int
    fileid: int
    mtime: int


class RpcError(Exception):
    """The server answered at the RPC level: ('denied', ...) or ('accepted', status, ...)."""


@dataclass
class Client:
    """One TCP connection."""

    host: str
    port: int
    xid: int = 100
    source: str = ""
    connection: socket.socket = field(init=False)

    def __post_init__(self) -> None:
        self.connection = socket.create_connection(
            (self.host, self.port), timeout=60, source_address=(self.source, 0)
        )

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.connection.close()

    def message(
        self,
        program: tuple[int, int],
        procedure: int,
        arguments: bytes = b"",
        *,
        flavor: int = AUTH_SYS,
        credential: bytes | None = None,
        rpc_version: int = 2,
    ) -> bytes:
        self.xid += 1
        if credential is None:
            credential = sys_credential() if flavor == AUTH_SYS else NO_CREDENTIAL
        head = u32(self.xid, 0, rpc_version, *program, procedure, flavor) + credential
        return head + u32(AUTH_NONE) + NO_CREDENTIAL + arguments

    def send_record(self, message: bytes) -> None:
        self.connection.sendall(u32(len(message) | 1 << 31) + message)

    def receive_record(self) -> bytes:
        mark = int.from_bytes(self.receive(4), "big")
        assert mark >> 31
        return self.receive(mark & 0x7FFFFFFF)

    def receive(self, length: int) -> bytes:
        data = bytearray()
        while len(data) < length:
            part = self.connection.recv(length - len(data))
            if not part:
                raise ConnectionError("closed by the server")
            data += part
        return bytes(data)

    def is_closed_by_peer(self) -> bool:
        """True once the server has closed; waits for it."""
        try:
            return self.connection.recv(1) == b""
        except ConnectionError:
            return True

    def answer(self, xid: int | None = None) -> Reader:
        """Results of the next answer. RpcError if it carries none."""
        reader = Reader(self.receive_record())
        found = reader.u32()
        assert found == (self.xid if xid is None else xid)
        assert reader.u32() == 1
        if reader.u32() == 1:
            raise RpcError("denied", *reader.rest())
        assert (reader.u32(), reader.u32()) == (0, 0)
        status = reader.u32()
        if status:
            raise RpcError("accepted", status, *reader.rest())
        return reader

    def call(self, program: tuple[int, int], procedure: int, arguments: bytes = b"", **how: object) -> Reader:
        self.send_record(self.message(program, procedure, arguments, **how))  # type: ignore[arg-type]
        return self.answer()

    def nfs(self, procedure: int, arguments: bytes) -> tuple[int, Reader]:
        """(status, results) of an NFS procedure."""
        reader = self.call(NFS, procedure, arguments)
        return reader.u32(), reader

    def mount(self, path: str) -> bytes:
        reader = self.call(MOUNT, 1, opaque(path.encode()), flavor=AUTH_NONE)
        assert reader.u32() == OK
        handle = reader.opaque()
        assert [reader.u32() for _ in range(reader.u32())] == [AUTH_SYS]
        reader.end()
        return handle

    def lookup(self, directory: bytes, name: str) -> bytes:
        status, reader = self.nfs(LOOKUP, opaque(directory) + opaque(name.encode()))
        assert status == OK
        return reader.opaque()

    def disk(self, export: str) -> bytes:
        """Handle of an export's disk."""
        return self.lookup(self.mount(f"/{export}"), "disk.raw")

    def read(self, handle: bytes, offset: int, count: int) -> bytes:
        status, reader = self.nfs(READ, opaque(handle) + u64(offset) + u32(count))
        assert status == OK, status
        reader.optional_attributes()
        length, _ = reader.u32(), reader.u32()
        data = reader.opaque()
        assert len(data) == length
        reader.end()
        return data

    def write(self, handle: bytes, offset: int, data: bytes, stable: int = UNSTABLE) -> tuple[int, bytes]:
        """Status and, when it is OK, the verifier."""
        arguments = opaque(handle) + u64(offset) + u32(len(data), stable) + opaque(data)
        status, reader = self.nfs(WRITE, arguments)
        reader.change()
        if status:
            reader.end()
            return status, b""
        assert reader.u32() == len(data)
        assert reader.u32() == (FILE_SYNC if stable else UNSTABLE)
        verifier = reader.fixed(8)
        reader.end()
        return status, verifier
