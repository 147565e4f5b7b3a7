"""Inputs of the benchmarks, made from a seed and from this machine's own /usr.

    python bench/generate.py DIRECTORY [--scale S] [--seed N] [--kinds KIND...]

At scale 1 (sizes and counts shrink with the scale):

image    `image/disk.raw`: an ext4 file system of 8 GiB in a sparse file; 2.1 GiB of it is used, half text
         and source from /usr, half incompressible. Its change: 1% of the used 4 KiB blocks, half of them
         scattered, half in runs of 64.
tree     `tree/tree/`: 300,000 files of 1 to 8 KiB in 15,000 directories, a third of them incompressible.
         Its change: 1% of the files rewritten.
repeats  `repeats/file`: 2 GiB, the first half random, the second half copied from it in pieces of 1 MiB,
         every other one from an odd offset. It has no change.

A change is kept beside its input with the bytes before and after, so that it can be made and undone for
every tool in turn.
"""

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MIB, GIB = 1 << 20, 1 << 30
BLOCK_BYTES = 4096
RUN_BLOCKS = 64
KINDS = ("image", "tree", "repeats")


class TextPool:
    """Text files under /usr, one after the other, as far as needed; then again from the start."""

    def __init__(self, wanted_bytes: int) -> None:
        parts, total = [], 0
        for path in self._files(Path("/usr")):
            data = path.read_bytes()
            if b"\0" in data[:BLOCK_BYTES]:
                continue
            parts.append(data)
            total += len(data)
            if total >= wanted_bytes:
                break
        self._data = b"".join(parts)
        self._at = 0

    @staticmethod
    def _files(root: Path) -> Iterator[Path]:
        for directory, names, files in os.walk(root):
            names.sort()
            for name in sorted(files):
                path = Path(directory, name)
                if path.is_file() and not path.is_symlink() and 0 < path.stat().st_size <= 8 * MIB:
                    yield path

    def take(self, length_bytes: int) -> bytes:
        """The next bytes of the pool."""
        if self._at + length_bytes > len(self._data):
            self._at = 0
        self._at += length_bytes
        return self._data[self._at - length_bytes : self._at]


@dataclass(frozen=True)
class ImageChange:
    """Blocks of an image with their content before and after."""

    image: Path
    offsets: np.ndarray
    before: np.ndarray
    after: np.ndarray

    @classmethod
    def load(cls, image: Path) -> "ImageChange":
        with np.load(image.with_suffix(".change.npz")) as saved:
            return cls(image, saved["offsets"], saved["before"], saved["after"])

    def save(self) -> None:
        np.savez(
            self.image.with_suffix(".change.npz"), offsets=self.offsets, before=self.before, after=self.after
        )

    def make(self) -> None:
        """Bring the image to its changed state."""
        self._write(self.after)

    def ranges(self) -> list[tuple[int, int]]:
        """The blocks as (offset, length), neighbours joined."""
        found: list[tuple[int, int]] = []
        for offset in map(int, self.offsets):
            if found and sum(found[-1]) == offset:
                found[-1] = (found[-1][0], found[-1][1] + BLOCK_BYTES)
            else:
                found.append((offset, BLOCK_BYTES))
        return found

    def undo(self) -> None:
        """Bring the image back."""
        self._write(self.before)

    def _write(self, blocks: np.ndarray) -> None:
        with self.image.open("r+b") as file:
            for offset, block in zip(self.offsets, blocks, strict=True):
                os.pwrite(file.fileno(), block.tobytes(), int(offset))


