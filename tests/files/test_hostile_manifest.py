"""Manifests made to harm: every parser answers Damaged (or is right), a restore never leaves its target."""

import os
import random
import struct
from array import array
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from native.err import NativeError
from native.segment import SegmentBuilder, is_safe_path, loose_entries
from tests.files.memory_store import KEYS, MemoryStore
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree, clean_path
from vdrd.files.chunk_writer import ChunkWriter, WrittenCounts
from vdrd.files.entry import ENTRY_FIXED_BYTES, FIXED, PIECE
from vdrd.files.restore import restore_files
from vdrd.files.tree import checked_segment
from vdrd.formats import manifest
from vdrd.formats.manifest import Child, Extent, Head
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import BadInput, Damaged, StorageNewer
from vdrd.model.points import FilesRoot


def stored_entry(
    path: bytes,
    *,
    type_: int = 1,
    size: int = 0,
    extents: tuple[tuple[int, int, int], ...] = (),
    **fields: int,
) -> bytes:
    """An entry as it stands first in a segment, without any check."""
    target = fields.get("target", 0)
    body = b"".join(struct.pack("<IIQ", *extent) for extent in extents) + path + b"t" * target
    record_bytes = ENTRY_FIXED_BYTES + len(body) + -len(body) % 8
    get = fields.get
    path_part = (get("record_bytes", record_bytes), get("shared", 0), len(path))
    owner_part = (type_, get("flags", 0), get("mode", 0o644), 0, 0, 0)
    time_part = (size, 0, 0, get("mtime_ns", 0), 0)
    place_part = (7, 0, 0, get("rdev", 0), 0, get("nlink", 1))
    tail_part = (target, get("attributes", 0), len(extents), bytes(16))
    fixed = FIXED.pack(*path_part, *owner_part, *time_part, *place_part, *tail_part)
    return fixed + body + bytes(-len(body) % 8)


def segment_of(*entries: bytes, ids: tuple[bytes, ...] = (), count: int | None = None) -> bytes:
    body = b"".join(entries)
    count = len(entries) if count is None else count
    return manifest.HEADER.pack(b"VMSG", 1, 0, 0, count, len(ids), 0, 0, len(body), 0) + b"".join(ids) + body


GOOD = stored_entry(b"a", size=5, extents=((0, 0, 5),))
ID = bytes(range(32))


def test_hand_made_segment_is_accepted_so_that_its_mutations_mean_something() -> None:
    assert checked_segment(segment_of(GOOD, ids=(ID,))) == 1
    assert checked_segment(segment_of(stored_entry(b"l", type_=3, target=4))) == 1


@pytest.mark.parametrize(
    "path",
    [
        b"..",
        b"../x",
        b"a/../b",
        b"/etc/passwd",
        b"a//b",
        b"a/",
        b".",
        b"a/./b",
        b"a\0b",
        b"x" * 256,
        b"a/" + b"y" * 256,
    ],
)
def test_paths_that_lead_elsewhere_are_refused(path: bytes) -> None:
    assert not is_safe_path(path)
    with pytest.raises(Damaged):
        checked_segment(segment_of(stored_entry(path)))
    record = bytearray(stored_entry(path))
    with pytest.raises(NativeError):
        list(SegmentBuilder(1).append(bytes(record), is_end=True))


