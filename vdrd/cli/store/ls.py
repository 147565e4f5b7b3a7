"""`vdr store ls`: what a point of files holds, without any server."""

import argparse
import stat
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from vdrd.cli.output import JSON_ANSWER
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import BadInput, ExitCode
from vdrd.model.points import FilesRoot

if TYPE_CHECKING:
    from vdrd.files.entry import Entry
    from vdrd.formats.manifest import Head

NAME = "ls"
HELP = "list the files of a point"
_NS = 1_000_000_000
_TYPE_BITS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFLNK, 4: stat.S_IFIFO, 5: stat.S_IFSOCK}
_TYPE_BITS |= {6: stat.S_IFCHR, 7: stat.S_IFBLK}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("point", metavar="POINT", help="id, a unique beginning of it, or OBJECT@latest")
    parser.add_argument("path", metavar="PATH", nargs="?", default="", help="directory or file of the point")


def run(args: argparse.Namespace) -> int:
    """List one directory, or the one file at PATH."""
    from vdrd.files.browse import FileTree

    with open_storage(args) as storage:
        point = storage.point(args.point)
        root = point.draft.root
        if not isinstance(root, FilesRoot):
            raise BadInput(what=f"point {point.point_id} is a disk; ls is for points of files")
        tree = FileTree(root, storage.reader)
        entries = tree.list(args.path)
        if args.json:
            JSON_ANSWER.print([_document(entry, tree.head) for entry in entries])
        else:
            for entry in entries:
                sys.stdout.write(_line(entry, tree.head) + "\n")
    return ExitCode.DONE


def _line(entry: "Entry", head: "Head") -> str:
    from vdrd.files.warnings import path_text

    owner = head.users.get(entry.uid, str(entry.uid))
    group = head.groups.get(entry.gid, str(entry.gid))
    size = (
        ",".join(map(str, entry.node_device))
        if entry.type.name in {"CHARACTER", "BLOCK"}
        else entry.size_bytes
    )
    target = f" -> {path_text(entry.target)}" if entry.target else ""
    mode = stat.filemode(_TYPE_BITS[entry.type] | entry.mode)
    return f"{mode} {owner:<8} {group:<8} {size:>12} {_time(entry)} {path_text(entry.path)}{target}"


def _time(entry: "Entry") -> str:
    try:
        return datetime.fromtimestamp(entry.mtime_ns // _NS, UTC).strftime("%Y-%m-%d %H:%M:%S")
    except (ValueError, OverflowError):
        return f"@{entry.mtime_ns // _NS}"


def _document(entry: "Entry", head: "Head") -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": entry.path.decode("utf-8", "backslashreplace"),
        "type": entry.type.name.lower(),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": head.users.get(entry.uid),
        "group": head.groups.get(entry.gid),
        "size_bytes": entry.size_bytes,
        "mtime_ns": entry.mtime_ns,
    }
    if entry.target:
        document["target"] = entry.target.decode("utf-8", "backslashreplace")
    if not _is_text(entry.path):
        document["path_hex"] = entry.path.hex()
    if entry.link_count > 1:
        document["links"] = entry.link_count
    if entry.flags.name:
        document["flags"] = entry.flags.name.lower().split("|")
    return document


def _is_text(path: bytes) -> bool:
    try:
        path.decode()
    except UnicodeDecodeError:
        return False
    return True
