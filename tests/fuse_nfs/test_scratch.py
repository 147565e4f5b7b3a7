"""What clients put beside the disk: real files, in every way NFSv3 has, and no way out of their directory."""

import os
import random
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fuse_nfs.export import Export, Scratch
from tests.fuse_nfs import rpc
from tests.fuse_nfs.conftest import MIB, RunningServer
from tests.fuse_nfs.rpc import opaque, u32, u64
from vdrd.disk.image import ImageDisk

NO_ATTRIBUTES = u32(0, 0, 0, 0, 0, 0)
UNCHECKED, GUARDED, EXCLUSIVE = 0, 1, 2


def sattr(
    *, mode: int | None = None, uid: int | None = None, size: int | None = None, mtime: int | None = None
) -> bytes:
    parts = [u32(0) if mode is None else u32(1, mode), u32(0) if uid is None else u32(1, uid), u32(0)]
    parts.append(u32(0) if size is None else u32(1) + u64(size))
    parts += [u32(0), u32(0) if mtime is None else u32(2, mtime, 0)]
    return b"".join(parts)


class Files:
    """The procedures that change names, as a client calls them: results are statuses and handles."""

    def __init__(self, client: rpc.Client) -> None:
        self.client = client
        self.top = client.mount("/point")

    def _made(self, procedure: int, arguments: bytes) -> tuple[int, bytes]:
        status, reader = self.client.nfs(procedure, arguments)
        handle = b""
        if status == rpc.OK:
            assert reader.u32() == 1
            handle = reader.opaque()
            assert reader.optional_attributes() is not None
        before, after = reader.change()
        reader.end()
        if status == rpc.OK:
            assert before is not None
            assert after is not None
        return status, handle

    def create(
        self, name: str, how: int = GUARDED, what: bytes = NO_ATTRIBUTES, *, at: bytes | None = None
    ) -> tuple[int, bytes]:
        return self._made(rpc.CREATE, opaque(at or self.top) + opaque(os.fsencode(name)) + u32(how) + what)

    def mkdir(self, name: str, what: bytes = NO_ATTRIBUTES, *, at: bytes | None = None) -> tuple[int, bytes]:
        return self._made(rpc.MKDIR, opaque(at or self.top) + opaque(os.fsencode(name)) + what)

    def symlink(self, name: str, target: str, *, at: bytes | None = None) -> tuple[int, bytes]:
        arguments = opaque(at or self.top) + opaque(os.fsencode(name)) + NO_ATTRIBUTES
        return self._made(rpc.SYMLINK, arguments + opaque(os.fsencode(target)))

    def remove(self, name: str, procedure: int = rpc.REMOVE, *, at: bytes | None = None) -> int:
        status, reader = self.client.nfs(procedure, opaque(at or self.top) + opaque(os.fsencode(name)))
        reader.change()
        reader.end()
        return status

    def rename(self, name: str, to: str, *, at: bytes | None = None, into: bytes | None = None) -> int:
        arguments = opaque(at or self.top) + opaque(os.fsencode(name))
        arguments += opaque(into or self.top) + opaque(os.fsencode(to))
        status, reader = self.client.nfs(rpc.RENAME, arguments)
        reader.change()
        reader.change()
        reader.end()
        return status

    def link(self, handle: bytes, name: str, *, at: bytes | None = None) -> int:
        arguments = opaque(handle) + opaque(at or self.top) + opaque(os.fsencode(name))
        status, reader = self.client.nfs(rpc.LINK, arguments)
        reader.optional_attributes()
        reader.change()
        reader.end()
        return status

    def lookup(self, name: str, *, at: bytes | None = None) -> tuple[int, bytes]:
        status, reader = self.client.nfs(rpc.LOOKUP, opaque(at or self.top) + opaque(os.fsencode(name)))
        return status, reader.opaque() if status == rpc.OK else b""

    def attributes(self, handle: bytes) -> rpc.Attributes:
        status, reader = self.client.nfs(rpc.GETATTR, opaque(handle))
        assert status == rpc.OK, status
        return reader.attributes()

    def set(self, handle: bytes, what: bytes, guard: bytes = u32(0)) -> int:
        status, reader = self.client.nfs(rpc.SETATTR, opaque(handle) + what + guard)
        reader.change()
        reader.end()
        return status

    def names(self, at: bytes | None = None, *, plus: bool = True, count: int = 4096) -> list[str]:
        names, cookie = [], 0
        while True:
            arguments = opaque(at or self.top) + u64(cookie) + bytes(8) + u32(count) + u32(count) * plus
            status, reader = self.client.nfs(rpc.READDIRPLUS if plus else rpc.READDIR, arguments)
            assert status == rpc.OK
            reader.optional_attributes()
            reader.u64()
            while reader.u32():
                fileid = reader.u64()
                names.append(os.fsdecode(reader.opaque()))
                cookie = reader.u64()
                if plus:
                    attributes = reader.optional_attributes()
                    assert attributes is not None
                    assert attributes.fileid == fileid
                    assert reader.u32() == 1
                    reader.opaque()
            if reader.u32():
                return names


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    return tmp_path / "scratch"


