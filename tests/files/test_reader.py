"""Files that change, vanish or refuse between the scan and the reading."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from native.cdc import Cutter
from native.event import EventKind
from native.merge import Merge, MergeStep
from native.scan import Scan
from tests.files.memory_store import KEYS, MemoryStore
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree
from vdrd.files.chunk_writer import WrittenCounts
from vdrd.files.entry import Entry, EntryFlag, EntryType, parse_loose
from vdrd.files.reader import BatchReader, ReadBatch
from vdrd.model.errors import BadInput, NotFound
from vdrd.model.points import FilesRoot


@pytest.fixture
def root_fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def planned(root_fd: int) -> bytes:
    """The one batch of a small tree, scanned and not yet read."""
    scan, merge = Scan(root_fd), Merge(1, reads_all=False)
    while (step := merge.step()) is not MergeStep.END:
        if step is MergeStep.WANTS_OLD:
            merge.give_old(None)
        else:
            count = scan.next_bytes()
            merge.give_scan(scan.pointer, count, is_end=scan.is_end)
    return merge.take_batch()


def read(
    root_fd: int, batch: bytes, store: MemoryStore | None = None
) -> tuple[ReadBatch, dict[bytes, Entry]]:
    store = store or MemoryStore()
    reader = BatchReader(root_fd, store, Cutter(KEYS.cut_key), WrittenCounts(), on_read=lambda _: None)
    try:
        result = reader.read(batch)
    finally:
        reader.close()
    return result, {entry.path: entry for block in result.blocks for entry in parse_loose(block)}


def content(store: MemoryStore, entry: Entry) -> bytes:
    parts = []
    for extent in entry.extents:
        if extent.chunk_id is None:
            parts.append(bytes(extent.length_bytes))
        else:
            plain = store.chunks[extent.chunk_id]
            parts.append(plain[extent.offset_bytes : extent.offset_bytes + extent.length_bytes])
    return b"".join(parts)


def test_file_changed_after_the_scan_is_kept_as_it_is_now(tmp_path: Path, root_fd: int) -> None:
    (tmp_path / "grown").write_bytes(b"short")
    (tmp_path / "shrunk").write_bytes(b"long" * 100)
    (tmp_path / "became large").write_bytes(b"small")
    (tmp_path / "became small").write_bytes(bytes(range(256)) * 2000)
    (tmp_path / "rewritten").write_bytes(b"old")
    batch = planned(root_fd)
    (tmp_path / "grown").write_bytes(b"much longer than before")
    (tmp_path / "shrunk").write_bytes(b"s")
    (tmp_path / "became large").write_bytes(os.urandom(500_000))
    (tmp_path / "became small").write_bytes(b"tiny")
    (tmp_path / "rewritten").unlink()
    (tmp_path / "rewritten").write_bytes(b"new")
    store = MemoryStore()
    result, entries = read(root_fd, batch, store)
    assert result.events == []
    for path in tmp_path.iterdir():
        entry = entries[os.fsencode(path.name)]
        assert content(store, entry) == path.read_bytes()
        assert (entry.size_bytes, entry.mtime_ns) == (path.stat().st_size, path.stat().st_mtime_ns)
        assert entry.inode == path.stat().st_ino
        assert not entry.flags


def test_files_that_vanished_are_left_out_and_noted(tmp_path: Path, root_fd: int) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "inside").write_text("x")
    (tmp_path / "gone").write_text("x")
    (tmp_path / "link").symlink_to("gone")
    (tmp_path / "stays").write_text("x")
    batch = planned(root_fd)
    (tmp_path / "gone").unlink()
    (tmp_path / "link").unlink()
    (tmp_path / "folder" / "inside").unlink()
    (tmp_path / "folder").rmdir()
    result, entries = read(root_fd, batch)
    assert set(entries) == {b"", b"folder", b"stays"}
    assert {(event.kind, event.path) for event in result.events} == {
        (EventKind.VANISHED, b"folder"),
        (EventKind.VANISHED, b"folder/inside"),
        (EventKind.VANISHED, b"gone"),
        (EventKind.VANISHED, b"link"),
    }


def test_files_replaced_by_something_else_are_never_followed(tmp_path: Path, root_fd: int) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "pipe").write_text("x")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "shadow").write_text("x")
    batch = planned(root_fd)
    (tmp_path / "file").unlink()
    (tmp_path / "file").symlink_to("/etc/shadow")
    (tmp_path / "pipe").unlink()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder" / "shadow").unlink()
    (tmp_path / "folder").rmdir()
    (tmp_path / "folder").symlink_to("/etc")
    store = MemoryStore()
    result, entries = read(root_fd, batch, store)
    assert set(entries) == {b"", b"folder"}
    assert not store.chunks
    assert {event.path for event in result.events} == {b"file", b"pipe", b"folder", b"folder/shadow"}


class Meddling(MemoryStore):
    """Changes a file whenever chunks of it arrive."""

    def __init__(self, path: Path, times: int) -> None:
        super().__init__()
        self.path = path
        self.times = times

    def claim(self, ids: bytes) -> bytes:
        if self.times:
            self.times -= 1
            with self.path.open("r+b") as file:
                file.write(b"%d" % self.times)
        return super().claim(ids)


@pytest.mark.parametrize(("times", "is_stable"), [(1, True), (1000, False)], ids=["once", "always"])
def test_large_file_changing_while_read_is_read_again(
    tmp_path: Path, root_fd: int, times: int, is_stable: bool
) -> None:
    path = tmp_path / "busy"
    path.write_bytes(os.urandom(400_000))
    batch = planned(root_fd)
    store = Meddling(path, times)
    result, entries = read(root_fd, batch, store)
    entry = entries[b"busy"]
    if is_stable:
        assert result.events == []
        assert content(store, entry) == path.read_bytes()
    else:
        assert [event.kind for event in result.events] == [EventKind.UNSTABLE]
        assert entry.flags == EntryFlag.UNSTABLE
        assert len(content(store, entry)) == entry.size_bytes == 400_000


def test_unstable_file_is_a_warning_and_read_again_next_time(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    path = source / "busy"
    path.write_bytes(os.urandom(400_000))
    store = Meddling(path, 1000)
    first = backup_files(source, store, object_name="t")
    assert first.warnings == ("busy changed each time it was read; what was read last is kept",)
    store.times = 0
    assert isinstance(first.root, FilesRoot)
    second = backup_files(source, store, object_name="t", parent=first.root, parent_source=store)
    assert second.warnings == ()
    assert isinstance(second.root, FilesRoot)
    tree = FileTree(second.root, store)
    assert tree.open_file(tree.find("busy")).read(0, 1 << 20) == path.read_bytes()


def test_other_name_of_a_vanished_first_name_is_read_by_itself(tmp_path: Path) -> None:
    """The scan sees two names, the reader finds only the second: it must not lose the file."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_text("content")
    os.link(source / "a", source / "b")

    class Unlinking(MemoryStore):
        pass

    store = Unlinking()
    batch_seen = []
    original = BatchReader.read

    def unlink_first(self: BatchReader, batch: bytes) -> ReadBatch:
        if not batch_seen:
            (source / "a").unlink()
        batch_seen.append(batch)
        return original(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BatchReader, "read", unlink_first)
        draft = backup_files(source, store, object_name="t")
    assert isinstance(draft.root, FilesRoot)
    tree = FileTree(draft.root, store)
    assert [entry.path for entry in tree.entries_from(b"")] == [b"", b"b"]
    assert tree.open_file(tree.find("b")).read(0, 100) == b"content"


