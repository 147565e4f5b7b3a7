"""`vdr store export`: serve the disks of points over NFS and NBD, without any server."""

import argparse
import logging
import shutil
import signal
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from vdrd.cli.storage_access import add_storage_arguments, open_storage, size_argument
from vdrd.model.errors import BadInput, ExitCode, StorageUnwritable
from vdrd.model.points import DiskRoot, Point

if TYPE_CHECKING:
    from fuse_nfs.export import Export
    from fuse_nfs.listen import ListenAddress
    from fuse_nfs.nbd import NbdAddress
    from vdrd.disk.source import NativeDisk
    from vdrd.store import Storage

NAME = "export"
HELP = "serve the disks of points over NFS or NBD, to boot or mount them at once"

_PORT_MAX = 65535
_MEMORY_PART = 4
"""A quarter of the memory keeps blocks: what a machine reads again and again while it boots and runs."""
_CACHE_PARENT = Path("/var/tmp")
"""Not /tmp, which may be memory: a machine's writes can be many."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser, json=False)
    parser.add_argument(
        "points", metavar="POINT", nargs="+", help="id, a unique beginning of it, or OBJECT@latest"
    )
    parser.add_argument("--nfs", metavar="ADDRESS", help="IP address of this machine to listen on")
    parser.add_argument("--nbd", metavar="ADDRESS[:PORT]", help="the same for NBD; port 10809")
    parser.add_argument("--nfs-port", metavar="N", type=_port, default=2049, help="2049")
    parser.add_argument("--mount-port", metavar="N", type=_port, default=20048, help="20048")
    parser.add_argument(
        "--portmap-port", metavar="N|none", type=_port_or_none, default=111, help="111; QEMU needs it there"
    )
    parser.add_argument(
        "--cache", metavar="PATH", type=Path, help="directory that keeps what is written, from run to run"
    )
    parser.add_argument(
        "--cache-limit",
        metavar="SIZE",
        type=size_argument,
        default=0,
        help="most that is kept per disk: 20GiB",
    )
    parser.add_argument("--writable", action="store_true", help="take writes, beside the point")
    parser.add_argument(
        "--client",
        metavar="NETWORK",
        action="append",
        default=[],
        help="who may use it; default: this machine and the network of ADDRESS",
    )
    parser.add_argument(
        "--tls-certificate", metavar="FILE", type=Path, help="PEM with its chain: NBD clients must talk TLS"
    )
    parser.add_argument("--tls-key", metavar="FILE", type=Path, help="its key; default: in the same file")
    parser.add_argument(
        "--tls-client-ca", metavar="FILE", type=Path, help="authority that must have signed every client"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C."""
    import trio

    from fuse_nfs.clients import default_clients
    from fuse_nfs.export import parse_clients
    from fuse_nfs.session import opened_export
    from native.nfs import NETWORKS_MAX
    from vdrd.store.reader import serving_cache_bytes

    nfs, nbd = _listen_addresses(args)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    clients = parse_clients(args.client)
    if not clients:
        hosts = [address.host for address in (nfs, nbd) if address is not None]
        found = dict.fromkeys(network for host in hosts for network in default_clients(host))
        clients = tuple(found)[:NETWORKS_MAX]
    with ExitStack() as stack:
        cache_bytes = serving_cache_bytes(_MEMORY_PART)
        storage = stack.enter_context(open_storage(args, cache_bytes=cache_bytes))
        points = _disk_points(storage, args.points)
        cache = _cache_directory(args, stack) if args.writable else None
        exports = [
            stack.enter_context(
                opened_export(
                    stack.enter_context(_point_disk(storage, point)),
                    name=point.point_id,
                    identity=f"point {point.point_id}",
                    overlay_path=cache / point.point_id if cache else None,
                    clients=clients,
                    modified_ns=int(point.time.timestamp() * 1e9),
                    keys=storage.overlay_keys,
                    limit_bytes=args.cache_limit,
                )
            )
            for point in points
        ]
        trio.run(_serve, nfs, nbd, exports, cache)
    return ExitCode.DONE