@dataclass(frozen=True)
class TreeChange:
    """Files of a tree that a seed rewrites."""

    tree: Path
    seed: int

    def make(self) -> None:
        """Rewrite one file in a hundred with other bytes of the same length."""
        self._rewrite(self.seed + 1)

    def undo(self) -> None:
        """Rewrite the same files with what they had."""
        for path in self._files():
            path.write_bytes((self.tree.parent / "tree.before" / path.name).read_bytes())

    def keep_before(self) -> None:
        """Put the files' first content aside."""
        aside = self.tree.parent / "tree.before"
        aside.mkdir()
        for path in self._files():
            shutil.copyfile(path, aside / path.name)

    def _files(self) -> list[Path]:
        """File names are numbers, unique in the whole tree."""
        return sorted(path for path in self.tree.glob("*/*/*") if int(path.name) % 100 == 7)

    def _rewrite(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        for path in self._files():
            path.write_bytes(rng.bytes(path.stat().st_size // 2).hex().encode())


def make_image(directory: Path, scale: float, seed: int) -> None:
    """An ext4 image and its change."""
    rng = np.random.default_rng(seed)
    half_bytes = int(2.1 * GIB * scale / 2)
    pool = TextPool(half_bytes)
    content = directory / "content"
    content.mkdir(parents=True)
    _fill(content / "text", half_bytes, pool.take, rng)
    _fill(content / "random", half_bytes, rng.bytes, rng)
    image = directory / "disk.raw"
    with image.open("wb") as file:
        file.truncate(int(8 * GIB * scale) // MIB * MIB)
    uuid = "6e6f7761-7265-4265-8e63-686d61726b73"
    subprocess.run(
        ["mkfs.ext4", "-q", "-F", "-U", uuid, "-E", f"hash_seed={uuid},root_owner=0:0", "-d", content, image],
        check=True,
        env={**os.environ, "E2FSPROGS_FAKE_TIME": "1700000000"},
    )
    shutil.rmtree(content)
    _image_change(image, rng).save()


def _fill(directory: Path, total_bytes: int, take: Callable[[int], bytes], rng: np.random.Generator) -> None:
    """Files of 4 KiB to 16 MiB, few of them large."""
    number = 0
    while total_bytes > 0:
        length_bytes = min(int(4096 * 2 ** (12 * rng.random() ** 2)), total_bytes)
        path = directory / f"{number // 200:03}" / f"{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(take(length_bytes))
        total_bytes -= length_bytes
        number += 1


def _image_change(image: Path, rng: np.random.Generator) -> ImageChange:
    blocks = np.memmap(image, np.uint8, "r").reshape(-1, BLOCK_BYTES)
    used = np.concatenate(
        [at + np.flatnonzero(blocks[at : at + 4096].any(axis=1)) for at in range(0, len(blocks), 4096)]
    )
    half = max(len(used) // 200, RUN_BLOCKS)
    scattered = rng.choice(used, half, replace=False)
    starts = rng.choice(len(used) - RUN_BLOCKS, half // RUN_BLOCKS, replace=False)
    clustered = np.concatenate([used[start : start + RUN_BLOCKS] for start in starts])
    chosen = np.unique(np.concatenate([scattered, clustered]))
    after = np.frombuffer(rng.bytes(len(chosen) * BLOCK_BYTES), np.uint8).reshape(-1, BLOCK_BYTES).copy()
    after[::3] &= 0x0F  # a third of the new blocks compress to half
    return ImageChange(image, chosen.astype(np.int64) * BLOCK_BYTES, np.array(blocks[chosen]), after)


def make_tree(directory: Path, scale: float, seed: int) -> None:
    """Small files, and those aside that the change rewrites."""
    rng = np.random.default_rng(seed)
    count = int(300_000 * scale)
    pool = TextPool(int(1.0 * GIB * scale))
    lengths = rng.integers(1024, 8193, count)
    for number, length_bytes in enumerate(lengths):
        place = directory / "tree" / f"{number // 1000:03}" / f"{number // 20 % 50:02}"
        if number % 20 == 0:
            place.mkdir(parents=True, exist_ok=True)
        take = rng.bytes if number % 3 == 0 else pool.take
        (place / f"{number:06}").write_bytes(take(int(length_bytes)))
    TreeChange(directory / "tree", seed).keep_before()


def make_repeats(directory: Path, scale: float, seed: int) -> None:
    """One file whose second half repeats parts of the first."""
    rng = np.random.default_rng(seed)
    pieces = max(int(GIB * scale) // MIB, 2)
    first = rng.bytes(pieces * MIB)
    with (directory / "file").open("wb") as file:
        file.write(first)
        for number in range(pieces):
            start = int(rng.integers(0, len(first) - MIB))
            start = start | 1 if number % 2 else start // MIB * MIB
            file.write(first[start : start + MIB])


MAKERS = {"image": make_image, "tree": make_tree, "repeats": make_repeats}


def generate(directory: Path, kinds: list[str], scale: float, seed: int) -> None:
    """Make the inputs that are not there yet; one that was made with other numbers is made again."""
    for kind in kinds:
        target, stamp = directory / kind, directory / f"{kind}.stamp"
        wanted = f"scale={scale} seed={seed}\n"
        if stamp.exists() and stamp.read_text() == wanted:
            continue
        print(f"generating {kind} at scale {scale}", file=sys.stderr)
        stamp.unlink(missing_ok=True)
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        MAKERS[kind](target, scale, seed)
        stamp.write_text(wanted)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", type=Path)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--scale", type=float, default=0.1)
    parser.add_argument("--seed", type=int, default=2026)
    arguments = parser.parse_args()
    generate(arguments.directory, arguments.kinds, arguments.scale, arguments.seed)


if __name__ == "__main__":
    main()
