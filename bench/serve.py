"""Disks served over the network: ours from an encrypted, compressed point; peers from a plain raw file.

One client for all, `qemu-img bench`, so that only the server differs. "Cold" is a server that was just
started, its packs in the page cache; "warm" is the same work once more. Runs in network and mount namespaces
of its own, because QEMU finds NFS servers through port 111 only.

With --start it measures instead how long an export takes from the start of the process to the first byte,
for points of a small disk and of a sparse one of 64 TiB.
"""

import argparse
import json
import os
import re
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from generate import TextPool
from measure import machine

BIN = Path(sys.executable).parent
MIB = 1 << 20
PIECE_BYTES = 1 << 16

WORKLOADS: dict[str, tuple[str, int, int]] = {
    "read 1 MiB, depth 1, MB/s": ("-s 1M -d 1", 1 << 20, 1500),
    "read 1 MiB, depth 4, MB/s": ("-s 1M -d 4", 1 << 20, 1500),
    "read 4 KiB scattered, depth 1, 1/s": ("-s 4k -S 1060864 -d 1", 0, 20000),
    "read 4 KiB scattered, depth 16, 1/s": ("-s 4k -S 1060864 -d 16", 0, 40000),
    "write 4 KiB scattered, depth 1, 1/s": ("-w -s 4k -S 1060864 -d 1", 0, 20000),
    "write 4 KiB scattered, depth 16, 1/s": ("-w -s 4k -S 1060864 -d 16", 0, 40000),
    "write 4 KiB, flush each, depth 1, 1/s": ("-w -s 4k -S 1060864 -d 1 --flush-interval=1", 0, 2000),
}
"""Arguments for qemu-img bench; bytes of one operation if the figure is MB/s; operations at scale 1."""

GANESHA = """
NFS_CORE_PARAM {{ Protocols = 3; Enable_NLM = false; Enable_RQUOTA = false;
  MNT_Port = 20048; NFS_Port = 2049; }}
EXPORT {{ Export_Id = 1; Path = "{path}"; Pseudo = "/bench"; Access_Type = RW; Squash = No_Root_Squash;
  SecType = sys, none; Transports = TCP; FSAL {{ Name = VFS; }} }}
"""


def write_image(path: Path, size_bytes: int, seed: int) -> None:
    """Half text, half noise, in turn every 64 KiB: blocks that compress and blocks that do not."""
    text, noise = TextPool(min(size_bytes, 64 * MIB)), np.random.default_rng(seed)
    with path.open("wb") as file:
        for _ in range(size_bytes // PIECE_BYTES // 2):
            file.write(text.take(PIECE_BYTES))
            file.write(noise.bytes(PIECE_BYTES))


def run_workload(url: str, name: str, scale: float) -> float:
    """Operations or megabytes a second."""
    arguments, unit_bytes, count = WORKLOADS[name]
    count = max(50, int(count * scale))
    command = ["qemu-img", "bench", "-f", "raw", "-t", "none", "-c", str(count), *arguments.split()]
    if "flush" in arguments:
        command.append("--no-drain")
    done = subprocess.run([*command, url], capture_output=True, text=True, check=False)
    found = re.search(r"Run completed in ([\d.]+) seconds", done.stdout)
    if done.returncode or not found:
        raise SystemExit(f"{url}: {done.stderr}")
    rate = count / float(found.group(1))
    return rate * unit_bytes / 1e6 if unit_bytes else rate


def wait_until(is_ready: Callable[[], bool], what: str) -> None:
    """Fails after 30 s."""
    deadline = time.monotonic() + 30
    while not is_ready():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} does not come up")
        time.sleep(0.05)


@contextmanager
def process(*command: object, **how: object) -> Iterator[subprocess.Popen[str]]:
    """Runs until the context ends."""
    running = subprocess.Popen([*map(str, command)], text=True, **how)  # type: ignore[call-overload]
    try:
        yield running
    finally:
        running.terminate()
        running.communicate()


def make_storage(work: Path, image: Path) -> tuple[Path, Path]:
    """A storage with a point of the image, and its key file."""
    storage, key = work / "storage", work / "key"
    if not storage.exists():
        key.write_bytes(os.urandom(32))
        keyed = ["--key-file", key]
        subprocess.run(
            [BIN / "vdr", "store", "init", storage, "--encryption", "aes-256-gcm", *keyed], check=True
        )
        backup = [BIN / "vdr", "store", "backup", storage, "disk", image, "--object", "bench", *keyed]
        subprocess.run(backup, check=True, stderr=subprocess.DEVNULL)
    return storage, key


