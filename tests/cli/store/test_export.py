"""`vdr store export` with a real storage and real clients."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

Vdr = Callable[..., subprocess.CompletedProcess[str]]


class Exporter:
    """The running command."""

    def __init__(self, *arguments: object) -> None:
        command = [Path(sys.executable).with_name("vdr"), "store", "export", *map(str, arguments)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self) -> str:
        assert self.process.stdout is not None
        found = self.process.stdout.readline().strip()
        if not found:
            self.process.wait(60)
            assert self.process.stderr is not None
            raise AssertionError(self.process.stderr.read())
        return found

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        self.process.communicate(timeout=60)
        return self.process.returncode


@pytest.fixture
def export() -> Iterator[Callable[..., Exporter]]:
    with ExitStack() as stack:

        def start(*arguments: object) -> Exporter:
            exporter = Exporter(*arguments)
            stack.callback(exporter.process.communicate)
            stack.callback(exporter.process.kill)
            return exporter

        yield start


@pytest.fixture
def stored(vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path]) -> Path:
    """A storage with two points of one disk; returns the image as it was at the second."""
    image = disk_image(16)
    assert vdr("store", "init", storage_dir).returncode == 0
    for content in (b"first", b"second"):
        with image.open("r+b") as file:
            file.write(content)
        assert vdr("store", "backup", storage_dir, "disk", image, "--object", "d").returncode == 0
    return image


# An own loopback address: the port mapper's port must be free there.
ADDRESS = f"127.7.{os.getpid() // 250 % 250 + 1}.{os.getpid() % 250 + 1}"
PORTS = ["--nfs-port", "12049", "--mount-port", "12048"]
LIBNFS = "?nfsport=12049&mountport=12048"


def fetch(url: str, target: Path) -> bytes:
    subprocess.run(["nfs-cp", url + LIBNFS, target], check=True, capture_output=True, timeout=60)
    return target.read_bytes()


def test_export_of_every_point_serves_its_content(
    vdr: Vdr, export: Callable[..., Exporter], storage_dir: Path, stored: Path, tmp_path: Path
) -> None:
    points = json.loads(vdr("store", "points", storage_dir, "--json").stdout)
    ids = [point["id"] for point in points]
    running = export(storage_dir, *ids, "--nfs", ADDRESS, *PORTS, "--portmap-port", "none")
    urls = [running.line() for _ in ids]
    assert urls == [f"nfs://{ADDRESS}/{name}/disk.raw" for name in ids]
    assert fetch(urls[1], tmp_path / "second") == stored.read_bytes()
    first = fetch(urls[0], tmp_path / "first")
    assert first[:5] == b"first"
    assert first[6:] == stored.read_bytes()[6:]
    assert running.stop() == 0


def test_export_is_found_by_qemu_through_the_port_mapper(
    export: Callable[..., Exporter], storage_dir: Path, stored: Path
) -> None:
    running = export(storage_dir, "d@latest", "--nfs", ADDRESS, *PORTS)
    command = ["qemu-img", "compare", "-f", "raw", "-F", "raw", running.line(), str(stored)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "Images are identical.\n")
    assert running.stop(signal.SIGINT) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_export_writable_keeps_writes_in_the_cache_and_not_in_the_point(
    vdr: Vdr, export: Callable[..., Exporter], storage_dir: Path, stored: Path, tmp_path: Path, number: int
) -> None:
    arguments = [
        storage_dir,
        "d@latest",
        "--nfs",
        ADDRESS,
        *PORTS,
        "--cache",
        tmp_path / "cache",
        "--writable",
    ]
    running = export(*arguments)
    write = ["qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "flush", running.line()]
    subprocess.run(write, check=True, capture_output=True, timeout=60)
    running.stop(number)
    again = export(*arguments)
    found = fetch(again.line(), tmp_path / "found")
    assert found[1 << 20 :][:65536] == b"\x07" * 65536
    assert found[2 << 20 :] == stored.read_bytes()[2 << 20 :]
    assert again.stop() == 0
    assert vdr("store", "verify", storage_dir, "--read-data").returncode == 0
    read_only = export(storage_dir, "d@latest", "--nfs", ADDRESS, *PORTS)
    assert fetch(read_only.line(), tmp_path / "point") == stored.read_bytes()


def test_export_without_cache_leaves_nothing_behind(
    export: Callable[..., Exporter], storage_dir: Path, stored: Path
) -> None:
    before = set(Path("/var/tmp").glob("vdr-export-*"))
    running = export(storage_dir, "d@latest", "--nfs", ADDRESS, *PORTS, "--writable")
    assert running.line()
    assert len(set(Path("/var/tmp").glob("vdr-export-*")) - before) == 1
    assert running.stop() == 0
    assert set(Path("/var/tmp").glob("vdr-export-*")) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["d@latest", "--nfs", "nowhere"], 2, "'nowhere' is not an IP address"),
        (["d@latest", "--nfs", "192.0.2.1"], 9, "cannot listen on 192.0.2.1 port 12049"),
        (["d@latest", "--nfs", ADDRESS, "--nfs-port", "70000"], 2, "not a port"),
        (["d@latest", "--nfs", ADDRESS, "--client", "here"], 2, "client"),
        (["e@latest", "--nfs", ADDRESS], 4, "not found"),
        (["ffff", "--nfs", ADDRESS], 4, "not found"),
        (["d@latest"], 2, "--nfs"),
    ],
)
def test_export_that_cannot_be_is_refused_with_the_reason(
    vdr: Vdr, storage_dir: Path, stored: Path, arguments: list[str], code: int, message: str
) -> None:
    done = vdr("store", "export", storage_dir, *PORTS, *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_export_of_files_is_refused(vdr: Vdr, storage_dir: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    tree.joinpath("file").write_text("text")
    vdr("store", "init", storage_dir)
    assert vdr("store", "backup", storage_dir, "files", tree, "--object", "t").returncode == 0
    done = vdr("store", "export", storage_dir, "t@latest", "--nfs", ADDRESS)
    assert done.returncode == 2
    assert "vdr store mount" in done.stderr


def test_export_port_in_use_is_refused_with_the_remedy(
    vdr: Vdr, export: Callable[..., Exporter], storage_dir: Path, stored: Path
) -> None:
    running = export(storage_dir, "d@latest", "--nfs", ADDRESS, *PORTS)
    running.line()
    other = ["--nfs-port", "12050", "--mount-port", "12051"]
    done = vdr("store", "export", storage_dir, "d@latest", "--nfs", ADDRESS, *other)
    assert done.returncode == 9
    assert "port 111: address already in use. stop rpcbind" in done.stderr


def test_export_of_a_cache_in_use_is_refused(
    vdr: Vdr, export: Callable[..., Exporter], storage_dir: Path, stored: Path, tmp_path: Path
) -> None:
    arguments = [
        storage_dir,
        "d@latest",
        "--cache",
        tmp_path / "cache",
        "--writable",
        "--portmap-port",
        "none",
    ]
    export(*arguments, "--nfs", ADDRESS, *PORTS).line()
    done = vdr("store", "export", *arguments, "--nfs", "127.7.0.2", *PORTS)
    assert done.returncode == 5
    assert "another process has it open" in done.stderr


def test_export_over_nbd_serves_every_point_and_keeps_writes(
    vdr: Vdr, export: Callable[..., Exporter], storage_dir: Path, stored: Path, tmp_path: Path
) -> None:
    ids = [point["id"] for point in json.loads(vdr("store", "points", storage_dir, "--json").stdout)]
    arguments = [storage_dir, *ids, "--nbd", f"{ADDRESS}:12809", "--writable", "--cache", tmp_path / "cache"]
    running = export(*arguments)
    urls = [running.line() for _ in ids]
    assert urls == [f"nbd://{ADDRESS}:12809/{name}" for name in ids]
    copy = tmp_path / "copy"
    subprocess.run(["nbdcopy", urls[1], copy], check=True, timeout=60)
    assert copy.read_bytes() == stored.read_bytes()
    write = ["qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "flush", urls[1]]
    subprocess.run(write, check=True, capture_output=True, timeout=60)
    assert running.stop(signal.SIGKILL) == -signal.SIGKILL
    again = export(*arguments)
    again.line()
    subprocess.run(["nbdcopy", again.line(), copy], check=True, timeout=60)
    assert copy.read_bytes()[1 << 20 :][:65536] == b"\x07" * 65536
    assert again.stop() == 0


def test_export_over_both_protocols_shows_one_what_the_other_wrote(
    export: Callable[..., Exporter], storage_dir: Path, stored: Path, tmp_path: Path
) -> None:
    nfs = ["--nfs", ADDRESS, *PORTS, "--portmap-port", "none"]
    running = export(storage_dir, "d@latest", *nfs, "--nbd", f"{ADDRESS}:12809", "--writable")
    nfs_url, nbd_url = running.line(), running.line()
    write = ["qemu-io", "-f", "raw", "-c", "write -P 7 1M 64k", "-c", "flush", nbd_url]
    subprocess.run(write, check=True, capture_output=True, timeout=60)
    assert fetch(nfs_url, tmp_path / "found")[1 << 20 :][:65536] == b"\x07" * 65536
    assert running.stop() == 0


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ([], "needs an address to listen on"),
        (["--nbd", "nowhere"], "is not ADDRESS:PORT"),
        (["--nbd", "127.0.0.1", "--tls-key", "key.pem"], "need --tls-certificate"),
        (["--nfs", "127.0.0.1", "--tls-certificate", "c.pem"], "NFS has no TLS"),
        (["--nbd", "127.0.0.1:0", "--tls-certificate", "missing.pem"], "missing.pem cannot be read"),
    ],
)
def test_export_refuses_what_does_not_fit(
    vdr: Vdr, storage_dir: Path, stored: Path, arguments: list[str], reason: str
) -> None:
    done = vdr("store", "export", storage_dir, "d@latest", *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
