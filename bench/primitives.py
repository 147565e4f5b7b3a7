"""Speed of the primitives on one core, in GB/s: hashing, sealing, cutting, CRC, zero detection, zstd.

    python bench/primitives.py [--seconds S]

Called from Python through the product's own wrappers, so a short message carries the price of a call (2 to
4 us). Every level that this CPU has is shown, and an independent implementation beside it where there is
one.
"""

import argparse
import functools
import time
from collections.abc import Callable

import blake3 as blake3_wheel
import measure
import numpy as np
import zstandard
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from native import blake3, cdc, crc32c, sm4, zero
from native.aead import Aead, Algorithm

LENGTHS = (4096, 65536, 1 << 20)
SM4_WIDEST = max(sm4.LEVELS)
"""The level that needs GFNI and AVX-512."""
SM4_GB_PER_SECOND = 2.0
KEY = bytes(range(32))
NONCE = bytes(12)

Routine = Callable[[memoryview], object]


def gb_per_second(routine: Routine, data: memoryview, seconds: float) -> float:
    """Best of five, in the thread's processor time, so that other programs disturb little."""
    best = 0.0
    for _ in range(5):
        count, spent = 0, 0.0
        began = time.thread_time()
        while spent < seconds / 5:
            for _ in range(max(1, (1 << 20) // len(data))):
                routine(data)
                count += 1
            spent = time.thread_time() - began
        best = max(best, count * len(data) / spent / 1e9)
    return best


def hashing() -> dict[str, Routine]:
    """BLAKE3 at every level."""
    own: dict[str, Routine] = {
        f"blake3 level {level}": functools.partial(blake3.keyed_at, level, KEY)
        for level in range(blake3.best_level() + 1)
    }
    return own | {"blake3 (wheel)": lambda data: blake3_wheel.blake3(data, key=KEY).digest()}


def sealing() -> dict[str, Routine]:
    """Both ciphers; SM4 at every level."""
    aes = Aead(Algorithm.AES_256_GCM, KEY)
    found: dict[str, Routine] = {
        "aes-256-gcm": functools.partial(aes.seal, NONCE),
        "aes-256-gcm (cryptography)": lambda data: AESGCM(KEY).encrypt(NONCE, data, None),
    }
    for level in sm4.LEVELS:
        if sm4.is_available(level):
            found[f"sm4-gcm level {level}"] = functools.partial(sm4.Sm4(level, KEY[:16]).seal, NONCE)
    return found


def others() -> dict[str, Routine]:
    """What reads every byte besides."""
    cutter, zeros = cdc.Cutter(KEY), memoryview(bytes(max(LENGTHS)))
    return {
        "content-defined cuts": lambda data: cutter.cut(data, final=True),
        "crc32c": crc32c.crc32c,
        "zero detection (of zeros)": lambda data: zero.is_zero(zeros[: len(data)]),
    }


def compressing() -> dict[str, Routine]:
    """zstd on this project's own source."""
    return {f"zstd {level}": zstandard.ZstdCompressor(level=level).compress for level in (-1, 1, 3)}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=0.5, help="processor time for every cell")
    arguments = parser.parse_args()
    for key, value in measure.machine(measure.HERE).items():
        print(f"{key}: {value}")
    random = np.random.default_rng(1).bytes(max(LENGTHS))
    sources = measure.HERE.parent / "vdrd"
    text = b"".join(path.read_bytes() for path in sorted(sources.rglob("*.py")))
    text = (text * (1 + max(LENGTHS) // len(text)))[: max(LENGTHS)]
    sm4_widest = 0.0
    print("\n| GB/s | " + " | ".join(f"{length // 1024} KiB" for length in LENGTHS) + " |")
    print("|---|" + "---|" * len(LENGTHS))
    for content, routines in ((random, hashing() | sealing() | others()), (text, compressing())):
        for name, routine in routines.items():
            cells = [gb_per_second(routine, memoryview(content)[:n], arguments.seconds) for n in LENGTHS]
            print(f"| {name} | " + " | ".join(f"{cell:.2f}" for cell in cells) + " |", flush=True)
            if name == f"sm4-gcm level {SM4_WIDEST}":
                sm4_widest = max(cells)
    print("\n| figure | ours | to reach | |\n|---|---|---|---|")
    verdict = "reached" if sm4_widest >= SM4_GB_PER_SECOND else "missed"
    ours = (
        f"{sm4_widest:.2f} | {SM4_GB_PER_SECOND} | {verdict}"
        if sm4_widest
        else "- | 2.0 | not on this machine"
    )
    print(f"| SM4-GCM with GFNI and AVX-512, GB/s on a core | {ours} |")


if __name__ == "__main__":
    main()