@contextmanager
def ours(work: Path, image: Path, *listen: str) -> Iterator[str]:
    """A writable export of a point of the image."""
    storage, key = make_storage(work, image)
    command = [BIN / "vdr", "store", "export", storage, "bench@latest", *(listen or ("--nfs", "127.0.0.1"))]
    options = ["--key-file", key, "--writable", "--cache", work / f"cache-{time.monotonic_ns()}"]
    with process(*command, *options, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


@contextmanager
def ours_nbd(work: Path, image: Path) -> Iterator[str]:
    """The same over NBD."""
    with ours(work, image, "--nbd", "127.0.0.1:10810") as url:
        yield url


RAW_SERVER = """
import sys, trio
from pathlib import Path
from fuse_nfs.export import Export
from fuse_nfs.listen import ListenAddress
from fuse_nfs.server import serve_exports
from vdrd.disk.image import ImageDisk

async def main():
    with ImageDisk.open(Path(sys.argv[1]), writable=True) as disk:
        async with serve_exports(ListenAddress("127.0.0.1")) as server:
            print(server.add(Export("raw", disk, is_writable=True)), flush=True)
            await trio.sleep_forever()

trio.run(main)
"""


@contextmanager
def ours_raw(work: Path, image: Path) -> Iterator[str]:
    """Our server over the raw file, as the peers have it."""
    with process(sys.executable, "-c", RAW_SERVER, image, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


RAW_NBD_SERVER = (
    RAW_SERVER.replace("fuse_nfs.listen import ListenAddress", "fuse_nfs.nbd import NbdAddress, serve_nbd")
    .replace("from fuse_nfs.server import serve_exports\n", "")
    .replace('serve_exports(ListenAddress("127.0.0.1"))', 'serve_nbd(NbdAddress("127.0.0.1", 10811))')
)


@contextmanager
def ours_raw_nbd(work: Path, image: Path) -> Iterator[str]:
    """Our NBD server over the raw file."""
    with process(sys.executable, "-c", RAW_NBD_SERVER, image, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield server.stdout.readline().strip()


@contextmanager
def ganesha(work: Path, image: Path) -> Iterator[str]:
    """nfs-ganesha with its VFS backend over the raw file."""
    config = work / "ganesha.conf"
    config.write_text(GANESHA.format(path=image.parent))
    # -h 127.0.0.1 makes rpcbind of Debian 12 abort.
    with (
        process("rpcbind", "-f", "-i", "-h", "127.0.0.2"),
        process("ganesha.nfsd", "-F", "-f", config, "-L", work / "ganesha.log", "-p", work / "ganesha.pid"),
    ):
        found = ["rpcinfo", "-t", "127.0.0.1", "100005", "3"]
        wait_until(lambda: subprocess.run(found, capture_output=True, check=False).returncode == 0, "ganesha")
        yield f"nfs://127.0.0.1{image}"


@contextmanager
def nbdkit(work: Path, image: Path) -> Iterator[str]:
    """nbdkit's file plugin over TCP."""
    with process("nbdkit", "-f", "-i", "127.0.0.1", "file", image):
        probe = ["qemu-img", "info", "nbd://127.0.0.1/"]
        wait_until(lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, "nbdkit")
        yield "nbd://127.0.0.1/"


@contextmanager
def qemu_nbd(work: Path, image: Path) -> Iterator[str]:
    """qemu-nbd over TCP."""
    with process("qemu-nbd", "-t", "-f", "raw", "-b", "127.0.0.1", "-p", "10812", "-e", "16", image):
        url = "nbd://127.0.0.1:10812/"
        probe = ["qemu-img", "info", url]
        wait_until(
            lambda: subprocess.run(probe, capture_output=True, check=False).returncode == 0, "qemu-nbd"
        )
        yield url


SERVERS = {
    "vdr (nfs, point)": ours,
    "vdr (nfs, raw)": ours_raw,
    "nfs-ganesha (raw)": ganesha,
    "vdr (nbd, point)": ours_nbd,
    "vdr (nbd, raw)": ours_raw_nbd,
    "nbdkit (nbd, raw)": nbdkit,
    "qemu-nbd (raw)": qemu_nbd,
}
COLD = {"vdr (nfs, point)", "vdr (nbd, point)"}
"""Servers that decode, and so are measured right after their start as well."""


def first_byte_seconds(storage: Path, key: Path, reference: str) -> float:
    """From the start of the command to a byte out of the middle of the disk, read over NBD."""
    began = time.monotonic()
    command = [BIN / "vdr", "store", "export", storage, reference, "--nbd", "127.0.0.1:10813"]
    with process(*command, "--key-file", key, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as server:
        assert server.stdout is not None
        name = server.stdout.readline().strip().rpartition("/")[2].encode()
        with socket.create_connection(("127.0.0.1", 10813)) as client, client.makefile("rb") as answers:
            answers.read(18)
            option = struct.pack(">QII", 0x49484156454F5054, 1, len(name)) + name
            client.sendall(struct.pack(">I", 3) + option)
            size = struct.unpack(">Q", answers.read(10)[:8])[0]
            client.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 0, 1, size // 2, 1))
            assert len(answers.read(17)) == 17
        return time.monotonic() - began


def measure_start(work: Path, image: Path, points: int) -> dict[str, float]:
    """Seconds to the first byte: disk of 1 GiB or 64 TiB, one point or many, first or last of them."""
    storage, key = make_storage(work, image)
    many, sparse = work / "many", work / "sparse.raw"
    if not many.exists():
        with sparse.open("wb") as file:
            file.truncate(64 << 40 if can_hold(work) else 8 << 40)
            file.seek(file.seek(0, os.SEEK_END) // 2)
            file.write(b"x" * MIB)
        keyed = ["--key-file", key]
        encrypted = ["--encryption", "aes-256-gcm", *keyed]
        subprocess.run(
            [BIN / "vdr", "store", "init", many, *encrypted], check=True, stdout=subprocess.DEVNULL
        )
        for number in range(points):
            with image.open("r+b") as file:
                file.seek(number * 4096)
                file.write(struct.pack(">Q", number))
            backup = [BIN / "vdr", "store", "backup", many, "disk", image, "--object", "bench", *keyed]
            subprocess.run(backup, check=True, capture_output=True)
        backup = [BIN / "vdr", "store", "backup", many, "disk", sparse, "--object", "sparse", *keyed]
        subprocess.run(backup, check=True, capture_output=True)
    listed = [BIN / "vdr", "store", "points", many, "--object", "bench", "--json", "--key-file", key]
    ids = [
        point["id"] for point in json.loads(subprocess.run(listed, capture_output=True, check=True).stdout)
    ]
    return {
        "one point": first_byte_seconds(storage, key, "bench@latest"),
        f"first of {len(ids)} points": first_byte_seconds(many, key, ids[0]),
        f"last of {len(ids)} points": first_byte_seconds(many, key, ids[-1]),
        f"sparse disk of {sparse.stat().st_size >> 40} TiB": first_byte_seconds(many, key, "sparse@latest"),
    }


def can_hold(work: Path) -> bool:
    """True if a sparse file of 64 TiB can be made here; ext4 ends at 16 TiB."""
    probe = work / "probe"
    try:
        with probe.open("wb") as file:
            file.truncate(64 << 40)
    except OSError:
        return False
    finally:
        probe.unlink(missing_ok=True)
    return True


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=0.2, help="1 is an image of 2 GiB; default: 0.2")
    parser.add_argument("--runs", type=int, default=1, help="the best of so many")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path("/var/tmp/vdr-bench/serve"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument(
        "--only", action="append", default=[], help="names of servers, such as nbd or ganesha"
    )
    parser.add_argument("--start", action="store_true", help="measure the time to the first byte instead")
    parser.add_argument("--points", type=int, default=100, help="with --start, in the larger storage")
    args = parser.parse_args()
    if os.environ.get("VDR_BENCH_NAMESPACE") != "1":
        inner = ["unshare", "--net", "--mount", sys.executable, *sys.argv]
        sys.exit(subprocess.run(inner, env=os.environ | {"VDR_BENCH_NAMESPACE": "1"}, check=False).returncode)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    folder = args.work / "raw"
    folder.mkdir(parents=True, exist_ok=True)
    image = folder / "bench.raw"
    size_mib = max(64, int(2048 * args.scale))
    if not image.exists() or image.stat().st_size != size_mib * MIB:
        write_image(image, size_mib * MIB, seed=args.seed)
    if args.start:
        starts = measure_start(args.work, image, args.points)
        for name, seconds in starts.items():
            print(f"{name:40}{seconds * 1000:>20,.0f} ms")
        return
    figures = measure_all(args.work, image, args.only, args.runs, args.scale)
    if args.json:
        print(json.dumps({"machine": machine(args.work), "figures": figures}, indent=2))
        return
    columns = list(next(iter(figures.values())))
    print(f"{'':40}" + "".join(f"{column:>24}" for column in columns))
    for name, row in figures.items():
        print(f"{name:40}" + "".join(f"{row.get(column, 0):>24,.0f}" for column in columns))


def measure_all(
    work: Path, image: Path, only: list[str], runs: int, scale: float
) -> dict[str, dict[str, float]]:
    """The best of so many runs by workload and server; a cold figure is of a server started for it alone."""
    figures: dict[str, dict[str, float]] = {name: {} for name in WORKLOADS}

    def note(name: str, column: str, url: str) -> None:
        figures[name][column] = max(run_workload(url, name, scale), figures[name].get(column, 0))

    for server, serve in SERVERS.items():
        if only and not any(part in server for part in only):
            continue
        for _ in range(runs):
            for name in WORKLOADS if server in COLD else ():
                if name.startswith("read"):
                    with serve(work, image) as url:
                        note(name, f"{server}, cold", url)
            with serve(work, image) as url:
                if server in COLD:
                    subprocess.run(
                        [
                            "qemu-img",
                            "bench",
                            "-f",
                            "raw",
                            "-t",
                            "none",
                            "-s",
                            "1M",
                            "-d",
                            "1",
                            "-c",
                            str(image.stat().st_size // MIB),
                            url,
                        ],
                        check=True,
                        capture_output=True,
                    )
                for name in WORKLOADS:
                    note(name, server, url)
    return figures


if __name__ == "__main__":
    main()
