import os
import random
from pathlib import Path

import pytest

from tests.files.memory_store import MemoryStore
from vdrd.files.backup import backup_files
from vdrd.files.browse import FileTree, iterate, list_entries, open_file
from vdrd.files.entry import EntryType
from vdrd.model.chunks import ChunkKind
from vdrd.model.errors import BadInput, NotFound
from vdrd.model.points import FilesRoot


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MemoryStore, FilesRoot]:
    """12,000 entries over many segments: a deep and broad tree, and a large file with holes."""
    root = tmp_path_factory.mktemp("tree")
    rng = random.Random(2)
    for number in range(6000):
        folder = root / f"d{number % 7}" / f"e{number % 31:02}" / f"f{number // 600}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05}").write_bytes(rng.randbytes(rng.randrange(700)))
    for name in ("d3.txt", "d3-x", "d3 ", "d30"):
        (root / name).write_text(name)
    with (root / "large").open("wb") as file:
        for _ in range(3):
            file.write(rng.randbytes(5_000_000))
            file.seek(9_000_000, os.SEEK_CUR)
        file.truncate(50_000_001)
    store = MemoryStore()
    draft = backup_files(root, store, object_name="t")
    assert isinstance(draft.root, FilesRoot)
    assert draft.root.levels >= 1
    return root, store, draft.root


Made = tuple[Path, MemoryStore, FilesRoot]


def test_every_directory_lists_what_it_holds(made: Made) -> None:
    root, store, point = made
    tree = FileTree(point, store)
    for folder, folders, files in os.walk(root):
        path = os.path.relpath(folder, root)
        names = {entry.name.decode() for entry in tree.list(path)}
        assert names == {*folders, *files}


def test_iterate_gives_every_path_once_in_order(made: Made) -> None:
    root, store, point = made
    paths = [entry.path for entry in iterate(point, store)]
    assert paths == sorted(paths, key=lambda path: path.replace(b"/", b"\0"))
    expected = {os.fsencode(path.relative_to(root)) for path in root.rglob("*")} | {b""}
    assert set(paths) == expected
    assert len(paths) == len(expected) == point.entry_count


def test_one_path_is_found_by_reading_a_few_chunks(made: Made) -> None:
    root, store, point = made
    path = next((root / "d4" / "e11").rglob("0*")).relative_to(root)
    store.fetched.clear()
    entry = FileTree(point, store).find(str(path))
    assert entry.size_bytes == (root / path).stat().st_size
    assert len(store.fetched) <= point.levels + 3
    assert ChunkKind.DATA not in {store.kinds[chunk_id] for chunk_id in store.fetched}


def test_listing_the_root_steps_over_what_is_beneath(made: Made) -> None:
    _, store, point = made
    store.fetched.clear()
    assert len(list_entries(point, store)) == 7 + 5
    segments = sum(kind is ChunkKind.MANIFEST_SEGMENT for kind in store.kinds.values())
    read = sum(store.kinds[i] is ChunkKind.MANIFEST_SEGMENT for i in store.fetched)
    assert segments > 20
    assert read < segments


def test_subtree_is_the_directory_and_all_beneath(made: Made) -> None:
    root, store, point = made
    paths = {entry.path for entry in FileTree(point, store).subtree("/d3/")}
    assert paths == {os.fsencode(p.relative_to(root)) for p in (root / "d3").rglob("*")} | {b"d3"}
    assert [entry.path for entry in FileTree(point, store).subtree("d3.txt")] == [b"d3.txt"]


@pytest.mark.parametrize("path", ["d9", "d3/nothing", "d3.txt/below", "zzz", "\1"])
def test_missing_path_is_not_found(made: Made, path: str) -> None:
    _, store, point = made
    tree = FileTree(point, store)
    for look in (tree.find, tree.list, tree.subtree):
        with pytest.raises(NotFound):
            look(path)


def test_file_reads_the_same_at_random_offsets(made: Made) -> None:
    root, store, point = made
    entry = FileTree(point, store).find("large")
    reader = open_file(entry, store)
    rng = random.Random(4)
    with (root / "large").open("rb") as file:
        for _ in range(300):
            offset, length = rng.randrange(50_100_000), rng.choice([1, 100, 65_536, 300_000])
            file.seek(offset)
            assert reader.read(offset, length) == file.read(length)
    assert reader.read(50_000_001, 10) == b""
    assert reader.read(50_000_000, 10) == b"\0"


def test_reading_one_byte_fetches_one_data_chunk(made: Made) -> None:
    _, store, point = made
    entry = FileTree(point, store).find("large")
    store.fetched.clear()
    open_file(entry, store).read(2_000_000, 1)
    assert [store.kinds[i] for i in store.fetched].count(ChunkKind.DATA) == 1


def test_only_regular_files_open(made: Made) -> None:
    _, store, point = made
    tree = FileTree(point, store)
    folder = tree.find("d3")
    assert folder.type is EntryType.DIRECTORY
    with pytest.raises(BadInput):
        tree.open_file(folder)
