"""Every procedure of the three programs, as RFC 1813 and 1833 have them."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuse_nfs.export import Export
from native.disk import Disk
from tests.fuse_nfs import rpc
from tests.fuse_nfs.conftest import MIB, RunningServer
from tests.fuse_nfs.rpc import opaque, u32, u64
from vdrd.disk.image import ImageDisk
from vdrd.disk.overlay import OverlayDisk
from vdrd.disk.source import NativeDisk

SIZE = 4 * MIB + 1000
NO_ATTRIBUTES = u32(0, 0, 0, 0, 0, 0)


def set_size(size: int) -> bytes:
    return u32(0, 0, 0, 1) + u64(size) + u32(0, 0)


@pytest.fixture
def client(writable: RunningServer) -> Iterator[rpc.Client]:
    with writable.client() as connected:
        yield connected


@pytest.mark.parametrize("program", [rpc.NFS, rpc.MOUNT])
def test_null_answers_without_identity(client: rpc.Client, program: tuple[int, int]) -> None:
    client.call(program, 0, flavor=rpc.AUTH_NONE).end()


def test_getattr_disk_is_a_file_of_the_disks_size(client: rpc.Client) -> None:
    status, reader = client.nfs(rpc.GETATTR, opaque(client.disk("point")))
    found = reader.attributes()
    reader.end()
    assert (status, found.kind, found.mode, found.size) == (rpc.OK, 1, 0o666, SIZE)
    assert found.mtime == 1_700_000_000 << 32 | 123_456_789


def test_file_numbers_are_unique_and_directories_are_read_only(client: rpc.Client) -> None:
    handles = [client.mount("/"), client.mount("/point"), client.disk("point")]
    found = [client.nfs(rpc.GETATTR, opaque(handle))[1].attributes() for handle in handles]
    assert len({attributes.fileid for attributes in found}) == 3
    assert [attributes.mode for attributes in found] == [0o555, 0o555, 0o666]
    assert len({attributes.fsid for attributes in found}) == 1


@pytest.mark.parametrize(
    ("offset", "count", "length", "is_end"),
    [
        (0, 4096, 4096, 0),
        (12345, 1, 1, 0),
        (100, 3 * MIB, MIB, 0),
        (SIZE - 10, 4096, 10, 1),
        (SIZE, 10, 0, 1),
        (1 << 63, 10, 0, 1),
        (2**64 - 1, 2**32 - 1, 0, 1),
        (SIZE - 4096, 4096, 4096, 1),
        (5, 0, 0, 0),
    ],
)
def test_read_gives_what_is_there(
    client: rpc.Client, image: Path, offset: int, count: int, length: int, is_end: int
) -> None:
    status, reader = client.nfs(rpc.READ, opaque(client.disk("point")) + u64(offset) + u32(count))
    attributes = reader.optional_attributes()
    assert attributes is not None
    assert (status, reader.u32(), reader.u32()) == (rpc.OK, length, is_end)
    assert reader.opaque() == image.read_bytes()[offset : offset + length]
    reader.end()


@pytest.mark.parametrize("stable", [rpc.UNSTABLE, rpc.DATA_SYNC, rpc.FILE_SYNC])
def test_write_is_read_back_and_shows_as_a_change(client: rpc.Client, disk: ImageDisk, stable: int) -> None:
    handle = client.disk("point")
    arguments = opaque(handle) + u64(777) + u32(5, stable) + opaque(b"hello")
    status, reader = client.nfs(rpc.WRITE, arguments)
    before, after = reader.change()
    assert status == rpc.OK
    assert before is not None
    assert after is not None
    assert before[1] < after.mtime
    assert client.read(handle, 776, 7)[1:6] == b"hello"
    assert disk.native.read(777, 5) == b"hello"


def test_write_of_a_whole_mebibyte_is_taken(client: rpc.Client, disk: ImageDisk) -> None:
    data = bytes(range(256)) * 4096
    assert client.write(client.disk("point"), 3, data, rpc.FILE_SYNC)[0] == rpc.OK
    assert disk.native.read(3, MIB) == data


@pytest.mark.parametrize("offset", [SIZE - 2, SIZE, 2**64 - 3])
def test_write_past_the_end_is_refused_and_changes_nothing(
    client: rpc.Client, image: Path, offset: int
) -> None:
    before = image.read_bytes()
    assert client.write(client.disk("point"), offset, b"abc")[0] == rpc.FBIG
    assert image.read_bytes() == before


def test_write_whose_count_is_not_its_data_is_refused(client: rpc.Client) -> None:
    arguments = opaque(client.disk("point")) + u64(0) + u32(4, 0) + opaque(b"hello")
    assert client.nfs(rpc.WRITE, arguments)[0] == rpc.INVAL


def test_commit_answers_the_verifier_of_the_writes(client: rpc.Client) -> None:
    handle = client.disk("point")
    _, verifier = client.write(handle, 0, b"x")
    status, reader = client.nfs(rpc.COMMIT, opaque(handle) + u64(0) + u32(0))
    reader.change()
    assert (status, reader.fixed(8)) == (rpc.OK, verifier)
    reader.end()


def test_restart_changes_the_verifier_and_keeps_handles(
    start_server: Callable[..., RunningServer], disk: ImageDisk, tmp_path: Path
) -> None:
    found = []
    for _ in range(2):
        server = start_server(space_path=tmp_path)
        server.add(Export("point", disk, is_writable=True))
        with server.client() as client:
            handle = client.disk("point")
            found.append((handle, client.write(handle, 0, b"x")[1]))
    assert found[0][0] == found[1][0]
    assert found[0][1] != found[1][1]


def test_read_only_export_refuses_writes(server: RunningServer, disk: ImageDisk, image: Path) -> None:
    server.add(Export("point", disk))
    before = image.read_bytes()
    with server.client() as client:
        handle = client.disk("point")
        assert client.write(handle, 0, b"abc", rpc.FILE_SYNC)[0] == rpc.ROFS
        status, reader = client.nfs(rpc.SETATTR, opaque(handle) + set_size(0) + u32(0))
        reader.change()
        reader.end()
        assert status == rpc.ROFS
        reader = client.nfs(rpc.GETATTR, opaque(handle))[1]
        assert reader.attributes().mode == 0o444
        reader = client.nfs(rpc.ACCESS, opaque(handle) + u32(63))[1]
        reader.optional_attributes()
        assert reader.u32() == 1
    assert image.read_bytes() == before


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        (NO_ATTRIBUTES, rpc.OK),
        (set_size(SIZE), rpc.OK),
        (u32(0, 0, 0, 0, 1, 2) + u64(5 << 32), rpc.OK),
        (set_size(0), rpc.PERM),
        (set_size(SIZE + 1), rpc.PERM),
        (u32(1, 0o600, 0, 0, 0, 0, 0), rpc.PERM),
        (u32(0, 1, 1000, 0, 0, 0, 0), rpc.PERM),
    ],
)
def test_setattr_leaves_size_and_owner_as_they_are(
    client: rpc.Client, image: Path, attributes: bytes, expected: int
) -> None:
    handle = client.disk("point")
    status, reader = client.nfs(rpc.SETATTR, opaque(handle) + attributes + u32(0))
    _, after = reader.change()
    reader.end()
    assert status == expected
    assert after is not None
    assert (after.size, after.mode) == (SIZE, 0o666)
    assert image.stat().st_size == SIZE


def test_setattr_guard_of_another_time_is_not_in_sync(client: rpc.Client) -> None:
    arguments = opaque(client.disk("point")) + NO_ATTRIBUTES + u32(1, 5, 5)
    assert client.nfs(rpc.SETATTR, arguments)[0] == rpc.NOT_SYNC


@pytest.mark.parametrize(
    ("path", "name", "expected"),
    [
        ("/", "point", rpc.OK),
        ("/", ".", rpc.OK),
        ("/", "..", rpc.OK),
        ("/", "other", rpc.NOENT),
        ("/", "", rpc.NOENT),
        ("/", "n" * 256, rpc.NAMETOOLONG),
        ("/point", "disk.raw", rpc.OK),
        ("/point", ".", rpc.OK),
        ("/point", "..", rpc.OK),
        ("/point", "disk", rpc.NOENT),
        ("/point", "point", rpc.NOENT),
        ("/point/disk.raw", "x", rpc.NOTDIR),
    ],
)
def test_lookup(client: rpc.Client, path: str, name: str, expected: int) -> None:
    directory = client.disk("point") if path.endswith("raw") else client.mount(path)
    status, reader = client.nfs(rpc.LOOKUP, opaque(directory) + opaque(name.encode()))
    assert status == expected
    if status == rpc.OK:
        reader.opaque()
        assert reader.optional_attributes() is not None
    assert reader.optional_attributes() is not None
    reader.end()


def flipped(handle: bytes, byte: int) -> bytes:
    return handle[:byte] + bytes([handle[byte] ^ 1]) + handle[byte + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda handle: b"",
        lambda handle: bytes(48),
        lambda handle: bytes(64),
        lambda handle: handle[:-1],
        lambda handle: handle + bytes(1),
        lambda handle: flipped(handle, 4),
        lambda handle: flipped(handle, 10),
        lambda handle: flipped(handle, 24),
        lambda handle: flipped(handle, 47),
    ],
    ids=["empty", "zeros", "longest", "cut", "longer", "kind", "export", "inode", "mac"],
)
@pytest.mark.parametrize(
    "procedure", [rpc.GETATTR, rpc.ACCESS, rpc.READLINK, rpc.FSSTAT, rpc.FSINFO, rpc.PATHCONF]
)
def test_handle_that_was_not_given_out_is_refused(
    client: rpc.Client, damage: Callable[[bytes], bytes], procedure: int
) -> None:
    handle = damage(client.disk("point"))
    status, reader = client.nfs(procedure, opaque(handle) + u32(63) * (procedure == rpc.ACCESS))
    assert status == rpc.BADHANDLE
    if procedure != rpc.GETATTR:
        assert reader.optional_attributes() is None
    reader.end()


def test_access_grants_what_can_be_done(client: rpc.Client) -> None:
    granted = []
    for handle in (client.mount("/"), client.mount("/point"), client.disk("point")):
        status, reader = client.nfs(rpc.ACCESS, opaque(handle) + u32(63))
        reader.optional_attributes()
        granted.append((status, reader.u32()))
    assert granted == [(rpc.OK, 3), (rpc.OK, 3), (rpc.OK, 13)]


def test_readlink_of_no_link_is_invalid(client: rpc.Client) -> None:
    assert client.nfs(rpc.READLINK, opaque(client.disk("point")))[0] == rpc.INVAL


NAME = opaque(b"new")


@pytest.mark.parametrize(
    ("procedure", "arguments", "expected", "changes"),
    [
        (rpc.CREATE, NAME + u32(0) + NO_ATTRIBUTES, rpc.ROFS, 1),
        (rpc.CREATE, NAME + u32(2) + bytes(8), rpc.ROFS, 1),
        (rpc.CREATE, opaque(b"disk.raw") + u32(1) + NO_ATTRIBUTES, rpc.EXIST, 1),
        (rpc.CREATE, opaque(b"disk.raw") + u32(0) + set_size(0), rpc.PERM, 1),
        (rpc.MKDIR, NAME + NO_ATTRIBUTES, rpc.ROFS, 1),
        (rpc.SYMLINK, NAME + NO_ATTRIBUTES + opaque(b"to"), rpc.ROFS, 1),
        (rpc.MKNOD, NAME + u32(7) + NO_ATTRIBUTES, rpc.NOTSUPP, 1),
        (rpc.REMOVE, opaque(b"disk.raw"), rpc.ROFS, 1),
        (rpc.RMDIR, NAME, rpc.ROFS, 1),
    ],
)
def test_namespace_cannot_be_changed(
    client: rpc.Client, procedure: int, arguments: bytes, expected: int, changes: int
) -> None:
    directory = client.mount("/point")
    status, reader = client.nfs(procedure, opaque(directory) + arguments)
    for _ in range(changes):
        assert reader.change()[1] is not None
    reader.end()
    assert status == expected
    assert client.disk("point")


def test_create_unchecked_of_the_disk_finds_it(client: rpc.Client) -> None:
    arguments = opaque(client.mount("/point")) + opaque(b"disk.raw") + u32(0) + u32(1, 0o644, 0, 0, 0, 0, 0)
    status, reader = client.nfs(rpc.CREATE, arguments)
    assert (status, reader.u32()) == (rpc.OK, 1)
    assert reader.opaque() == client.disk("point")


def test_rename_and_link_are_refused(client: rpc.Client) -> None:
    directory, handle = opaque(client.mount("/point")), opaque(client.disk("point"))
    status, reader = client.nfs(rpc.RENAME, directory + opaque(b"disk.raw") + directory + NAME)
    reader.change()
    reader.change()
    reader.end()
    assert status == rpc.ROFS
    status, reader = client.nfs(rpc.LINK, handle + directory + NAME)
    reader.optional_attributes()
    reader.change()
    reader.end()
    assert status == rpc.ROFS


def list_names(client: rpc.Client, directory: bytes, *, plus: bool, count: int) -> list[str]:
    names, cookie = [], 0
    while True:
        arguments = opaque(directory) + u64(cookie) + bytes(8) + u32(count) + u32(count) * plus
        status, reader = client.nfs(rpc.READDIRPLUS if plus else rpc.READDIR, arguments)
        assert status == rpc.OK
        reader.optional_attributes()
        assert reader.u64() == 0
        while reader.u32():
            fileid = reader.u64()
            names.append(reader.opaque().decode())
            cookie = reader.u64()
            if plus:
                attributes = reader.optional_attributes()
                assert attributes is not None
                assert attributes.fileid == fileid
                assert reader.u32() == 1
                status, found = client.nfs(rpc.GETATTR, opaque(reader.opaque()))
                assert found.attributes().fileid == fileid
        is_end = reader.u32()
        reader.end()
        assert len(reader.data) <= count + 100
        if is_end:
            return names


@pytest.mark.parametrize("plus", [False, True])
@pytest.mark.parametrize("count", [400, 4096, 2**32 - 1])
def test_readdir_lists_every_export_once(
    writable: RunningServer, disk: ImageDisk, client: rpc.Client, plus: bool, count: int
) -> None:
    expected = [f"export-{number}" for number in range(40)]
    for name in expected:
        writable.add(Export(name, disk))
    writable.remove("export-7")
    expected.remove("export-7")
    assert list_names(client, client.mount("/"), plus=plus, count=count) == [".", "..", "point", *expected]
    assert list_names(client, client.mount("/point"), plus=plus, count=count) == [".", "..", "disk.raw"]


def test_readdir_without_room_for_an_entry_is_too_small(client: rpc.Client) -> None:
    status, reader = client.nfs(rpc.READDIR, opaque(client.mount("/")) + bytes(16) + u32(40))
    assert reader.optional_attributes() is not None
    reader.end()
    assert status == rpc.TOOSMALL


def test_readdir_with_a_foreign_verifier_or_of_a_file_is_refused(client: rpc.Client) -> None:
    arguments = opaque(client.mount("/")) + u64(0) + u64(9) + u32(4096)
    assert client.nfs(rpc.READDIR, arguments)[0] == rpc.BAD_COOKIE
    arguments = opaque(client.disk("point")) + bytes(16) + u32(4096)
    assert client.nfs(rpc.READDIR, arguments)[0] == rpc.NOTDIR


def test_fsstat_tells_the_room_for_overlays(
    start_server: Callable[..., RunningServer], disk: ImageDisk, tmp_path: Path
) -> None:
    server = start_server(space_path=tmp_path)
    server.add(Export("point", disk))
    with server.client() as client:
        status, reader = client.nfs(rpc.FSSTAT, opaque(client.mount("/")))
        reader.optional_attributes()
        total, free, _ = (reader.u64() for _ in range(3))
    assert status == rpc.OK
    assert total >= free > MIB


def test_fsinfo_allows_a_mebibyte_at_once(client: rpc.Client) -> None:
    status, reader = client.nfs(rpc.FSINFO, opaque(client.mount("/point")))
    reader.optional_attributes()
    assert (status, [reader.u32() for _ in range(6)]) == (rpc.OK, [MIB, MIB, 4096] * 2)
    reader.u32()
    assert reader.u64() == 2**63 - 1


def test_pathconf_answers(client: rpc.Client) -> None:
    status, reader = client.nfs(rpc.PATHCONF, opaque(client.mount("/point")))
    reader.optional_attributes()
    assert (status, [reader.u32() for _ in range(6)]) == (rpc.OK, [1, 255, 1, 1, 0, 1])
    reader.end()


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/nothing", rpc.NOENT), ("/point/disk.raw", rpc.NOTDIR), ("/point/a/b", rpc.NOTDIR)],
)
def test_mount_of_what_is_no_directory_is_refused(client: rpc.Client, path: str, expected: int) -> None:
    assert client.call(rpc.MOUNT, 1, opaque(path.encode())).u32() == expected


@pytest.mark.parametrize("path", ["/point", "point", "//point//", "/point/"])
def test_mount_path_spellings_mean_the_same(client: rpc.Client, path: str) -> None:
    assert client.mount(path) == client.mount("/point")


def test_mount_export_lists_exports_and_their_clients(client: rpc.Client) -> None:
    reader = client.call(rpc.MOUNT, 5)
    assert reader.u32() == 1
    assert reader.opaque() == b"/point"
    groups = []
    while reader.u32():
        groups.append(reader.opaque())
    assert groups == [b"127.0.0.0/8", b"::1/128"]
    assert reader.u32() == 0
    reader.end()


def mounts(client: rpc.Client) -> list[bytes]:
    reader, found = client.call(rpc.MOUNT, 2), []
    while reader.u32():
        reader.opaque()
        found.append(reader.opaque())
    reader.end()
    return found


def test_mount_dump_follows_mounts_and_unmounts(client: rpc.Client) -> None:
    client.mount("/point")
    client.mount("/")
    client.mount("/point")
    assert mounts(client) == [b"/", b"/point"]
    client.call(rpc.MOUNT, 3, opaque(b"/point")).end()
    assert mounts(client) == [b"/"]
    client.call(rpc.MOUNT, 4).end()
    assert mounts(client) == []


def test_portmap_tells_the_ports(writable: RunningServer) -> None:
    exports = writable.exports
    with writable.client("portmap") as client:
        client.call(rpc.PORTMAP, 0, flavor=rpc.AUTH_NONE).end()
        asked = [(rpc.NFS, 6), (rpc.MOUNT, 6), (rpc.PORTMAP, 6), (rpc.NFS, 17), ((100021, 4), 6)]
        ports = [client.call(rpc.PORTMAP, 3, u32(*program, protocol, 0)).u32() for program, protocol in asked]
        assert ports == [exports.nfs_port, exports.mount_port, exports.portmap_port, 0, 0]
        reader, listed = client.call(rpc.PORTMAP, 4), []
        while reader.u32():
            listed.append(tuple(reader.u32() for _ in range(4)))
        assert (100003, 3, 6, exports.nfs_port) in listed
        assert len(listed) == 3
        assert client.call(rpc.PORTMAP, 1, u32(100003, 3, 6, 999)).u32() == 0
        assert client.call(rpc.PORTMAP, 3, u32(*rpc.NFS, 6, 0)).u32() == exports.nfs_port


def test_removed_export_is_stale_and_others_go_on(writable: RunningServer, disk: ImageDisk) -> None:
    writable.add(Export("other", disk))
    with writable.client() as client:
        handle, other = client.disk("point"), client.disk("other")
        writable.remove("point")
        assert client.nfs(rpc.GETATTR, opaque(handle))[0] == rpc.STALE
        assert client.read(other, 0, 10)


def test_full_overlay_answers_no_space_and_goes_on_when_there_is_some(
    server: RunningServer, disk: ImageDisk, tiny_filesystem: Callable[[int], Path]
) -> None:
    place = tiny_filesystem(1)
    with OverlayDisk.open(place / "overlay", disk, identity="point") as overlay:
        server.add(Export("point", overlay, is_writable=True))
        with server.client() as client:
            handle = client.disk("point")
            filler = place / "filler"
            filler.write_bytes(bytes(900 << 10))
            assert client.write(handle, 0, b"y" * MIB, rpc.FILE_SYNC)[0] == rpc.NOSPC
            filler.unlink()
            assert client.write(handle, 4096, b"x" * 4096, rpc.FILE_SYNC)[0] == rpc.OK
            assert client.read(handle, 4096, 4096) == b"x" * 4096
        server.remove("point")


def test_damaged_lower_disk_is_an_io_error_and_never_data(server: RunningServer) -> None:
    with NativeDisk(Disk.open_memory(MIB)) as broken:
        broken.native.fail_reads(8192, 4096)
        server.add(Export("point", broken))
        with server.client() as client:
            handle = client.disk("point")
            status, reader = client.nfs(rpc.READ, opaque(handle) + u64(0) + u32(65536))
            assert status == rpc.IO
            reader.optional_attributes()
            reader.end()
            assert client.read(handle, 0, 8192) == bytes(8192)
        server.remove("point")


def test_cache_that_fills_up_is_told_of_before_it_is_full(
    start_server: Callable[..., RunningServer],
    disk: ImageDisk,
    tiny_filesystem: Callable[[int], Path],
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = start_server()
    limit = MIB
    with OverlayDisk.open(
        tiny_filesystem(8) / "overlay", disk, identity="point", limit_bytes=limit
    ) as overlay:
        server.add(Export("point", overlay, is_writable=True))

        def levels() -> list[str]:
            """What the log has said so far, after one more look at the room."""
            server.sweep(0)
            server.log_events()
            return re.findall(r"cache of /point is (\d+)% full", caplog.text)

        with server.client() as client:
            handle = client.disk("point")
            assert client.write(handle, 0, b"x" * 786432)[0] == rpc.OK
            assert levels() == []
            assert client.write(handle, 786432, b"x" * 65536)[0] == rpc.OK
            assert levels() == levels() == ["81"]
            assert client.write(handle, 851968, b"x" * 98304)[0] == rpc.OK
            assert levels() == ["81", "91"]
            assert client.write(handle, 950272, b"x" * 196608, rpc.FILE_SYNC)[0] == rpc.NOSPC
            assert client.read(handle, 0, MIB)[:950272] == b"x" * 950272
            # Zeros make room, and the next time it fills up is told of again.
            assert client.write(handle, 0, bytes(524288), rpc.FILE_SYNC)[0] == rpc.OK
            assert levels() == ["81", "91"]
            assert client.write(handle, MIB, b"y" * 425984, rpc.FILE_SYNC)[0] == rpc.OK
            assert len(levels()) == 3
        server.remove("point")