@pytest.mark.parametrize(
    "entries",
    [
        (stored_entry(b"b"), stored_entry(b"a")),
        (stored_entry(b"a"), stored_entry(b"a")),
        (stored_entry(b"a", shared=1),),
        (stored_entry(b"a", type_=0),),
        (stored_entry(b"a", type_=8),),
        (stored_entry(b"a", flags=16),),
        (stored_entry(b"a", mode=0o10000),),
        (stored_entry(b"a", mtime_ns=1_000_000_000),),
        (stored_entry(b"a", nlink=0),),
        (stored_entry(b"a", rdev=5),),
        (stored_entry(b"a", type_=2, size=5),),
        (stored_entry(b"a", type_=3),),
        (stored_entry(b"a", target=3),),
        (stored_entry(b"a", attributes=10),),
        (stored_entry(b"a", size=5),),
        (stored_entry(b"a", size=4, extents=((0, 0, 5),)),),
        (stored_entry(b"a", size=5, extents=((1, 0, 5),)),),
        (stored_entry(b"a", size=5, extents=((0, 4 << 20, 5),)),),
        (stored_entry(b"a", size=1 << 62, extents=((0, 0, 1 << 62),)),),
        (stored_entry(b"a", size=5, extents=((manifest.HOLE, 0, 5),)),),
        (stored_entry(b"a", size=(1 << 63) - 1, extents=((manifest.HOLE, manifest.HOLE, (1 << 64) - 1),)),),
        (stored_entry(b"a", size=5, flags=1, extents=((0, 0, 5),)),),
        (stored_entry(b"a", size=5, flags=2, extents=((0, 0, 5),)),),
        (stored_entry(b"a", record_bytes=8),),
        (stored_entry(b"a", record_bytes=1 << 31),),
        (GOOD[:-1] + b"\1",),
    ],
)  # fmt: skip
def test_entries_out_of_range_are_refused(entries: tuple[bytes, ...]) -> None:
    with pytest.raises(Damaged):
        checked_segment(segment_of(*entries, ids=(ID,)))


def test_segment_whose_counts_lie_is_refused() -> None:
    for count in (0, 2, 1 << 31):
        with pytest.raises(Damaged):
            checked_segment(segment_of(GOOD, ids=(ID,), count=count))
    with pytest.raises(StorageNewer):
        checked_segment(segment_of(GOOD, ids=(ID,)).replace(b"VMSG\1", b"VMSG\2", 1))


@pytest.fixture(scope="module")
def point(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryStore, FilesRoot]:
    source = tmp_path_factory.mktemp("source")
    rng = random.Random(5)
    for number in range(60):
        (source / f"file {number}").write_bytes(rng.randbytes(100))
    (source / "large").write_bytes(rng.randbytes(4_000_000))
    (source / "link").symlink_to("large")
    os.setxattr(source / "large", "user.a", b"value")
    store = MemoryStore()
    draft = backup_files(source, store, object_name="t")
    assert isinstance(draft.root, FilesRoot)
    return store, draft.root


def read_everything(plain: bytes) -> None:
    """Every parser that could meet this chunk."""
    manifest.references(plain)
    checked_segment(plain)
    for _ in loose_entries(plain):
        pass


@settings(max_examples=400, deadline=None)
@given(data=st.data())
def test_mutated_chunks_are_damaged_or_harmless(
    point: tuple[MemoryStore, FilesRoot], data: st.DataObject
) -> None:
    store, _ = point
    chunks = sorted(i for i, kind in store.kinds.items() if kind is not ChunkKind.DATA)
    plain = bytearray(store.chunks[data.draw(st.sampled_from(chunks))])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(plain) - 1))
        plain[at : at + 1] = data.draw(st.binary(min_size=0, max_size=9))
    for parse in (
        read_everything,
        manifest.parse_head,
        manifest.parse_list_leaf,
        lambda p: manifest.parse_node(p, 1),
        lambda p: manifest.parse_list_node(p, 1),
    ):
        try:
            parse(bytes(plain))
        except (Damaged, StorageNewer):
            continue


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400))
def test_random_bytes_are_damaged(data: bytes) -> None:
    for magic in (b"VMSG\1\0\0\0", b"VMND\1\1\0\0", b"VMCL\1\0\0\0", b"VMHD\1\0\0\0", b""):
        for parse in (read_everything, manifest.parse_head, manifest.parse_list_leaf):
            try:
                parse(magic + data)
            except (Damaged, StorageNewer):
                continue
            pytest.fail("accepted")


def made_point(store: MemoryStore, *entries: bytes, ids: tuple[bytes, ...] = ()) -> FilesRoot:
    """A point whose one segment holds these entries."""
    writer = ChunkWriter(store, WrittenCounts())
    segment_id = writer.write_one(ChunkKind.MANIFEST_SEGMENT, segment_of(*entries, ids=ids))
    head = Head(segment_id, 0, len(entries), 0)
    return FilesRoot(writer.write_one(ChunkKind.MANIFEST_NODE, manifest.write_head(head)), 0, len(entries))