@pytest.fixture
def start(
    start_server: Callable[..., RunningServer], disk: ImageDisk, scratch: Path, tmp_path: Path
) -> Callable[..., RunningServer]:
    """`start(**limits)`: a server of the export, as after a restart of the node."""

    def make(**limits: int) -> RunningServer:
        server = start_server(space_path=tmp_path)
        server.add(Export("point", disk, is_writable=True, scratch=Scratch(scratch, **limits)))
        return server

    return make


@pytest.fixture
def files(start: Callable[..., RunningServer]) -> Iterator[Files]:
    with start().client() as client:
        yield Files(client)


def test_file_made_written_and_read_is_a_real_file(files: Files, scratch: Path) -> None:
    status, handle = files.create("vm.vmx", what=sattr(mode=0o640))
    assert status == rpc.OK
    text = random.Random(1).randbytes(100_001)
    assert files.client.write(handle, 0, text[:50_000], rpc.FILE_SYNC)[0] == rpc.OK
    assert files.client.write(handle, 50_000, text[50_000:])[0] == rpc.OK
    status, _ = files.client.nfs(rpc.COMMIT, opaque(handle) + u64(0) + u32(0))
    assert status == rpc.OK
    assert files.client.read(handle, 10, MIB) == text[10:]
    assert files.client.read(handle, len(text), 10) == b""
    found = files.attributes(handle)
    assert (found.kind, found.mode, found.size) == (1, 0o640, len(text))
    assert (scratch / "tree/vm.vmx").read_bytes() == text


def test_names_come_and_go_and_are_listed(files: Files) -> None:
    assert sorted(files.names()) == [".", "..", "disk.raw"]
    status, folder = files.mkdir("folder", sattr(mode=0o750))
    assert status == rpc.OK
    assert files.attributes(folder).kind == 2
    assert files.mkdir("folder")[0] == rpc.EXIST
    assert files.create("inner", at=folder)[0] == rpc.OK
    assert sorted(files.names(folder)) == [".", "..", "inner"]
    assert files.remove("folder", rpc.RMDIR) == rpc.NOTEMPTY
    assert files.remove("folder") == rpc.ISDIR
    assert files.remove("inner", rpc.RMDIR, at=folder) == rpc.NOTDIR
    assert files.remove("inner", at=folder) == rpc.OK
    assert files.remove("inner", at=folder) == rpc.NOENT
    assert files.remove("folder", rpc.RMDIR) == rpc.OK
    assert files.client.nfs(rpc.GETATTR, opaque(folder))[0] == rpc.STALE
    assert sorted(files.names()) == [".", "..", "disk.raw"]