def _listen_addresses(args: argparse.Namespace) -> "tuple[ListenAddress | None, NbdAddress | None]":
    """Where to listen for NFS and NBD. Raises BadInput."""
    from fuse_nfs.listen import ListenAddress
    from fuse_nfs.nbd import NbdAddress, parse_nbd_address
    from native.nbd import TlsFiles

    if args.nfs is None and args.nbd is None:
        raise BadInput(what="export needs an address to listen on: --nfs ADDRESS, --nbd ADDRESS:PORT or both")
    certificate = args.tls_certificate
    if certificate is None and (args.tls_key or args.tls_client_ca):
        raise BadInput(what="--tls-key and --tls-client-ca need --tls-certificate")
    if certificate is not None and args.nbd is None:
        raise BadInput(what="--tls-certificate needs --nbd: NFS has no TLS here")
    nfs = nbd = None
    if args.nfs is not None:
        nfs = ListenAddress(args.nfs, args.nfs_port, args.mount_port, args.portmap_port)
    if args.nbd is not None:
        files = certificate and TlsFiles(certificate, args.tls_key or certificate, args.tls_client_ca)
        nbd = NbdAddress(*parse_nbd_address(args.nbd), tls=files)
    return nfs, nbd


async def _serve(
    nfs: "ListenAddress | None", nbd: "NbdAddress | None", exports: "list[Export]", cache: Path | None
) -> None:
    import trio

    from fuse_nfs.nbd import serve_nbd
    from fuse_nfs.server import serve_exports

    async with AsyncExitStack() as stack:
        stops = stack.enter_context(trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT))
        nfs_server = nbd_server = None
        if nfs is not None:
            nfs_server = await stack.enter_async_context(serve_exports(nfs, space_path=cache))
        if nbd is not None:
            nbd_server = await stack.enter_async_context(serve_nbd(nbd))
        for export in exports:
            if nfs_server:
                print(nfs_server.add(export), flush=True)
                print(f"on Linux: {nfs_server.mount_command(export.name)}", file=sys.stderr, flush=True)
            if nbd_server:
                print(nbd_server.add(export), flush=True)
        async for number in stops:
            print(f"stopping: {signal.Signals(number).name}", file=sys.stderr)
            return


def _disk_points(storage: "Storage", references: list[str]) -> list[Point]:
    """Points in the order given, each once. Raises BadInput for one that is no disk."""
    found: dict[str, Point] = {}
    for reference in references:
        point = storage.point(reference)
        if not isinstance(point.draft.root, DiskRoot):
            raise BadInput(what=f"point {point.point_id} is of files; mount it with: vdr store mount")
        found[point.point_id] = point
    return list(found.values())


def _point_disk(storage: "Storage", point: Point) -> "NativeDisk":
    from vdrd.disk.source import NativeDisk

    assert isinstance(point.draft.root, DiskRoot)
    return NativeDisk(storage.reader_of(point.draft.domain).open_disk(point.draft.root))


def _cache_directory(args: argparse.Namespace, stack: ExitStack) -> Path:
    """Where overlays are kept: what the user named, or a directory for this run only."""
    if args.cache is not None:
        try:
            args.cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageUnwritable(path=args.cache, reason=(error.strerror or "error").lower()) from error
        cache: Path = args.cache
        return cache
    made = Path(tempfile.mkdtemp(prefix="vdr-export-", dir=_CACHE_PARENT))
    stack.callback(shutil.rmtree, made, ignore_errors=True)
    print(f"writes are kept in {made} until this ends; --cache PATH keeps them", file=sys.stderr)
    return made


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= _PORT_MAX:
        raise argparse.ArgumentTypeError(f"{text} is not a port")
    return number


def _port_or_none(text: str) -> int | None:
    return None if text == "none" else _port(text)