UNPRIVILEGED = """
import os, pickle, sys
from pathlib import Path
from tests.files.memory_store import MemoryStore
from vdrd.files.backup import backup_files
from vdrd.files.browse import iterate
from vdrd.files.restore import restore_files
os.chdir("/")
os.setgroups([]); os.setgid(65534); os.setuid(65534)
store = MemoryStore()
draft = backup_files(sys.argv[1], store, object_name="t")
report = restore_files(draft.root, store, sys.argv[2])
entries = [(e.path, e.type.name, int(e.flags)) for e in iterate(draft.root, store)]
sys.stdout.buffer.write(pickle.dumps((draft.warnings, entries, report.warnings)))
"""


def test_unreadable_files_are_listed_and_the_rest_is_kept(tmp_path: Path) -> None:
    import pickle

    source = tmp_path / "source"
    (source / "closed").mkdir(parents=True)
    (source / "closed" / "inside").write_text("x")
    (source / "closed").chmod(0o700)
    (source / "open").write_text("readable")
    (source / "secret").write_text("x")
    (source / "secret").chmod(0o600)
    (source / "theirs").write_text("owned by root")
    (source / "theirs").chmod(0o4755)
    target = tmp_path / "target"
    target.mkdir()
    target.chmod(0o777)
    for parent in (tmp_path, *list(tmp_path.parents)[:2]):
        parent.chmod(0o755)
    command = [sys.executable, "-c", UNPRIVILEGED, str(source), str(target)]
    done = subprocess.run(command, capture_output=True, check=True, cwd=Path(__file__).parents[2])
    warnings, entries, restore_warnings = pickle.loads(done.stdout)
    assert set(warnings) == {
        "cannot read closed: Permission denied",
        "cannot read secret: Permission denied",
    }
    assert (b"closed", "DIRECTORY", EntryFlag.UNREADABLE) in entries
    assert (b"secret", "REGULAR", EntryFlag.UNREADABLE) in entries
    assert b"closed/inside" not in {path for path, _, _ in entries}
    assert "secret could not be read when it was backed up and is not restored" in restore_warnings
    assert "cannot set the owner of theirs: Operation not permitted" in restore_warnings
    assert (target / "open").read_text() == "readable"
    assert not (target / "secret").exists()
    assert (target / "theirs").stat().st_mode & 0o7777 == 0o755, "set-uid must not pass to another owner"


