"""`vdr store overlay`: what was written over exported points becomes a point, or goes."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vdrd.disk.overlay import OverlayDisk
from vdrd.disk.source import NativeDisk
from vdrd.model.points import DiskRoot
from vdrd.model.storage import KeyMaterial
from vdrd.store import Storage

Vdr = Callable[..., subprocess.CompletedProcess[str]]
MIB = 1 << 20
KEY = bytes(range(32))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def written(
    vdr: Vdr, storage_dir: Path, cache: Path, tmp_path: Path, disk_image: Callable[..., Path]
) -> bytes:
    """An encrypted storage with a point, and an overlay over it; returns what the disk shows with it."""
    image, key = disk_image(9), tmp_path / "key"
    key.write_bytes(KEY)
    options = ["--key-file", key]
    assert vdr("store", "init", storage_dir, "--encryption", "aes-256-gcm", *options).returncode == 0
    assert vdr("store", "backup", storage_dir, "disk", image, "--object", "vm", *options).returncode == 0
    expected = bytearray(image.read_bytes())
    noise = random.Random(3)
    with Storage.open(storage_dir, key=KeyMaterial(KEY)) as storage:
        point = storage.point("vm@latest")
        assert isinstance(point.draft.root, DiskRoot)
        with (
            NativeDisk(storage.reader.open_disk(point.draft.root)) as lower,
            OverlayDisk.open(
                cache / point.point_id,
                lower,
                identity=f"point {point.point_id}",
                keys=storage.overlay_keys,
            ) as disk,
        ):
            for start in (0, 3 * MIB + 511, 9 * MIB - 70_000):
                data = noise.randbytes(70_000)
                disk.write(start, data)
                expected[start : start + len(data)] = data
            disk.zero(5 * MIB + 100, MIB)
            expected[5 * MIB + 100 : 6 * MIB + 100] = bytes(MIB)
    return bytes(expected)


def test_overlay_is_listed_committed_and_discarded(
    vdr: Vdr, storage_dir: Path, cache: Path, tmp_path: Path, written: bytes
) -> None:
    options = ["--key-file", tmp_path / "key", "--cache", cache]
    listed = json.loads(vdr("store", "overlay", "list", storage_dir, *options, "--json").stdout)
    assert [(one["object"], one["is_encrypted"], one["is_open"]) for one in listed] == [("vm", True, False)]
    assert listed[0]["stored_bytes"] >= 3 * 70_000
    parent = listed[0]["point"]
    assert parent in vdr("store", "overlay", "list", storage_dir, *options).stdout

    done = vdr("store", "overlay", "commit", storage_dir, "vm@latest", *options, "--json")
    assert done.returncode == 0, done.stderr
    point = json.loads(done.stdout)
    assert (point["object"], point["type"], point["parent"]) == ("vm", "incremental", parent)
    assert point["read_bytes"] < 3 * MIB  # what was written, in whole blocks; not the disk
    for reference, expected in ((point["id"], written), (parent, None)):
        target = tmp_path / f"restored-{reference}"
        keyed = ["--key-file", tmp_path / "key"]
        assert vdr("store", "restore", storage_dir, reference, target, *keyed).returncode == 0
        assert (target.read_bytes() == written) == (expected is not None)

    done = vdr("store", "overlay", "discard", storage_dir, parent, *options)
    assert done.returncode == 0, done.stderr
    assert list(cache.iterdir()) == []
    assert json.loads(vdr("store", "overlay", "list", storage_dir, *options, "--json").stdout) == []
    assert vdr("store", "overlay", "discard", storage_dir, parent, *options).returncode == 4


def test_overlay_that_is_open_is_neither_committed_nor_discarded(
    vdr: Vdr, storage_dir: Path, cache: Path, tmp_path: Path, written: bytes
) -> None:
    [path] = cache.iterdir()
    options = ["--key-file", tmp_path / "key", "--cache", cache]
    with Storage.open(storage_dir, key=KeyMaterial(KEY)) as storage:
        point = storage.point("vm@latest")
        assert isinstance(point.draft.root, DiskRoot)
        with (
            NativeDisk(storage.reader.open_disk(point.draft.root)) as lower,
            OverlayDisk.open(
                path, lower, identity=f"point {point.point_id}", keys=storage.overlay_keys
            ) as disk,
        ):
            assert disk.native.read(0, len(written)) == written
            for act in ("commit", "discard"):
                done = vdr("store", "overlay", act, storage_dir, path, *options)
                assert done.returncode == 5, done.stderr
                assert "another process has it open" in done.stderr
    assert path.exists()


@pytest.mark.parametrize("name", ["nothing", "/nowhere/at/all"])
def test_overlay_that_is_not_there_is_not_found(
    vdr: Vdr, storage_dir: Path, cache: Path, tmp_path: Path, written: bytes, name: str
) -> None:
    options = ["--key-file", tmp_path / "key", "--cache", cache]
    for act in ("commit", "discard"):
        done = vdr("store", "overlay", act, storage_dir, name, *options)
        assert done.returncode == 4
        assert "overlay not found" in done.stderr
    assert vdr("store", "overlay", "list", storage_dir, "--cache", tmp_path / "absent").returncode != 0
