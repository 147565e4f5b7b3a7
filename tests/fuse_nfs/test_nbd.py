"""The NBD server under the clients of others: libnbd's tools and QEMU; and under one that misbehaves."""

import json
import logging
import random
import re
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_network
from pathlib import Path

import pytest
import trio

from fuse_nfs.export import Export
from fuse_nfs.nbd import NbdAddress, parse_nbd_address, serve_nbd
from native.nbd import NbdSettings, TlsFiles
from tests.fuse_nfs.nbd_client import (
    CACHE,
    FLUSH,
    OPTION_MAGIC,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    RunningNbd,
)
from vdrd.disk.image import ImageDisk
from vdrd.disk.overlay import OverlayDisk
from vdrd.model.errors import BadArgument, NotFound

MIB = 1 << 20
EPERM, EIO, EINVAL, ENOSPC, EOVERFLOW = 1, 5, 22, 28, 75


@pytest.fixture
def start_nbd() -> Iterator[Callable[..., RunningNbd]]:
    with ExitStack() as stack:

        def start(*arguments: object, **more: object) -> RunningNbd:
            return stack.enter_context(RunningNbd(*arguments, **more))  # type: ignore[arg-type]

        yield start


@pytest.fixture
def nbd(start_nbd: Callable[..., RunningNbd]) -> RunningNbd:
    return start_nbd()


def run(*command: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, errors="replace", timeout=120, check=False
    )
    assert not check or done.returncode == 0, done.stderr
    return done


def test_nbdinfo_sees_what_the_export_can_do(nbd: RunningNbd, disk: ImageDisk) -> None:
    url = nbd.add(Export("point", disk, is_writable=True))
    found = json.loads(run("nbdinfo", "--no-content", "--json", url).stdout)
    assert (found["protocol"], found["TLS"], found["structured"]) == ("newstyle-fixed", False, True)
    export = found["exports"][0]
    assert export["export-size"] == disk.size_bytes
    assert export["contexts"] == ["base:allocation"]
    wanted = ["cache", "df", "flush", "fua", "multi_conn", "trim", "zero"]
    assert {name: export[f"can_{name}"] for name in wanted} == dict.fromkeys(wanted, True)
    assert not export["is_read_only"]
    assert (export["block_size_minimum"], export["block_size_maximum"]) == (1, 32 * MIB)


def test_nbdinfo_lists_only_what_the_client_may_use(nbd: RunningNbd, disk: ImageDisk) -> None:
    nbd.add(Export("mine", disk))
    nbd.add(Export("theirs", disk, clients=(ip_network("192.0.2.0/24"),)))
    listed = json.loads(
        run("nbdinfo", "--no-content", "--json", "--list", f"nbd://127.0.0.1:{nbd.exports.port}").stdout
    )
    assert [export["export-name"] for export in listed["exports"]] == ["mine"]
    refused = run("nbdinfo", "--no-content", nbd.exports.url("theirs"), check=False)
    assert refused.returncode != 0
    assert "No such file or directory for export: theirs" in refused.stderr


def test_nbdinfo_maps_data_and_holes(nbd: RunningNbd, tmp_path: Path) -> None:
    path = tmp_path / "sparse.raw"
    with path.open("wb") as file:
        file.truncate(64 * MIB)
        file.seek(16 * MIB)
        file.write(b"x" * MIB)
    with ImageDisk.open(path) as disk:
        mapped = run("nbdinfo", "--no-content", "--json", "--map", nbd.add(Export("sparse", disk)))
        extents = json.loads(mapped.stdout)
        nbd.remove("sparse")
    assert [(e["offset"], e["length"], e["type"]) for e in extents] == [
        (0, 16 * MIB, 3),
        (16 * MIB, MIB, 0),
        (17 * MIB, 47 * MIB, 3),
    ]


def test_nbdcopy_reads_and_writes_all_of_a_disk(
    nbd: RunningNbd, disk: ImageDisk, image: Path, tmp_path: Path
) -> None:
    url = nbd.add(Export("point", disk, is_writable=True))
    copy = tmp_path / "copy.raw"
    run("nbdcopy", "--connections=4", "--requests=32", url, copy)
    assert copy.read_bytes() == image.read_bytes()
    copy.write_bytes(random.Random(9).randbytes(disk.size_bytes))
    run("nbdcopy", "--connections=4", "--flush", copy, url)
    assert image.read_bytes() == copy.read_bytes()


