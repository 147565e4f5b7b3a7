"""`vdr store ls` and `restore` within disk points: the program itself."""

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.files.walker import walk
from tests.jobs.guest_disks import MEBIBYTE, fill, loop, make_tree, mounted, partitioned
from vdrd.model.errors import ExitCode

VDR = Path(sys.executable).with_name("vdr")
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def disk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """A point of a disk with an ext4 in its first partition, and what the kernel shows of that."""
    folder = tmp_path_factory.mktemp("disk")
    image = folder / "disk.raw"
    first, _ = partitioned(image, [48 * MEBIBYTE, 4 * MEBIBYTE])
    with loop(image, *first) as device:
        fill(device, folder / "mount", "ext4", partial(make_tree, file_count=40, is_unix=True))
        with mounted(device, folder / "mount", "mount", "-o", "ro") as root:
            seen = walk(root)
    storage = folder / "storage"
    for words in (
        ("init", storage, "--encryption", "none"),
        ("backup", storage, "disk", image, "--object", "d"),
    ):
        subprocess.run([VDR, "store", *words], check=True, capture_output=True)
    return {"storage": storage, "image": image, "seen": seen, "first": first}


def test_ls_shows_volumes_and_the_files_within(vdr: Run, disk: dict[str, Any]) -> None:
    top = json.loads(vdr("store", "ls", disk["storage"], "d@latest", "--json").stdout)
    assert [(one["path"], one["volume"]["holds"]) for one in top] == [
        ("partition-1", "ext4"),
        ("partition-2", ""),
    ]
    assert "[ext4, 48.0 MiB]" in vdr("store", "ls", disk["storage"], "d@latest").stdout
    names = json.loads(vdr("store", "ls", disk["storage"], "d@latest", "/partition-1", "--json").stdout)
    expected = sorted(b"partition-1/" + path for path in disk["seen"] if path and b"/" not in path)
    found = [bytes.fromhex(one["path_hex"]) if "path_hex" in one else one["path"].encode() for one in names]
    assert found == expected
    large = next(one for one in names if one["path"] == "partition-1/large")
    assert (large["mode"], large["uid"], large["gid"], large["links"]) == ("4771", 1000, 70000, 2)
    done = vdr("store", "ls", disk["storage"], "d@latest", "--find", "file-00000[12].*", "--json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr.count("\n")) == (ExitCode.WARNINGS, 1)  # partition-2 holds nothing
    assert [Path(one["path"]).name for one in found] == ["file-000001.txt", "file-000002.txt"]
    answer = vdr("store", "ls", disk["storage"], "d@latest", "/partition-1/nothing")
    assert answer.returncode == ExitCode.NOT_FOUND
    answer = vdr("store", "ls", disk["storage"], "d@latest", "/partition-2", "--json")
    assert answer.returncode == ExitCode.FAILED
    assert json.loads(answer.stdout)["error"]["code"] == "volume-unreadable"


def test_restore_brings_back_paths_volumes_and_images(vdr: Run, disk: dict[str, Any], tmp_path: Path) -> None:
    restore = partial(vdr, "store", "restore", disk["storage"], "d@latest")
    done = restore(tmp_path / "files", "--path", "/partition-1/d1", "--path", "/partition-1/large", "--json")
    assert done.returncode == ExitCode.DONE, done.stderr
    assert json.loads(done.stdout)["warnings"] == []
    found = walk(tmp_path / "files" / "partition-1")
    assert found[b"large"] == disk["seen"][b"large"]
    assert found.keys() == {b"", b"large"} | {
        path for path in disk["seen"] if path == b"d1" or path.startswith(b"d1/")
    }

    assert restore(tmp_path / "volume.raw", "--volume", "partition-1").returncode == ExitCode.DONE
    whole = disk["image"].read_bytes()
    begin, size = disk["first"]
    assert (tmp_path / "volume.raw").read_bytes() == whole[begin : begin + size]

    assert restore(tmp_path, "--format", "qcow2").returncode == ExitCode.DONE
    compared = subprocess.run(
        ["qemu-img", "compare", disk["image"], tmp_path / "disk.qcow2"], capture_output=True, check=False
    )
    assert compared.returncode == 0, compared.stdout


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--path", "/partition-9/x"), ExitCode.NOT_FOUND),
        (("--path", "../etc"), ExitCode.USAGE),
        (("--path", "/partition-2"), ExitCode.FAILED),
        (("--volume", "partition-9"), ExitCode.NOT_FOUND),
        (("--path", "/partition-1", "--volume", "partition-1"), ExitCode.USAGE),
        (("--volume", "partition-1", "--format", "vhd"), ExitCode.USAGE),
    ],
)
def test_restore_refused_makes_nothing(
    vdr: Run, disk: dict[str, Any], tmp_path: Path, words: tuple[str, ...], code: ExitCode
) -> None:
    done = vdr("store", "restore", disk["storage"], "d@latest", tmp_path / "target", *words)
    assert (done.returncode, done.stderr.count("\n")) == (code, 1), done.stderr
    assert not (tmp_path / "target").exists()