def test_lookup_walks_up_and_down(files: Files) -> None:
    outer = files.mkdir("outer")[1]
    inner = files.mkdir("inner", at=outer)[1]
    assert files.lookup("inner", at=outer) == (rpc.OK, inner)
    assert files.lookup("..", at=inner) == (rpc.OK, outer)
    assert files.lookup(".", at=inner) == (rpc.OK, inner)
    assert files.lookup("..", at=outer) == (rpc.OK, files.top)
    assert files.lookup("..") == (rpc.OK, files.client.mount("/"))
    handle = files.create("file", at=inner)[1]
    assert files.lookup("x", at=handle)[0] == rpc.NOTDIR


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc", "../up", "nul\0byte"])
def test_name_that_is_none_is_refused(files: Files, scratch: Path, name: str) -> None:
    before = sorted(path.name for path in scratch.rglob("*"))
    handle = files.create("file")[1]
    assert files.create(name)[0] == rpc.INVAL
    assert files.mkdir(name)[0] == rpc.INVAL
    assert files.symlink(name, "x")[0] == rpc.INVAL
    assert files.rename("file", name) == rpc.INVAL
    assert files.rename(name, "other") == rpc.INVAL
    assert files.link(handle, name) == rpc.INVAL
    assert files.remove(name) == rpc.INVAL
    assert files.remove(name, rpc.RMDIR) == rpc.INVAL
    assert sorted(path.name for path in scratch.rglob("*")) == sorted([*before, "file"])


def test_longest_name_is_taken_and_a_longer_one_refused(files: Files) -> None:
    assert files.create("n" * 255)[0] == rpc.OK
    assert files.create("n" * 256)[0] == rpc.NAMETOOLONG
    assert files.lookup("n" * 255)[0] == rpc.OK


def test_symbolic_link_leads_nowhere_on_the_server(files: Files, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "file").write_text("out of bounds")
    for number, target in enumerate([str(secret), "../../secret", f"{secret}/file", "/proc/self/root"]):
        status, link = files.symlink(f"link{number}", target)
        assert status == rpc.OK
        assert files.attributes(link).kind == 5
        status, reader = files.client.nfs(rpc.READLINK, opaque(link))
        reader.optional_attributes()
        assert (status, reader.opaque()) == (rpc.OK, os.fsencode(target))
        # As a directory, as a file, and as the way to one, it is only a link.
        assert files.lookup("file", at=link)[0] == rpc.NOTDIR
        assert files.create("new", at=link)[0] == rpc.NOTDIR
        assert files.client.nfs(rpc.READ, opaque(link) + u64(0) + u32(10))[0] == rpc.INVAL
        assert files.client.write(link, 0, b"x")[0] == rpc.INVAL
        assert files.set(link, sattr(size=0)) == rpc.INVAL
        assert files.set(link, sattr(mode=0o777)) == rpc.OK
        assert files.create(f"link{number}", UNCHECKED, sattr(size=0))[0] == rpc.EXIST
    assert sorted(path.name for path in secret.iterdir()) == ["file"]
    assert (secret / "file").read_text() == "out of bounds"


def test_directory_swapped_for_a_link_behind_our_back_is_not_followed(
    files: Files, scratch: Path, tmp_path: Path
) -> None:
    folder = files.mkdir("folder")[1]
    outside = tmp_path / "outside"
    outside.mkdir()
    (scratch / "tree/folder").rmdir()
    (scratch / "tree/folder").symlink_to(outside)
    assert files.create("file", at=folder)[0] != rpc.OK
    assert list(outside.iterdir()) == []


