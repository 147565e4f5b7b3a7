"""Files: what rots in the storage is made again by the next run from the files themselves."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from native.chunk import RECORD_HEADER_BYTES

Vdr = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Small files packed together, one cut by content, one with a content list of its own."""
    source = random.Random(3)
    root = tmp_path / "tree"
    (root / "small").mkdir(parents=True)
    for number in range(60):
        (root / "small" / f"{number:03}").write_bytes(source.randbytes(source.randrange(3_000, 20_000)))
    (root / "large").write_bytes(source.randbytes(700_000))
    (root / "listed").write_bytes(source.randbytes(5_000_000))
    return root


def content(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def rot_all_data(storage: Path, share: float) -> int:
    """Flip a bit in the payload of a share of the data records."""
    source, count = random.Random(9), 0
    for pack in storage.glob("packs/*/*.pack"):
        data = bytearray(pack.read_bytes())
        at = data.find(b"VCHK")
        while at >= 0:
            if data[at + 4] == 1 and source.random() < share:
                data[at + RECORD_HEADER_BYTES + 5] ^= 1
                count += 1
            at = data.find(
                b"VCHK", at + RECORD_HEADER_BYTES + int.from_bytes(data[at + 12 : at + 16], "little")
            )
        pack.write_bytes(data)
    return count


@pytest.mark.parametrize(
    ("type_words", "is_known"),
    [((), True), (("--full",), False)],
    ids=["incremental-after-verify", "full-that-nobody-warned"],
)
def test_rotten_chunks_of_unchanged_files_are_made_again(
    vdr: Vdr, tree: Path, tmp_path: Path, type_words: tuple[str, ...], is_known: bool
) -> None:
    storage = tmp_path / "storage"
    before = content(tree)
    assert vdr("store", "init", storage).returncode == 0
    assert vdr("store", "backup", storage, "files", tree, "--object", "t").returncode == 0
    (tree / "small" / "new").write_bytes(b"a second point, with a pack of its own" * 100)
    assert vdr("store", "backup", storage, "files", tree, "--object", "t").returncode == 0
    assert rot_all_data(storage, 0.3) > 10
    if is_known:
        assert vdr("store", "verify", storage, "--read-data").returncode == 7
    done = vdr("store", "backup", storage, "files", tree, "--object", "t", *type_words)
    assert done.returncode == 0, done.stderr
    checked = vdr("store", "verify", storage, "--read-data", "--json")
    assert checked.returncode == 0, checked.stdout
    points = json.loads(vdr("store", "points", storage, "--json").stdout)
    for number, point in enumerate(points):
        target = tmp_path / f"restored-{number}"
        assert vdr("store", "restore", storage, point["id"], target).returncode == 0
        restored = content(target)
        restored.pop("small/new", None)
        assert restored == before


def test_rotten_chunk_of_a_file_that_changed_costs_the_old_point_only(
    vdr: Vdr, tree: Path, tmp_path: Path
) -> None:
    storage = tmp_path / "storage"
    assert vdr("store", "init", storage).returncode == 0
    assert vdr("store", "backup", storage, "files", tree, "--object", "t").returncode == 0
    rot_all_data(storage, 1.0)
    assert vdr("store", "verify", storage, "--read-data").returncode == 7
    (tree / "small" / "030").write_bytes(b"other")
    done = vdr("store", "backup", storage, "files", tree, "--object", "t")
    assert done.returncode == 0, done.stderr
    report = json.loads(vdr("store", "verify", storage, "--read-data", "--json").stdout)
    first, second = json.loads(vdr("store", "points", storage, "--json").stdout)
    assert report["affected_points"] == [first["id"]]
    assert vdr("store", "restore", storage, second["id"], tmp_path / "restored").returncode == 0
    assert content(tmp_path / "restored") == content(tree)
