"""What is backed up in a storm: a disk of noise, half of which changes before each run; and what a storage
occupies."""

import random
from pathlib import Path

MEBIBYTES = 96
CHANGED_BYTES = (MEBIBYTES // 2) << 20


def make_disk(disk: Path) -> None:
    """Noise that no change repeats."""
    disk.write_bytes(random.Random(7).randbytes(MEBIBYTES << 20))


def change_half(disk: Path, seed: int) -> None:
    """Overwrite every second MiB with noise of `seed`."""
    # Not the seed alone: no change may repeat the disk's first content, which is known already.
    noise = random.Random(f"change {seed}")
    with disk.open("r+b") as file:
        for number in range(0, MEBIBYTES, 2):
            file.seek(number << 20)
            file.write(noise.randbytes(1 << 20))


def occupied_bytes(storage: Path) -> int:
    """Bytes of all packs that have their name."""
    return sum(path.stat().st_size for path in storage.joinpath("packs").rglob("*") if path.is_file())