def directory(path: bytes) -> bytes:
    return stored_entry(path, type_=2, mode=0o755)


def test_path_beneath_a_symbolic_link_of_the_point_stays_in_the_target(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    link = bytearray(stored_entry(b"link", type_=3, target=len(os.fsencode(outside))))
    link[ENTRY_FIXED_BYTES + 4 : ENTRY_FIXED_BYTES + 4 + len(os.fsencode(outside))] = os.fsencode(outside)
    store = MemoryStore()
    root = made_point(
        store, directory(b""), bytes(link), stored_entry(b"link/escaped"), directory(b"link/in")
    )
    report = restore_files(root, store, tmp_path / "target")
    assert report.warning_count >= 2
    assert list(outside.iterdir()) == []
    assert (tmp_path / "target" / "link").is_symlink()


def test_symbolic_links_in_the_target_are_replaced_not_followed(tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "folder").mkdir(parents=True)
    (source / "folder" / "file").write_text("from the point")
    (source / "file").write_text("from the point")
    store = MemoryStore()
    draft = backup_files(source, store, object_name="t")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("precious")
    target = tmp_path / "target"
    target.mkdir()
    (target / "folder").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    assert isinstance(draft.root, FilesRoot)
    report = restore_files(draft.root, store, target, overwrite=True)
    assert report.warnings == ()
    assert (outside / "file").read_text() == "precious"
    assert (target / "folder" / "file").read_text() == (target / "file").read_text() == "from the point"
    assert not (target / "folder").is_symlink()


def test_extent_beyond_its_chunk_is_damaged(tmp_path: Path) -> None:
    store = MemoryStore()
    writer = ChunkWriter(store, WrittenCounts())
    chunk_id = writer.write(ChunkKind.DATA, b"12345", array("Q", [0]), array("I", [5]))
    root = made_point(
        store, directory(b""), stored_entry(b"a", size=9, extents=((0, 0, 9),)), ids=(chunk_id,)
    )
    with pytest.raises(Damaged):
        restore_files(root, store, tmp_path / "target")
    tree = FileTree(root, store)
    with pytest.raises(Damaged):
        tree.open_file(tree.find("a")).read(0, 9)
    assert not (tmp_path / "target" / "a").exists()


def test_head_that_does_not_belong_to_the_point_is_damaged() -> None:
    store = MemoryStore()
    root = made_point(store, directory(b""))
    with pytest.raises(Damaged):
        FileTree(FilesRoot(root.root_id, 1, 1), store)
    with pytest.raises(Damaged):
        FileTree(FilesRoot(root.root_id, 0, 2), store)
    with pytest.raises(Damaged):
        FileTree(FilesRoot(None, 0, 0), store)


def test_nodes_and_lists_read_back_what_was_written() -> None:
    children = [Child(bytes([i]) * 32, i + 1, b"dir/%03d" % i) for i in range(20)]
    assert manifest.parse_node(manifest.write_node(3, children), 3) == children
    with pytest.raises(Damaged):
        manifest.parse_node(manifest.write_node(3, children), 2)
    with pytest.raises(Damaged):
        manifest.parse_node(manifest.write_node(1, children[::-1]), 1)
    extents = [Extent(ID, 0, 10), Extent(None, 0, 1 << 40), Extent(ID, 10, 7)]
    assert manifest.parse_list_leaf(manifest.write_list_leaf(extents)) == extents
    assert manifest.parse_list_node(manifest.write_list_node(2, [(ID, 99)]), 2) == [(ID, 99)]


@pytest.mark.parametrize("path", ["..", "a/../b", b"x\0y"])
def test_users_path_out_of_the_tree_is_refused(path: str | bytes) -> None:
    with pytest.raises(BadInput):
        clean_path(path)


def test_pieces_and_keys_have_the_sizes_of_the_core() -> None:
    assert PIECE.size == 48
    assert len(KEYS.cut_key) == 32
