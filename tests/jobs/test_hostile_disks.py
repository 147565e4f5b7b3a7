"""Disks with damage all over their metadata: the process that reads them is all that may suffer."""

import random
import struct
import zlib
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import pytest

from tests.jobs.guest_disks import MEBIBYTE, fill, loop, make_tree, mounted, partitioned, run
from tests.jobs.test_disk_volumes import Lvm
from vdrd.disk.confinement import MEMORY_BYTES_MAX
from vdrd.disk.image import ImageDisk
from vdrd.jobs.disk_files import DiskFiles
from vdrd.model.errors import VdrError
from vdrd.model.progress import Cancel

_BLOCK_BYTES = 4096
_ANSWER_SECONDS = 60.0
_KINDS = ["ext4", "xfs", "ntfs", "gpt", "lvm", "btrfs", "fat32", "exfat"]
_FILES = 40


def make_base(kind: str, folder: Path) -> Path:
    """A sound disk of a kind."""
    image = folder / f"{kind}.raw"
    tree = partial(make_tree, file_count=_FILES, is_unix=kind not in ("ntfs", "fat32", "exfat"))
    sizes = {"xfs": 320, "btrfs": 160, "gpt": 32, "lvm": 32}
    with image.open("wb") as file:
        file.truncate(sizes.get(kind, 64) * MEBIBYTE)
    if kind == "gpt":
        part = partitioned(image, [16 * MEBIBYTE] * 3)[1]
        with loop(image, *part) as device:
            run("mkfs.ext4", "-q", device)
        return image
    with loop(image) as device:
        if kind in ("ext4", "xfs", "btrfs"):
            fill(device, folder / "mount", kind, tree)
        elif kind == "lvm":
            lvm = Lvm(folder / "lvm", [device])
            lvm.run("pvcreate", "-ff", "-y", device)
            lvm.run("vgcreate", "group", device)
            lvm.make("volume", "-l", "5", "group")
        elif kind == "fat32":
            run("mkfs.vfat", "-F", "32", device)
            (folder / "source").mkdir()
            (folder / "source" / "a rather long name for a file").write_bytes(b"content" * 1000)
            run("mcopy", "-s", "-i", image, folder / "source", "::/")
        else:
            mkfs, mount = {
                "ntfs": (("mkntfs", "-q", "-F", "-C"), ("ntfs-3g", "-o", "compression")),
                "exfat": (("mkfs.exfat",), ("mount.exfat-fuse",)),
            }[kind]
            run(*mkfs, device)
            with mounted(device, folder / "mount", *mount) as root:
                tree(root)
    return image


class MutatedDisk(ImageDisk):
    """An image with some bytes exchanged."""

    patches: dict[int, bytes]

    def read_into(self, offset_bytes: int, buffer: bytearray | memoryview) -> None:
        super().read_into(offset_bytes, buffer)
        end = offset_bytes + len(buffer)
        for at, patch in self.patches.items():
            for i, byte in enumerate(patch):
                if offset_bytes <= at + i < end:
                    buffer[at + i - offset_bytes] = byte


def used_blocks(image: Path) -> list[int]:
    """Offsets of the blocks that are not all zero, of the first 48 MiB: that is where the metadata is."""
    zero = bytes(_BLOCK_BYTES)
    with image.open("rb") as file:
        blocks = iter(partial(file.read, _BLOCK_BYTES), b"")
        return [number * _BLOCK_BYTES for number, block in enumerate(islice(blocks, 12_288)) if block != zero]


def mutations(image: Path, blocks: list[int], rng: random.Random) -> dict[int, bytes]:
    """Some bytes to exchange: single ones, and whole numbers that are zero, small or as large as can be."""
    favourites = blocks[: len(blocks) // 8 + 8]
    patches = {}
    for _ in range(rng.choice((1, 3, 10, 60))):
        at = rng.choice(favourites if rng.random() < 0.6 else blocks)
        within = rng.randrange(0, 512) if rng.random() < 0.5 else rng.randrange(_BLOCK_BYTES - 8)
        width = rng.choice((1, 1, 2, 4, 8))
        patches[at + within] = rng.choice(
            (
                rng.randbytes(width),
                b"\xff" * width,
                bytes(width),
                rng.randrange(256).to_bytes(width, "little"),
            )
        )
    return patches


def sealed_gpt(image: Path, rng: random.Random) -> dict[int, bytes]:
    """A partition table with wrong entries and right checksums."""
    with image.open("rb") as file:
        sectors = bytearray(file.read(34 * 512))
    for _ in range(rng.randrange(1, 6)):
        at = 1024 + rng.randrange(3 * 128)
        sectors[at : at + 8] = rng.choice((rng.randbytes(8), b"\xff" * 8, bytes(8)))
    struct.pack_into("<I", sectors, 512 + 88, zlib.crc32(sectors[1024 : 1024 + 128 * 128]))
    struct.pack_into("<I", sectors, 512 + 16, 0)
    struct.pack_into("<I", sectors, 512 + 16, zlib.crc32(sectors[512 : 512 + 92]))
    return {0: bytes(sectors)}


def look_at_everything(image: Path, patches: dict[int, bytes]) -> int:
    """What a user might do with a disk; the most memory its process took."""
    with MutatedDisk.open(image) as disk:
        disk.patches = patches
        with DiskFiles(disk, answer_seconds=_ANSWER_SECONDS) as files:
            try:
                made = files.as_point([], Cancel())
                for entry in islice(files.search("/", "*", limit=30, cancel=Cancel()), 30):
                    if entry.type.name == "REGULAR":
                        reader = files.open_file(entry.path)
                        reader.read(0, 100_000)
                        reader.read(max(0, reader.size_bytes - 10), 10)
                assert made.root.entry_count >= 1
            except VdrError:
                pass  # told, as it should be
            return files.peak_memory_bytes()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, list[int]]]:
    made: dict[str, tuple[Path, list[int]]] = {}

    def get(kind: str) -> tuple[Path, list[int]]:
        if kind not in made:
            image = make_base(kind, tmp_path_factory.mktemp(kind))
            made[kind] = (image, used_blocks(image))
        return made[kind]

    return get


def attack(kind: str, base: tuple[Path, list[int]], count: int) -> None:
    image, blocks = base
    descriptors = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for seed in range(count):
        rng = random.Random(f"{kind} {seed}")
        is_sealed = kind == "gpt" and seed % 2
        patches = sealed_gpt(image, rng) if is_sealed else mutations(image, blocks, rng)
        peak = look_at_everything(image, patches)
        assert peak < MEMORY_BYTES_MAX, (kind, seed)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == descriptors


@pytest.mark.parametrize("kind", _KINDS[:5])
def test_mutated_disk_costs_at_most_its_own_reader(
    kind: str, base: Callable[[str], tuple[Path, list[int]]]
) -> None:
    attack(kind, base(kind), 12)


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", _KINDS)
def test_many_mutated_disks_cost_at_most_their_own_readers(
    kind: str, base: Callable[[str], tuple[Path, list[int]]]
) -> None:
    attack(kind, base(kind), 125)