def test_rename_moves_replaces_and_refuses_as_posix_has_it(files: Files, scratch: Path) -> None:
    folder = files.mkdir("folder")[1]
    first = files.create("first")[1]
    files.client.write(first, 0, b"first")
    second = files.create("second", at=folder)[1]
    assert files.rename("first", "second", into=folder) == rpc.OK
    assert files.client.nfs(rpc.GETATTR, opaque(second))[0] == rpc.STALE
    assert files.client.read(first, 0, 10) == b"first"
    assert files.lookup("second", at=folder) == (rpc.OK, first)
    assert (scratch / "tree/folder/second").read_bytes() == b"first"
    inner = files.mkdir("inner", at=folder)[1]
    assert files.rename("folder", "loop", into=inner) == rpc.INVAL
    assert files.rename("second", "inner", at=folder, into=folder) == rpc.ISDIR
    assert files.rename("absent", "x") == rpc.NOENT
    assert files.rename("folder", "renamed") == rpc.OK
    # Handles of what is below go on.
    assert files.client.read(first, 0, 10) == b"first"
    assert files.create("more", at=inner)[0] == rpc.OK
    assert (scratch / "tree/renamed/inner/more").exists()


def test_hard_links_are_one_file(files: Files) -> None:
    handle = files.create("one")[1]
    assert files.link(handle, "two") == rpc.OK
    assert files.link(handle, "two") == rpc.EXIST
    assert files.lookup("two") == (rpc.OK, handle)
    assert files.rename("one", "two") == rpc.OK  # both stay
    assert files.remove("one") == rpc.OK
    files.client.write(handle, 0, b"still there")
    assert files.client.read(handle, 0, 20) == b"still there"
    assert files.remove("two") == rpc.OK
    assert files.client.write(handle, 0, b"x")[0] == rpc.STALE
    folder = files.mkdir("folder")[1]
    assert files.link(folder, "other") == rpc.PERM


def test_disk_can_be_renamed_and_moved_but_never_lost(
    files: Files, start: Callable[..., RunningServer], image: Path
) -> None:
    disk = files.lookup("disk.raw")[1]
    assert files.remove("disk.raw") == rpc.PERM
    assert files.remove("disk.raw", rpc.RMDIR) == rpc.NOTDIR
    assert files.link(disk, "copy") == rpc.PERM
    files.create("file")
    assert files.rename("file", "disk.raw") == rpc.PERM
    assert files.create("disk.raw", GUARDED)[0] == rpc.EXIST
    assert files.create("disk.raw", UNCHECKED) == (rpc.OK, disk)
    assert files.create("disk.raw", UNCHECKED, sattr(size=0))[0] == rpc.PERM
    folder = files.mkdir("vm")[1]
    assert files.rename("disk.raw", "vm-flat.vmdk", into=folder) == rpc.OK
    assert files.remove("vm", rpc.RMDIR) == rpc.NOTEMPTY
    assert files.rename("vm-flat.vmdk", "file", at=folder) == rpc.OK  # over another file
    assert files.lookup("file") == (rpc.OK, disk)
    assert files.attributes(disk).size == image.stat().st_size
    with start().client() as client:
        again = Files(client)
        assert again.lookup("file") == (rpc.OK, disk)
        assert sorted(again.names()) == [".", "..", "file", "vm"]
        assert client.read(disk, 0, 4096) == image.read_bytes()[:4096]


def test_disk_whose_name_was_removed_by_hand_has_one_again(
    files: Files, start: Callable[..., RunningServer], scratch: Path
) -> None:
    files.rename("disk.raw", "moved")
    files.create("disk.raw")
    (scratch / "tree/moved").unlink()
    with start().client() as client:
        assert sorted(Files(client).names()) == [".", "..", "disk.raw", "disk.raw.1"]


def test_handles_cookies_and_files_are_the_same_after_a_restart(
    files: Files, start: Callable[..., RunningServer]
) -> None:
    folder = files.mkdir("folder")[1]
    made = {name: files.create(name, at=folder)[1] for name in map(str, range(50))}
    files.client.write(made["7"], 0, b"seven", rpc.FILE_SYNC)
    removed = made.pop("9")
    files.remove("9", at=folder)
    listed = files.names(folder)
    with start().client() as client:
        again = Files(client)
        assert {name: again.lookup(name, at=folder)[1] for name in made} == made
        assert again.names(folder) == listed
        assert client.read(made["7"], 0, 10) == b"seven"
        assert client.nfs(rpc.GETATTR, opaque(removed))[0] == rpc.STALE


