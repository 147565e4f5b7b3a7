"""libnfs's own programs and QEMU's driver, the clients that hypervisors use."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fuse_nfs.conftest import MIB, RunningServer
from vdrd.disk.image import ImageDisk
from vdrd.disk.overlay import OverlayDisk

SERVER = """
import sys, trio
from pathlib import Path
from fuse_nfs.listen import ListenAddress
from fuse_nfs.server import serve_exports
from fuse_nfs.session import opened_export
from vdrd.disk.image import ImageDisk

async def main():
    lower, overlay = map(Path, sys.argv[1:])
    with ImageDisk.open(lower) as disk:
        with opened_export(disk, name="point", identity="image", overlay_path=overlay) as export:
            async with serve_exports(ListenAddress("127.0.0.1")) as server:
                print(server.add(export), flush=True)
                await trio.sleep_forever()

trio.run(main)
"""


def run(*command: object, code: int = 0) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


def test_nfs_ls_lists_exports_and_disks(writable: RunningServer) -> None:
    assert "point" in run("nfs-ls", writable.url("/"))
    assert run("nfs-ls", writable.url("/point")).split()[4:] == [str(4 * MIB + 1024), "disk.raw"]


def test_nfs_cp_reads_and_writes_the_whole_disk(
    writable: RunningServer, image: Path, disk: ImageDisk, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    run("nfs-cp", writable.url("/point/disk.raw"), copy)
    assert copy.read_bytes() == image.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(random.Random(9).randbytes(4 * MIB + 1024))
    before = image.read_bytes()
    # It truncates first, and a disk keeps its size: refused, and nothing is lost.
    run("nfs-cp", other, writable.url("/point/disk.raw"), code=10)
    assert image.read_bytes() == before


@pytest.fixture
def image(image: Path) -> Path:
    """Of whole sectors: QEMU writes no less."""
    os.truncate(image, 4 * MIB + 1024)
    return image


@pytest.fixture
def served(
    network_namespace: Callable[[], str], image: Path, tmp_path: Path
) -> Iterator[tuple[list[str], str]]:
    """(words that enter the namespace, URL) of a writable export of `image` on the usual ports."""
    enter = ["nsenter", f"--net=/run/netns/{network_namespace()}"]
    overlay = tmp_path / "overlay"
    command = [*enter, sys.executable, "-c", SERVER, str(image), str(overlay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        assert url == "nfs://127.0.0.1/point/disk.raw"
        yield enter, url
        server.kill()


def test_qemu_compares_converts_and_writes(
    served: tuple[list[str], str], image: Path, tmp_path: Path
) -> None:
    enter, url = served
    before = image.read_bytes()
    compare = [*enter, "qemu-img", "compare", "-f", "raw", "-F", "raw", url]
    assert run(*compare, image) == "Images are identical.\n"
    run(*enter, "qemu-img", "convert", "-f", "raw", "-O", "qcow2", url, tmp_path / "converted.qcow2")
    assert "identical" in run("qemu-img", "compare", "-F", "raw", tmp_path / "converted.qcow2", image)
    other = tmp_path / "other.raw"
    other.write_bytes(random.Random(5).randbytes(2 * MIB) + bytes(2 * MIB) + random.Random(6).randbytes(1024))
    run(*enter, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", other, url)
    assert run(*compare, other) == "Images are identical.\n"
    assert image.read_bytes() == before
    written = ["write -P 5 512 512", "write -z 1M 64k", "write -P 6 4194304 1024", "flush"]
    commands = [word for line in written for word in ("-c", line)]
    run(*enter, "qemu-io", "-f", "raw", "-t", "none", *commands, url)
    checks = ["read -P 5 512 512", "read -P 0 1M 64k", "read -P 6 4194304 1024"]
    commands = [word for line in checks for word in ("-c", line)]
    assert "Pattern verification failed" not in run(*enter, "qemu-io", "-f", "raw", *commands, url)


def test_qemu_bench_with_flushes_leaves_what_it_wrote(
    served: tuple[list[str], str], image: Path, tmp_path: Path
) -> None:
    enter, url = served
    bench = ["qemu-img", "bench", "-f", "raw", "-w", "--pattern=77", "-t", "none", "-s", "4k", "-d", "8"]
    run(*enter, *bench, "-c", "512", "--flush-interval=16", url)
    found = subprocess.run([*enter, "nfs-cp", url, tmp_path / "copy"], check=True, capture_output=True)
    assert found
    content = (tmp_path / "copy").read_bytes()
    assert content[: 2 * MIB] == b"\x4d" * 2 * MIB
    assert content[2 * MIB :] == image.read_bytes()[2 * MIB :]


def test_flushed_writes_survive_the_kill_of_the_server(
    network_namespace: Callable[[], str], image: Path, tmp_path: Path
) -> None:
    enter = ["nsenter", f"--net=/run/netns/{network_namespace()}"]
    overlay = tmp_path / "overlay"
    command = [*enter, sys.executable, "-c", SERVER, str(image), str(overlay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        url = server.stdout.readline().strip()
        written = ["write -P 1 0 1M", "write -P 2 123k 7k", "flush", "write -P 3 2M 1M", "sleep 0"]
        commands = [word for line in written for word in ("-c", line)]
        client = subprocess.Popen(
            [*enter, "stdbuf", "-oL", "qemu-io", "-f", "raw", *commands, "-c", "sleep 60000", url],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert client.stdout is not None
        for line in client.stdout:
            if line.startswith("wrote 1048576/1048576 bytes at offset 2097152"):
                break
        server.kill()
        server.wait()
        client.kill()
        client.communicate()
    with ImageDisk.open(image) as lower, OverlayDisk.open(overlay, lower, identity="image") as disk:
        found = disk.native.read(0, disk.size_bytes)
    assert found[: 123 << 10] == b"\1" * (123 << 10)
    assert found[123 << 10 : 130 << 10] == b"\2" * (7 << 10)
    assert found[130 << 10 : MIB] == b"\1" * (MIB - (130 << 10))
    below = image.read_bytes()
    assert found[MIB : 2 * MIB] == below[MIB : 2 * MIB]
    for start in range(2 * MIB, 3 * MIB, 4096):
        assert found[start : start + 4096] in (b"\3" * 4096, below[start : start + 4096])
