"""The NFS server's decoders under libFuzzer with ASan and UBSan, from every valid call on."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

NATIVE = Path(__file__).parents[2] / "native"
SECONDS = int(os.environ.get("VDR_FUZZ_SECONDS", "600"))
PARTS = ["nfs_*.c", "crc32c.c", "disk.c", "disk_memory.c", "err.c"]

SEEDS = """
#undef NDEBUG
#include "nfs_fixture.h"
int main(void)
{
    for (unsigned number = 0; number < CALLS; number++) {
        uint8_t call[CALL_BYTES_MAX];
        size_t bytes = make_call(number, call);
        char name[32];
        snprintf(name, sizeof name, "call-%u", number);
        FILE *file = fopen(name, "wb");
        uint8_t head[5] = {255, 0x80, 0, (uint8_t)(bytes >> 8), (uint8_t)bytes};
        fwrite(head, 1, sizeof head, file);
        fwrite(call, 1, bytes, file);
        fclose(file);
    }
}
"""


@pytest.mark.long
@pytest.mark.timeout(SECONDS + 200)
def test_fuzzed_connections_do_no_harm(tmp_path: Path) -> None:
    assert shutil.which("clang"), "libFuzzer comes with clang: apt-get install clang"
    sources = [path for part in PARTS for path in NATIVE.joinpath("csrc").glob(part)]
    flags = ["-g", "-O1", "-std=gnu11", f"-I{NATIVE}/csrc", f"-I{NATIVE}/tests", "-pthread"]
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    tmp_path.joinpath("seeds.c").write_text(SEEDS)
    sanitize = "-fsanitize=fuzzer,address,undefined"
    fuzzer = ["clang", *flags, sanitize, *sources, NATIVE / "tests/fuzz_nfs.c", "-o", tmp_path / "fuzz"]
    subprocess.run(fuzzer, check=True)
    seeds = ["clang", *flags, *sources, tmp_path / "seeds.c", "-o", tmp_path / "seeds"]
    subprocess.run(seeds, check=True)
    subprocess.run([tmp_path / "seeds"], check=True, cwd=corpus)
    run = [tmp_path / "fuzz", f"-max_total_time={SECONDS}", "-max_len=4096", "-rss_limit_mb=1024", corpus]
    done = subprocess.run(run, check=False, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr[-5000:]
