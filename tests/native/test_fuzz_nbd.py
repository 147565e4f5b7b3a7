"""The NBD server's decoders under libFuzzer with ASan and UBSan, from whole conversations on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SECONDS = int(os.environ.get("VDR_FUZZ_SECONDS", "600"))
PARTS = ["nbd_export.c", "nbd_session.c", "nbd_service.c", "nfs_event.c", "disk.c", "disk_memory.c", "err.c"]

SEEDS = """
#undef NDEBUG
#include "nbd_fixture.h"
int main(void)
{
    for (unsigned number = 0; number < NBD_SEEDS; number++) {
        uint8_t bytes[8192] = {(uint8_t)(number == 5)};
        size_t count = 1 + make_seed(number, bytes + 1);
        char name[32];
        snprintf(name, sizeof name, "seed-%u", number);
        FILE *file = fopen(name, "wb");
        fwrite(bytes, 1, count, file);
        fclose(file);
    }
}
"""


def fuzz(place: Path, *limits: str) -> subprocess.CompletedProcess[str]:
    assert shutil.which("clang"), "libFuzzer comes with clang: apt-get install clang"
    sources = [NATIVE / "csrc" / part for part in PARTS]
    flags = ["-g", "-O1", "-std=gnu11", f"-I{NATIVE}/csrc", f"-I{NATIVE}/tests", "-pthread"]
    corpus = place / "corpus"
    corpus.mkdir()
    place.joinpath("seeds.c").write_text(SEEDS)
    sanitize = "-fsanitize=fuzzer,address,undefined"
    fuzzer = ["clang", *flags, sanitize, *sources, NATIVE / "tests/fuzz_nbd.c", "-o", place / "fuzz"]
    subprocess.run(fuzzer, check=True)
    seeds = ["clang", *flags, *sources, place / "seeds.c", "-o", place / "seeds"]
    subprocess.run(seeds, check=True)
    subprocess.run([place / "seeds"], check=True, cwd=corpus)
    run = [place / "fuzz", *limits, "-max_len=8192", "-rss_limit_mb=1024", corpus]
    return subprocess.run(run, check=False, capture_output=True, text=True, cwd=place)


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 200)
def test_fuzzed_conversations_do_no_harm(tmp_path: Path) -> None:
    done = fuzz(tmp_path, f"-max_total_time={SECONDS}")
    assert done.returncode == 0, done.stderr[-5000:]