def test_inode_used_again_is_another_file(files: Files) -> None:
    """The file system gives a freed number to the next file; handles of the file before must not reach it."""
    old = [files.create(f"old{number}")[1] for number in range(8)]
    for number in range(8):
        files.remove(f"old{number}")
    for number in range(8):
        files.client.write(files.create(f"new{number}")[1], 0, b"new")
    for handle in old:
        assert files.client.nfs(rpc.READ, opaque(handle) + u64(0) + u32(10))[0] == rpc.STALE


def test_exclusive_create_knows_its_own_verifier_also_after_a_restart(
    files: Files, start: Callable[..., RunningServer]
) -> None:
    status, handle = files.create("lock", EXCLUSIVE, b"verifier")
    assert status == rpc.OK
    assert files.create("lock", EXCLUSIVE, b"verifier") == (rpc.OK, handle)
    assert files.create("lock", EXCLUSIVE, b"another.")[0] == rpc.EXIST
    assert files.create("lock", GUARDED)[0] == rpc.EXIST
    assert files.create("lock", UNCHECKED) == (rpc.OK, handle)
    with start().client() as client:
        again = Files(client)
        assert again.create("lock", EXCLUSIVE, b"verifier") == (rpc.OK, handle)
        assert again.create("lock", EXCLUSIVE, b"another.")[0] == rpc.EXIST
        assert again.set(handle, sattr(mode=0o600, mtime=1_700_000_000)) == rpc.OK
        assert again.create("lock", EXCLUSIVE, b"verifier")[0] == rpc.EXIST
    assert files.create("disk.raw", EXCLUSIVE, b"verifier")[0] == rpc.EXIST