def test_types_of_special_files_are_kept(tmp_path: Path, root_fd: int) -> None:
    os.mkfifo(tmp_path / "fifo")
    os.mknod(tmp_path / "device", 0o020600, os.makedev(1, 7))
    _, entries = read(root_fd, planned(root_fd))
    assert entries[b"fifo"].type is EntryType.FIFO
    assert (entries[b"device"].type, entries[b"device"].node_device) == (EntryType.CHARACTER, (1, 7))


def test_mount_points_are_not_entered_unless_asked(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "mounted").mkdir(parents=True)
    (source / "pseudo").mkdir()
    (source / "before").write_text("x")
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", source / "mounted"], check=True)
    subprocess.run(["mount", "-t", "proc", "proc", source / "pseudo"], check=True)
    try:
        (source / "mounted" / "within").write_text("x")
        outside, quiet, inside = (
            backup_files(source, MemoryStore(), object_name="t", **options)  # type: ignore[arg-type]
            for options in ({}, {"is_uncrossed_quiet": True}, {"crosses_file_systems": True})
        )
        assert set(outside.warnings) == {
            "mounted is another file system and was not entered",
            "pseudo is another file system and was not entered",
        }
        assert (quiet.warning_count, quiet.root.entry_count) == (0, 4)  # type: ignore[union-attr]
        assert (inside.warning_count, inside.root.entry_count) == (0, 5)  # type: ignore[union-attr]
    finally:
        subprocess.run(["umount", source / "mounted", source / "pseudo"], check=True)


def test_storage_within_the_tree_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "storage").mkdir()
    (tmp_path / "storage" / "pack").write_text("x")
    (tmp_path / "kept").write_text("x")
    store = MemoryStore()
    draft = backup_files(tmp_path, store, object_name="t", skip_directories=[tmp_path / "storage"])
    assert isinstance(draft.root, FilesRoot)
    assert [entry.path for entry in FileTree(draft.root, store).entries_from(b"")] == [b"", b"kept"]
    with pytest.raises(BadInput, match="is the storage itself"):
        backup_files(tmp_path, store, object_name="t", skip_directories=[tmp_path])


@pytest.mark.parametrize(("path", "error"), [("missing", NotFound), ("file", BadInput), ("/proc", BadInput)])
def test_root_that_cannot_be_backed_up_is_refused(tmp_path: Path, path: str, error: type[Exception]) -> None:
    (tmp_path / "file").write_text("x")
    store = MemoryStore()
    with pytest.raises(error):
        backup_files(tmp_path / path, store, object_name="t")
    assert not store.chunks
