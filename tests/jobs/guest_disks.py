"""Disks of guests, made by the tools of their systems and filled through a driver that is not ours."""

import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

MEBIBYTE = 1 << 20


def run(*command: object, text: str | None = None) -> str:
    """What a program printed; it must succeed."""
    done = subprocess.run(
        [str(word) for word in command], capture_output=True, text=True, input=text, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def loop(image: Path, offset: int = 0, size: int | None = None) -> Iterator[Path]:
    """A loop device over a part of an image."""
    words = ["losetup", "--find", "--show", "--offset", str(offset)]
    device = run(*words, *(["--sizelimit", str(size)] if size else []), image).strip()
    try:
        yield Path(device)
    finally:
        run("losetup", "--detach", device)


@contextmanager
def mounted(device: Path, place: Path, *command: str) -> Iterator[Path]:
    """A file system mounted by `command` (mount and its options, or a FUSE program)."""
    place.mkdir(exist_ok=True)
    run(*command, device, place)
    try:
        yield place
    finally:
        run("umount", place)


def make_tree(root: Path, file_count: int, *, is_unix: bool, seed: int = 1) -> None:
    """Files of all kinds of sizes in many directories and in one large one; with `is_unix` all that Unix
    adds."""
    noise = random.Random(seed)
    sizes = (0, 1, 60, 500, 4096, 9000, 70_000)
    for number in range(file_count):
        folder = root / f"d{number % 7}" / f"e{number % 31}"
        folder.mkdir(parents=True, exist_ok=True)
        size = sizes[number % len(sizes)] if number % 100 == 0 else sizes[number % 4]
        (folder / f"file-{number:06d}.txt").write_bytes(noise.randbytes(size))
    (root / "many").mkdir()
    for number in range(file_count):
        (root / "many" / f"a rather long name {number:07d}").touch()
    (root / "large").write_bytes(noise.randbytes(3 * MEBIBYTE))
    (root / "Größe 中文 🎉").write_bytes(b"unicode")
    with (root / "sparse").open("wb") as file:
        file.write(b"x" * 5000)
        file.seek(2 * MEBIBYTE)
        file.write(b"end")
    _make_pieces(root / "pieces", noise)
    words = [b"%d words that come again and again\n" % number for number in range(50)]
    (root / "text").write_bytes(b"".join(noise.choices(words, k=20_000)))
    if is_unix:
        _make_unix(root, noise)
    os.utime(root / "sparse", ns=(10**18, 4 * 10**18 // 3))


def _make_pieces(path: Path, noise: random.Random) -> None:
    """A file in many runs, with holes between."""
    with path.open("wb", buffering=0) as file:
        for number in range(120):
            file.seek(number * 16384)
            file.write(noise.randbytes(4096))
            if number % 20 == 0:
                os.fsync(file.fileno())


def _make_unix(root: Path, noise: random.Random) -> None:
    Path(os.fsdecode(os.fsencode(root) + b"/bad-\xff\xfe-name")).write_bytes(b"not UTF-8")
    (root / "short link").symlink_to("large")
    (root / "long link").symlink_to("/a long way" * 30)
    (root / "d1" / "second name").hardlink_to(root / "large")
    os.chown(root / "large", 1000, 70_000)
    (root / "large").chmod(0o4751)
    os.setxattr(root / "large", "user.note", b"hello")
    os.setxattr(root / "large", "user.longer", noise.randbytes(700))
    os.setxattr(root / "d1", "user.of a directory", b"")
    run("setfacl", "-m", "u:1234:rw,g:77:r", root / "large")
    run("setfacl", "-d", "-m", "u:1234:rwx", root / "d2")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    os.mknod(root / "disk", 0o060660, os.makedev(259, 70_000))
    os.chown(root / "short link", 5, 6, follow_symlinks=False)
    (root / "d3").chmod(0o1777)


Fill = Callable[[Path], None]


def fill(device: Path, place: Path, kind: str, make: Fill, *, inode_count: int = 4000) -> None:
    """Make a file system of a kind on a device and fill it."""
    mkfs, mount = KINDS[kind]
    run(*(word.replace("INODES", str(inode_count)) for word in mkfs), device)
    with mounted(device, place, *mount) as root:
        make(root)
        run("sync", "-f", root)


KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "ext2": (("mkfs.ext2", "-q", "-I", "256", "-N", "INODES"), ("mount", "-t", "ext4")),
    "ext3": (("mkfs.ext3", "-q", "-I", "256", "-N", "INODES"), ("mount",)),
    "ext4": (("mkfs.ext4", "-q", "-N", "INODES"), ("mount",)),
    "ext4 inline": (("mkfs.ext4", "-q", "-O", "inline_data", "-N", "INODES"), ("mount",)),
    "ext4 1k": (("mkfs.ext4", "-q", "-b", "1024", "-N", "INODES"), ("mount",)),
    "xfs": (("mkfs.xfs", "-q"), ("mount",)),
    "xfs 1k": (("mkfs.xfs", "-q", "-b", "size=1024", "-n", "size=8192"), ("mount",)),
    "btrfs": (("mkfs.btrfs", "-q"), ("mount",)),
    "btrfs zlib": (("mkfs.btrfs", "-q"), ("mount", "-o", "compress-force=zlib")),
    "btrfs lzo": (("mkfs.btrfs", "-q"), ("mount", "-o", "compress-force=lzo")),
    "btrfs zstd": (("mkfs.btrfs", "-q"), ("mount", "-o", "compress-force=zstd")),
}
"""How a file system is made, and mounted for writing."""


class Partition(NamedTuple):
    """Where a partition stands, in bytes."""

    offset: int
    size: int


def partitioned(image: Path, sizes: list[int], *, label: str = "gpt") -> list[Partition]:
    """Make a disk with partitions of these sizes; what `sfdisk` says of them."""
    with image.open("wb") as file:
        file.truncate(sum(sizes) + (len(sizes) + 4) * MEBIBYTE)
    lines = [f"size={size // 512}, type={'linux' if label == 'dos' else 'L'}" for size in sizes]
    run("sfdisk", "--quiet", "--label", label, image, text="\n".join(lines))
    table = json.loads(run("sfdisk", "--json", image))["partitiontable"]["partitions"]
    return [Partition(one["start"] * 512, one["size"] * 512) for one in table]
