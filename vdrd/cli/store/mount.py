"""`vdr store mount`: a point as a directory, without any server."""

import argparse
import logging
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from vdrd.cli.storage_access import add_storage_arguments, open_storage, path_argument
from vdrd.model.errors import ExitCode
from vdrd.model.points import DiskRoot, Point

if TYPE_CHECKING:
    import pyfuse3

    from vdrd.store import Storage

NAME = "mount"
HELP = "mount a point as a directory, read-only: disk.raw, or its files"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser, json=False)
    parser.add_argument("point", metavar="POINT", help="id, a unique beginning of it, or OBJECT@latest")
    parser.add_argument("mountpoint", metavar="MOUNTPOINT", type=path_argument, help="an empty directory")


def run(args: argparse.Namespace) -> int:
    """Serve until SIGTERM, Ctrl-C, or somebody unmounts it."""
    import trio

    from fuse_nfs.mount import check_mountpoint

    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(levelname)s %(message)s")
    check_mountpoint(args.mountpoint)
    with ExitStack() as stack:
        storage = stack.enter_context(open_storage(args))
        point = storage.point(args.point)
        trio.run(_serve, _file_system(storage, point, stack), args.mountpoint, point.point_id)
    return ExitCode.DONE


async def _serve(operations: "pyfuse3.Operations", path: Path, point_id: str) -> None:
    import trio

    from fuse_nfs.mount import mounted

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as stops:
        async with mounted(operations, path) as ended, trio.open_nursery() as nursery:
            print(f"mounted {point_id} at {path}", flush=True)

            async def wait_for_signal() -> None:
                async for number in stops:
                    print(f"stopping: {signal.Signals(number).name}", file=sys.stderr)
                    break
                nursery.cancel_scope.cancel()

            nursery.start_soon(wait_for_signal)
            await ended.wait()
            nursery.cancel_scope.cancel()


def _file_system(storage: "Storage", point: Point, stack: ExitStack) -> "pyfuse3.Operations":
    root, reader = point.draft.root, storage.reader_of(point.draft.domain)
    if isinstance(root, DiskRoot):
        from fuse_nfs.disk_fs import DiskFileSystem
        from vdrd.disk.source import NativeDisk

        disk = stack.enter_context(NativeDisk(reader.open_disk(root)))
        return DiskFileSystem(disk, int(point.time.timestamp() * 1e9))
    from fuse_nfs.recent_chunks import RecentChunks
    from fuse_nfs.tree_fs import TreeFileSystem
    from vdrd.files.browse import FileTree

    tree = FileTree(root, RecentChunks(reader))
    return TreeFileSystem(tree, size_bytes=point.draft.logical_bytes, files=root.entry_count)