def test_attributes_are_set_and_guarded(files: Files, scratch: Path) -> None:
    handle = files.create("file")[1]
    assert files.set(handle, sattr(mode=0o6751, size=12345, mtime=1_600_000_000)) == rpc.OK
    found = files.attributes(handle)
    assert (found.mode, found.size, found.mtime >> 32) == (0o751, 12345, 1_600_000_000)
    assert stat.S_IMODE((scratch / "tree/file").stat().st_mode) == 0o751
    assert files.set(handle, sattr(uid=0)) == rpc.OK
    assert files.set(handle, sattr(uid=1000)) == rpc.PERM
    assert files.set(handle, sattr(size=5), u32(1, 5, 5)) == rpc.NOT_SYNC
    assert files.attributes(handle).size == 12345
    changed = (scratch / "tree/file").stat().st_ctime_ns
    guard = u32(1, changed // 10**9, changed % 10**9)
    assert files.set(handle, sattr(size=5), guard) == rpc.OK
    assert files.attributes(handle).size == 5
    assert files.set(files.top, sattr(size=0)) == rpc.ISDIR
    assert files.set(handle, sattr(size=2**63)) == rpc.FBIG


def test_access_grants_what_can_be_done(files: Files) -> None:
    made = [files.top, files.create("plain")[1], files.create("run", what=sattr(mode=0o755))[1]]
    granted = []
    for handle in made:
        _, reader = files.client.nfs(rpc.ACCESS, opaque(handle) + u32(63))
        reader.optional_attributes()
        granted.append(reader.u32())
    assert granted == [31, 13, 45]


@pytest.mark.parametrize("plus", [False, True])
def test_listing_goes_on_while_names_come_and_go(files: Files, plus: bool) -> None:
    folder = files.mkdir("folder")[1]
    kept = {f"kept-{number}" for number in range(60)}
    for name in kept:
        files.create(name, at=folder)
        files.create(f"{name}.gone", at=folder)
    seen: list[str] = []
    cookie = 0
    while True:
        arguments = opaque(folder) + u64(cookie) + bytes(8) + u32(600) + u32(1200) * plus
        status, reader = files.client.nfs(rpc.READDIRPLUS if plus else rpc.READDIR, arguments)
        assert status == rpc.OK
        reader.optional_attributes()
        reader.u64()
        while reader.u32():
            reader.u64()
            seen.append(reader.opaque().decode())
            cookie = reader.u64()
            if plus:
                reader.optional_attributes()
                reader.u32()
                reader.opaque()
        if reader.u32():
            break
        for name in list(seen)[-2:]:  # what was just listed, among it the last cookie's own name
            if name.endswith(".gone"):
                files.remove(name, at=folder)
        files.create(f"new-{cookie}", at=folder)
    assert kept <= set(seen)
    assert len(seen) == len(set(seen))


def test_mknod_is_refused_and_makes_nothing(files: Files, scratch: Path) -> None:
    for kind, rest in [
        (3, NO_ATTRIBUTES + u64(5)),
        (4, NO_ATTRIBUTES + u64(5)),
        (6, NO_ATTRIBUTES),
        (7, NO_ATTRIBUTES),
    ]:
        status, reader = files.client.nfs(rpc.MKNOD, opaque(files.top) + opaque(b"node") + u32(kind) + rest)
        reader.change()
        reader.end()
        assert status == rpc.NOTSUPP
    assert [path.name for path in (scratch / "tree").iterdir()] == ["disk.raw"]


def test_full_scratch_refuses_writes_loses_nothing_and_goes_on(start: Callable[..., RunningServer]) -> None:
    with start(bytes_max=MIB, files_max=6).client() as client:
        files = Files(client)
        handle = files.create("log")[1]
        assert client.write(handle, 0, b"x" * (MIB - 65536), rpc.FILE_SYNC)[0] == rpc.OK
        assert client.write(handle, MIB - 65536, b"y" * 131072, rpc.FILE_SYNC)[0] == rpc.NOSPC
        assert client.write(handle, 0, b"z" * 4096, rpc.FILE_SYNC)[0] == rpc.OK  # takes no more room
        _, reader = client.nfs(rpc.FSSTAT, opaque(files.top))
        reader.optional_attributes()
        _, free, _, count, count_free, _ = (reader.u64() for _ in range(6))
        assert free <= 65536 + 4096 * 8
        assert (count, count_free) == (6, 4)
        other = files.create("other")[1]
        assert files.set(handle, sattr(size=4096)) == rpc.OK
        assert client.write(other, 0, b"y" * 131072, rpc.FILE_SYNC)[0] == rpc.OK
        assert client.read(handle, 0, 4096) == b"z" * 4096
        for name in ("a", "b", "c"):
            assert files.create(name)[0] == rpc.OK
        assert files.create("d")[0] == rpc.NOSPC
        assert files.mkdir("d")[0] == rpc.NOSPC
        assert files.remove("c") == rpc.OK
        assert files.mkdir("d")[0] == rpc.OK


def test_another_export_is_another_file_system_for_rename_and_link(
    start: Callable[..., RunningServer], disk: ImageDisk, tmp_path: Path
) -> None:
    server = start()
    server.add(Export("other", disk, is_writable=True, scratch=Scratch(tmp_path / "other")))
    with server.client() as client:
        files = Files(client)
        handle = files.create("file")[1]
        other = client.mount("/other")
        assert files.rename("file", "file", into=other) == rpc.XDEV
        assert files.link(handle, "file", at=other) == rpc.XDEV
        assert files.attributes(handle).fileid != files.attributes(client.disk("other")).fileid


def test_call_sent_again_is_answered_as_before(files: Files, start: Callable[..., RunningServer]) -> None:
    """A client whose connection broke sends what was not answered again, from another port."""
    top = opaque(files.top)
    calls = [
        (rpc.CREATE, top + opaque(b"new") + u32(GUARDED) + NO_ATTRIBUTES),
        (rpc.MKDIR, top + opaque(b"folder") + NO_ATTRIBUTES),
        (rpc.SYMLINK, top + opaque(b"link") + NO_ATTRIBUTES + opaque(b"target")),
        (rpc.LINK, opaque(files.create("old")[1]) + top + opaque(b"older")),
        (rpc.RENAME, top + opaque(b"new") + top + opaque(b"renamed")),
        (rpc.REMOVE, top + opaque(b"link")),
        (rpc.RMDIR, top + opaque(b"folder")),
    ]
    port = files.client.port
    for procedure, arguments in calls:
        message = files.client.message(rpc.NFS, procedure, arguments)
        answers = []
        for _ in range(3):
            with rpc.Client("127.0.0.1", port) as other:
                other.send_record(message)
                answers.append(other.receive_record())
        assert answers[1:] == answers[:1] * 2
        assert answers[0][24:28] == bytes(4), procedure
        # The same call as a new one runs, and finds what the first has done.
        status, _ = files.client.nfs(procedure, arguments)
        assert status in (rpc.EXIST, rpc.NOENT)


def test_call_sent_again_with_other_arguments_runs(files: Files) -> None:
    for name in (b"a", b"b"):
        files.client.xid = 7000
        status, _ = files.client.nfs(
            rpc.CREATE, opaque(files.top) + opaque(name) + u32(GUARDED) + NO_ATTRIBUTES
        )
        assert status == rpc.OK
    assert sorted(files.names()) == [".", "..", "a", "b", "disk.raw"]


def test_hypervisor_sequence_of_locks_descriptors_and_logs(files: Files) -> None:
    """What a hypervisor does beside a flat disk: lock file made exclusively and kept alive, descriptor
    replaced by rename, log appended, swap made sparse."""
    vm = files.mkdir("vm", sattr(mode=0o755))[1]
    assert files.rename("disk.raw", "vm-flat.vmdk", into=vm) == rpc.OK
    disk = files.lookup("vm-flat.vmdk", at=vm)[1]
    lock_name = f".lck-{files.attributes(disk).fileid:016x}"
    status, lock = files.create(lock_name, EXCLUSIVE, b"\x01\x02host-1", at=vm)
    assert status == rpc.OK
    assert files.set(lock, sattr(mode=0o644)) == rpc.OK
    for beat in range(3):
        assert files.client.write(lock, 0, bytes([beat]) * 84, rpc.FILE_SYNC)[0] == rpc.OK
        assert files.client.read(lock, 0, 512) == bytes([beat]) * 84
    assert files.create(lock_name, EXCLUSIVE, b"\x09\x02host-2", at=vm)[0] == rpc.EXIST
    for text in (b"# Disk DescriptorFile\n", b"# Disk DescriptorFile\nRW 8194 VMFS\n"):
        new = files.create("vm.vmdk~", UNCHECKED, sattr(mode=0o600, size=0), at=vm)[1]
        assert files.client.write(new, 0, text, rpc.FILE_SYNC)[0] == rpc.OK
        assert files.rename("vm.vmdk~", "vm.vmdk", at=vm, into=vm) == rpc.OK
    descriptor = files.lookup("vm.vmdk", at=vm)[1]
    assert files.client.read(descriptor, 0, 100).endswith(b"VMFS\n")
    log = files.create("vmware.log", UNCHECKED, at=vm)[1]
    for number in range(20):
        end = files.attributes(log).size
        assert files.client.write(log, end, b"line %02d\n" % number, rpc.FILE_SYNC)[0] == rpc.OK
    assert files.client.read(log, 0, 4096).count(b"\n") == 20
    swap = files.create("vm.vswp", EXCLUSIVE, b"swapswap", at=vm)[1]
    assert files.set(swap, sattr(size=1 << 34)) == rpc.OK
    assert files.client.read(swap, 1 << 33, 512) == bytes(512)
    assert files.client.write(disk, 0, b"boot" * 128, rpc.FILE_SYNC)[0] == rpc.OK
    for name in (lock_name, "vm.vswp"):
        assert files.remove(name, at=vm) == rpc.OK
    assert sorted(files.names(vm)) == [".", "..", "vm-flat.vmdk", "vm.vmdk", "vmware.log"]
