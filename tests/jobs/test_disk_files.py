"""Files within disks compare with what the kernel, or the system's own driver, shows of the same disk."""

import hashlib
import os
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.files.walker import Seen, walk
from tests.jobs.guest_disks import KINDS, MEBIBYTE, fill, loop, make_tree, mounted, run
from vdrd.disk.image import ImageDisk
from vdrd.files.restore import restore_files
from vdrd.jobs.disk_files import DiskFiles
from vdrd.model.progress import Cancel


def seen_by_driver(root: Path) -> dict[bytes, Seen]:
    """All that a restore brings back: without flags, and without where holes are, which the target
    decides."""
    return {
        path: replace(
            seen,
            holes=(),
            flags=(),
            digest=digest(os.fsencode(root) + b"/" + path, seen),
            # XFS shows an ACL a second time, in a form of its own.
            xattrs=tuple(pair for pair in seen.xattrs if not pair[0].startswith("trusted.SGI_ACL")),
        )
        for path, seen in walk(root).items()
    }


def digest(path: bytes, seen: Seen) -> str:
    """Of the content alone."""
    if not stat.S_ISREG(seen.type):
        return ""
    with open(path, "rb") as file:  # noqa: PTH123 (names that are no text)
        return hashlib.file_digest(file, "sha256").hexdigest()


def restored(image: Path, paths: list[str], target: Path) -> tuple[dict[bytes, Seen], list[str]]:
    """What a restore of these paths makes, and its warnings."""
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        made = files.as_point(paths, Cancel())
        report = restore_files(made.root, made.source, target, paths=paths)
    return seen_by_driver(target), [*made.warnings.first, *report.warnings]


_ALWAYS = (
    "ext3",
    "ext4",
    "ext4 inline",
    "xfs",
    "btrfs",
    "btrfs zstd",
    "fat32",
    "exfat",
    "ntfs",
)


def kinds(*names: str) -> list[object]:
    """Parameters: those of every run, and the others for long ones."""
    return [name if name in _ALWAYS else pytest.param(name, marks=pytest.mark.long) for name in names]


@pytest.mark.parametrize("kind", kinds(*KINDS))
def test_file_system_restored_is_what_the_kernel_shows(kind: str, tmp_path: Path) -> None:
    compare_with_kernel(kind, tmp_path, mebibytes=320, file_count=100)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["ext4", "xfs", "btrfs"])
def test_large_file_system_restored_is_what_the_kernel_shows(kind: str, tmp_path: Path) -> None:
    compare_with_kernel(kind, tmp_path, mebibytes=2048, file_count=25_000)


def compare_with_kernel(kind: str, tmp_path: Path, *, mebibytes: int, file_count: int) -> None:
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.truncate(mebibytes * MEBIBYTE)
    with loop(image) as device:
        make = partial(make_tree, file_count=file_count, is_unix=True)
        fill(device, tmp_path / "mount", kind, make, inode_count=4 * file_count + 2000)
        with mounted(device, tmp_path / "mount", "mount", "-o", "ro") as root:
            before = seen_by_driver(root)
    after, warnings = restored(image, ["/disk"], tmp_path / "target")
    assert warnings == []
    assert below_disk(after) == before


@pytest.mark.parametrize("kind", kinds("fat12", "fat16", "fat32", "exfat", "ntfs", "ntfs 512"))
def test_file_system_without_owners_restored_is_what_its_driver_shows(kind: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.truncate(
            {"fat12": 15, "fat16": 60, "fat32": 120, "exfat": 60, "ntfs": 60, "ntfs 512": 60}[kind] * MEBIBYTE
        )
    source = tmp_path / "source"
    source.mkdir()
    count = 70
    if kind == "exfat":
        run("mkfs.exfat", "-L", "Stick", image)
        with (
            loop(image) as device,
            mounted(device, tmp_path / "mount", "mount.exfat-fuse") as root,
        ):
            make_tree(root, count, is_unix=False)
            seen = contents(root)
    elif kind.startswith("ntfs"):
        cluster = "512" if kind.endswith("512") else "4096"
        run("mkntfs", "-q", "-F", "-C", "-c", cluster, "-L", "Stick", image)  # -C: new files are compressed
        # On a block device the kernel waits for the driver's last write when it unmounts.
        with (
            loop(image) as device,
            mounted(device, tmp_path / "mount", "ntfs-3g", "-o", "compression") as root,
        ):
            make_tree(root, count, is_unix=False)
            (root / "second name").hardlink_to(root / "large")
            run("sync", "-f", root)
            packed = (root / "text").stat()
            assert packed.st_blocks * 512 < packed.st_size
            seen = contents(root)
    else:
        run("mkfs.vfat", "-F", kind[3:], "-n", "STICK", image)
        make_tree(source, count, is_unix=False)
        (source / "Größe 中文 🎉").rename(source / "Größe 中文")  # mtools writes no surrogates
        run("env", "TZ=UTC", "LC_ALL=C.UTF-8", "mcopy", "-s", "-m", "-i", image, *source.iterdir(), "::/")
        seen = contents(source)
    holds = "vfat" if kind.startswith("fat") else kind.split(maxsplit=1)[0]
    _, warnings = restored(image, ["/disk"], tmp_path / "target")
    assert contents(tmp_path / "target" / "disk") == seen
    assert warnings == [f"volume disk ({holds}) keeps no Linux owners, modes and attributes"]
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        assert files.volumes()[0].label.upper() == "STICK"


def contents(root: Path) -> dict[str, tuple[int, str]]:
    """Whole seconds of the time (of files, halved: what FAT keeps) and content of all files, by path."""
    return {
        str(path.relative_to(root)): (
            0 if path.is_dir() else int(path.stat().st_mtime) // 2,
            "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in root.rglob("*")
    }


def test_changes_in_a_journal_are_shown_as_the_kernel_replays_them(tmp_path: Path) -> None:
    """A disk backed up under a running machine was never unmounted."""
    image, copy = tmp_path / "disk.raw", tmp_path / "copy.raw"
    with image.open("wb") as file:
        file.truncate(160 * MEBIBYTE)
    with loop(image) as device:
        fill(device, tmp_path / "mount", "ext4", partial(make_tree, file_count=100, is_unix=True))
        with mounted(device, tmp_path / "mount", "mount", "-o", "commit=600") as root:
            for number in range(200):
                (root / "d1" / f"new {number}").write_bytes(b"new" * number)
            (root / "large").rename(root / "moved")
            (root / "pieces").unlink()
            fd = os.open(root / "d1" / "new 199", os.O_RDONLY)
            os.fsync(fd)
            os.close(fd)
            # Of the image, not the device: its cache holds what the journal alone has on the disk.
            run("cp", "--sparse=always", image, copy)
    with loop(copy) as device:
        with mounted(device, tmp_path / "mount", "mount", "-o", "ro,noload") as root:
            assert not (root / "moved").exists()
        # The reader first: mounting replays the journal for good.
        after, warnings = restored(copy, ["/disk"], tmp_path / "target")
        with mounted(device, tmp_path / "mount", "mount") as root:
            before = seen_by_driver(root)
    assert warnings == []
    assert before.keys() >= {b"moved", b"d1/new 199"}
    assert b"pieces" not in before
    assert below_disk(after) == before


def below_disk(found: dict[bytes, Seen]) -> dict[bytes, Seen]:
    """What was restored of the volume `disk`, with paths as in the volume."""
    return {
        path[5:]: replace(seen, links=tuple(name[5:] for name in seen.links))
        for path, seen in found.items()
        if path.startswith(b"disk")
    }