def test_qemu_img_compares_maps_and_converts(
    nbd: RunningNbd, disk: ImageDisk, image: Path, tmp_path: Path
) -> None:
    url = nbd.add(Export("point", disk))
    assert (
        run("qemu-img", "compare", "-f", "raw", "-F", "raw", url, image).stdout == "Images are identical.\n"
    )
    mapped = json.loads(run("qemu-img", "map", "-f", "raw", "--output=json", url).stdout)
    # QEMU rounds a disk up to its sectors.
    assert sum(extent["length"] for extent in mapped) == -(-disk.size_bytes // 512) * 512
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", url, tmp_path / "copy.qcow2")
    compared = run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", image, tmp_path / "copy.qcow2")
    assert compared.stdout == "Images are identical.\n"


def test_qemu_io_writes_zeroes_discards_and_flushes_an_overlay(
    nbd: RunningNbd, disk: ImageDisk, image: Path, tmp_path: Path
) -> None:
    before = image.read_bytes()
    expected = bytearray(before)
    with OverlayDisk.open(tmp_path / "overlay", disk, identity="disk") as overlay:
        url = nbd.add(Export("point", overlay, is_writable=True))
        commands = [
            "write -P 7 1000 70000",
            "write -z 512k 64k",
            "write -f -P 9 600k 1k",
            "discard 1M 1M",
            "flush",
        ]
        run("qemu-io", "-f", "raw", "-d", "unmap", *(word for c in commands for word in ("-c", c)), url)
        expected[1000:71000] = b"\x07" * 70000
        expected[512 << 10 : 576 << 10] = bytes(64 << 10)
        expected[600 << 10 : 601 << 10] = b"\x09" * 1024
        expected[MIB : 2 * MIB] = bytes(MIB)
        tmp_path.joinpath("expected").write_bytes(expected)
        compared = run("qemu-img", "compare", "-f", "raw", "-F", "raw", url, tmp_path / "expected")
        assert compared.stdout == "Images are identical.\n"
        nbd.remove("point")
    assert image.read_bytes() == before


def test_read_only_export_refuses_every_change(nbd: RunningNbd, disk: ImageDisk, image: Path) -> None:
    before = image.read_bytes()
    nbd.add(Export("point", disk))
    client = nbd.client("point")
    assert client.flags & 2
    assert client.ask(WRITE, 0, 5, payload=b"12345") == (EPERM, b"")
    assert client.ask(TRIM, 0, 4096) == (EPERM, b"")
    assert client.ask(WRITE_ZEROES, 0, 4096) == (EPERM, b"")
    assert client.ask(FLUSH) == (0, b"")
    assert client.ask(READ, 10, 20) == (0, before[10:30])
    client.close()
    assert image.read_bytes() == before


def test_requests_outside_the_disk_are_refused(nbd: RunningNbd, disk: ImageDisk) -> None:
    nbd.add(Export("point", disk, is_writable=True))
    client = nbd.client()  # the only one needs no name
    end = disk.size_bytes
    assert client.ask(READ, end - 1, 2)[0] == EINVAL
    assert client.ask(READ, 1 << 63, 2)[0] == EINVAL
    assert client.ask(READ, 0, 33 * MIB)[0] in (EINVAL, EOVERFLOW)
    assert client.ask(WRITE, end - 1, 2, payload=b"xx")[0] == ENOSPC
    assert client.ask(TRIM, end, 1)[0] == ENOSPC
    assert client.ask(CACHE, end - 5, 5)[0] == 0
    assert client.ask(99)[0] == EINVAL
    assert client.ask(READ, 0, 1, flags=0x80)[0] == EINVAL
    assert client.ask(READ, end - 1, 1)[0] == 0
    client.close()


def test_failing_disk_is_an_error_of_the_request_and_told(
    nbd: RunningNbd, disk: ImageDisk, image: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nbd.add(Export("point", disk))
    with image.open("r+b") as file:
        file.truncate(MIB)
    client = nbd.client("point")
    assert client.ask(READ, MIB - 4096, 4096)[0] == 0
    assert client.ask(READ, 2 * MIB, 4096) == (EIO, b"")
    failed = run("qemu-io", "-r", "-f", "raw", "-c", "read 2M 4k", nbd.exports.url("point"), check=False)
    assert "Input/output error" in failed.stdout + failed.stderr
    client.close()
    with caplog.at_level(logging.WARNING):
        nbd.stop()
    assert re.search(r"exported disk failed peer=127.0.0.1:\d+ export=point read offset=2097152", caplog.text)


def test_connection_ends_when_its_export_does(nbd: RunningNbd, disk: ImageDisk) -> None:
    nbd.add(Export("point", disk))
    client = nbd.client("point")
    nbd.remove("point")
    assert client.file.read(1) == b""
    client.close()
    with pytest.raises(NotFound):
        nbd.remove("point")


def test_strangers_are_not_listened_to(nbd: RunningNbd, disk: ImageDisk) -> None:
    nbd.add(Export("point", disk, clients=(ip_network("192.0.2.0/24"),)))
    assert run("nbdinfo", "--no-content", nbd.exports.url("point"), check=False).returncode != 0
    assert nbd.exports.statistics().accepted == 0


def test_silent_and_stalled_connections_are_closed(
    start_nbd: Callable[..., RunningNbd], disk: ImageDisk
) -> None:
    nbd = start_nbd(NbdSettings(negotiate_seconds=5, stall_seconds=10, idle_seconds=100))
    nbd.add(Export("point", disk, is_writable=True))
    idle = nbd.client("point")
    assert idle.ask(READ, 0, 1)[0] == 0
    nbd.sweep(50)
    assert idle.ask(READ, 0, 1)[0] == 0
    idle.socket.settimeout(0.05)
    for _ in range(1200):
        # Again: the server may be about to learn that its last answer has left.
        nbd.sweep(101)
        with suppress(TimeoutError):
            assert idle.socket.recv(1) == b""
            break
    else:
        pytest.fail("the idle connection is still open")
    idle.close()


def test_connection_idle_for_days_is_kept(nbd: RunningNbd, disk: ImageDisk) -> None:
    nbd.add(Export("point", disk))
    idle = nbd.client("point")
    assert idle.ask(READ, 0, 1)[0] == 0
    nbd.sweep(30 * 86400)
    assert idle.ask(READ, 0, 1)[0] == 0
    idle.close()


def test_long_answers_are_sent_to_their_end_to_a_client_slow_to_take_them(
    nbd: RunningNbd, disk: ImageDisk
) -> None:
    names = [f"point-{i:03}-{'x' * 100}" for i in range(200)]
    for name in names:
        nbd.add(Export(name, disk))
    lists = 200
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(60)
        client.connect(("127.0.0.1", nbd.exports.port))
        client.sendall(struct.pack(">I", 3) + struct.pack(">QII", OPTION_MAGIC, 3, 0) * lists)
        wanted = 18 + lists * (20 + sum(20 + 4 + len(name) for name in names))
        while wanted > 0:
            taken = len(client.recv(min(wanted, MIB)))
            assert taken > 0
            wanted -= taken


def test_name_taken_twice_is_refused(nbd: RunningNbd, disk: ImageDisk) -> None:
    nbd.add(Export("point", disk))
    with pytest.raises(BadArgument, match="exported already"):
        nbd.add(Export("point", disk))


# --- TLS


def make_certificates(place: Path) -> Path:
    """An authority, a server's and a client's certificate, under the names that libnbd and QEMU look for."""

    def openssl(*arguments: object) -> None:
        run("openssl", *arguments)

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    authority = [place / "ca-cert.pem", place / "ca-key.pem"]
    extra = ["-addext", "basicConstraints=critical,CA:true", "-addext", "keyUsage=critical,keyCertSign"]
    openssl("req", "-x509", *key, *extra, "-subj", "/CN=ca", "-out", authority[0], "-keyout", authority[1])
    for name, usage in (("server", "serverAuth"), ("client", "clientAuth")):
        request = place / f"{name}.csr"
        openssl(
            "req", *key[:-2], "-subj", f"/CN={name}", "-out", request, "-keyout", place / f"{name}-key.pem"
        )
        names = place / f"{name}.ext"
        names.write_text(f"subjectAltName=IP:127.0.0.1\nextendedKeyUsage={usage}\n")
        signing = ["-CA", authority[0], "-CAkey", authority[1], "-CAcreateserial", "-days", "2"]
        openssl(
            "x509", "-req", "-in", request, *signing, "-extfile", names, "-out", place / f"{name}-cert.pem"
        )
    return place


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


def server_files(place: Path, *, is_mutual: bool = False) -> TlsFiles:
    authority = place / "ca-cert.pem" if is_mutual else None
    return TlsFiles(place / "server-cert.pem", place / "server-key.pem", authority)


def qemu_image(nbd: RunningNbd, certificates: Path) -> str:
    return (
        f"driver=raw,file.driver=nbd,file.host=127.0.0.1,file.port={nbd.exports.port},file.export=point,"
        "file.tls-creds=tls"
    )


def test_tls_serves_libnbd_and_qemu(
    start_nbd: Callable[..., RunningNbd], disk: ImageDisk, image: Path, certificates: Path, tmp_path: Path
) -> None:
    nbd = start_nbd(tls=server_files(certificates))
    url = nbd.add(Export("point", disk, is_writable=True))
    assert url.startswith("nbds://")
    trusted = f"{url}?tls-certificates={certificates}"
    assert json.loads(run("nbdinfo", "--no-content", "--json", trusted).stdout)["TLS"]
    copy = tmp_path / "copy.raw"
    run("nbdcopy", "--connections=2", trusted, copy)
    assert copy.read_bytes() == image.read_bytes()
    credentials = f"tls-creds-x509,id=tls,dir={certificates},endpoint=client"
    place = qemu_image(nbd, certificates)
    run("qemu-io", "--object", credentials, "--image-opts", "-c", "write -P 5 3000 90000", place)
    assert image.read_bytes()[3000:93000] == b"\x05" * 90000
    compare = ["qemu-img", "compare", "--object", credentials, "--image-opts", place]
    done = run(*compare, f"driver=raw,file.driver=file,file.filename={image}")
    assert done.stdout == "Images are identical.\n"


def test_tls_that_is_required_is_not_gone_round(
    start_nbd: Callable[..., RunningNbd], disk: ImageDisk, certificates: Path
) -> None:
    nbd = start_nbd(tls=server_files(certificates))
    url = nbd.add(Export("point", disk))
    plain = run("nbdinfo", "--no-content", url.replace("nbds://", "nbd://"), check=False)
    assert plain.returncode != 0
    assert "export-size" not in plain.stdout
    listed = run("nbdinfo", "--list", f"nbd://127.0.0.1:{nbd.exports.port}", check=False)
    assert "point" not in listed.stdout


def test_tls_that_is_offered_serves_plain_clients_too(
    start_nbd: Callable[..., RunningNbd], disk: ImageDisk, certificates: Path
) -> None:
    nbd = start_nbd(tls=server_files(certificates), is_plain_allowed=True)
    url = nbd.add(Export("point", disk))
    for address, is_tls in (
        (f"{url}?tls-certificates={certificates}", True),
        (url.replace("nbds", "nbd"), False),
    ):
        assert json.loads(run("nbdinfo", "--no-content", "--json", address).stdout)["TLS"] is is_tls


def test_tls_with_client_certificates_refuses_others(
    start_nbd: Callable[..., RunningNbd], disk: ImageDisk, certificates: Path, tmp_path: Path
) -> None:
    nbd = start_nbd(tls=server_files(certificates, is_mutual=True))
    url = nbd.add(Export("point", disk))
    assert run("nbdinfo", "--no-content", f"{url}?tls-certificates={certificates}").returncode == 0
    stranger = tmp_path / "stranger"
    stranger.mkdir()
    stranger.joinpath("ca-cert.pem").write_bytes(certificates.joinpath("ca-cert.pem").read_bytes())
    assert run("nbdinfo", "--no-content", f"{url}?tls-certificates={stranger}", check=False).returncode != 0


def test_tls_files_that_do_not_fit_are_named(
    start_nbd: Callable[..., RunningNbd], certificates: Path, tmp_path: Path
) -> None:
    with pytest.raises(BadArgument, match=r"missing\.pem cannot be read"):
        serve_once(TlsFiles(tmp_path / "missing.pem", certificates / "server-key.pem"))
    with pytest.raises(BadArgument, match="cannot be used"):
        serve_once(TlsFiles(certificates / "server-cert.pem", certificates / "client-key.pem"))


def serve_once(tls: TlsFiles) -> None:
    async def serve() -> None:
        async with serve_nbd(NbdAddress("127.0.0.1", 0, tls)):
            pass

    trio.run(serve)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1", "127.0.0.1", 10809),
        ("127.0.0.1:7", "127.0.0.1", 7),
        ("::1", "::1", 10809),
        ("[::1]:7", "::1", 7),
    ],
)
def test_address_is_read(text: str, host: str, port: int) -> None:
    assert parse_nbd_address(text) == (host, port)


@pytest.mark.parametrize("text", ["", "host", "127.0.0.1:x", "127.0.0.1:70000", "[::1", "127.0.0.1:-1"])
def test_bad_address_is_refused(text: str) -> None:
    with pytest.raises(BadArgument):
        parse_nbd_address(text)
