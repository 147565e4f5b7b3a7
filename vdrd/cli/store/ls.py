"""`vdr store ls`: the files of a point, those within a disk too, without any server."""

import argparse
import fnmatch
import stat
import sys
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode
from vdrd.model.points import DiskRoot, FilesRoot
from vdrd.model.progress import Cancel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from vdrd.disk.browse_messages import VolumeShown
    from vdrd.files.entry import Entry
    from vdrd.store.reader import ChunkReader

NAME = "ls"
HELP = "list the files of a point"
_NS = 1_000_000_000
_FOUND_MAX = 10_000
_TYPE_BITS = {1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFLNK, 4: stat.S_IFIFO, 5: stat.S_IFSOCK}
_TYPE_BITS |= {6: stat.S_IFCHR, 7: stat.S_IFBLK}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("point", metavar="POINT", help="id, a unique beginning of it, or OBJECT@latest")
    parser.add_argument(
        "path",
        metavar="PATH",
        nargs="?",
        default="",
        help="directory or file; of a disk beneath a volume",
    )
    parser.add_argument(
        "--find", metavar="GLOB", help=f"instead: all beneath PATH whose name fits, at most {_FOUND_MAX}"
    )


def run(args: argparse.Namespace) -> int:
    """List one directory, or the one file at PATH. Of a disk: volumes are the folders at the top."""
    with open_storage(args) as storage:
        draft = storage.point(args.point).draft
        root, reader = draft.root, storage.reader_of(draft.domain)
        if isinstance(root, DiskRoot):
            return _list_disk(args, reader, root)
        return _list_files(args, reader, root)


def _list_files(args: argparse.Namespace, reader: "ChunkReader", root: FilesRoot) -> int:
    from vdrd.files.browse import FileTree

    tree = FileTree(root, reader)
    owners = Owners(tree.head.users, tree.head.groups)
    entries = _found(tree.subtree(args.path), args.find) if args.find else tree.list(args.path)
    if args.json:
        JSON_ANSWER.print([_document(entry, owners) for entry in entries])
    else:
        for entry in entries:
            sys.stdout.write(_line(entry, owners) + "\n")
    return ExitCode.DONE


def _list_disk(args: argparse.Namespace, reader: "ChunkReader", root: DiskRoot) -> int:
    from vdrd.disk.source import NativeDisk
    from vdrd.jobs.disk_files import DiskFiles, Warnings

    owners = Owners({}, {})
    with NativeDisk(reader.open_disk(root)) as disk, DiskFiles(disk) as files:
        volumes = {volume.name: volume for volume in files.volumes()}
        documents = []
        entries = files.entries(args.path)
        warnings = Warnings()
        if args.find:
            entries = files.search(args.path, args.find, limit=_FOUND_MAX, cancel=Cancel(), warnings=warnings)
        for entry in entries:
            volume = volumes.get(entry.path.decode("utf-8", "backslashreplace"))
            if args.json:
                document = _document(entry, owners)
                documents.append(document | {"volume": _volume_document(volume)} if volume else document)
            else:
                sys.stdout.write(_line(entry, owners) + (_volume_text(volume) if volume else "") + "\n")
        if args.json:
            JSON_ANSWER.print(documents)
    for warning in warnings.first:
        print(f"warning: {warning}", file=sys.stderr)
    return ExitCode.WARNINGS if warnings.count else ExitCode.DONE


def _found(entries: "Iterator[Entry]", pattern: str) -> "Iterator[Entry]":
    wanted = pattern.encode("utf-8", "surrogateescape")
    return islice((one for one in entries if fnmatch.fnmatchcase(one.name, wanted)), _FOUND_MAX)


class Owners(NamedTuple):
    """Names of owners, so far as the point knows them."""

    users: dict[int, str]
    groups: dict[int, str]


def _volume_text(volume: "VolumeShown") -> str:
    """What stands behind the name of a volume's folder."""
    known = [volume.holds or "unknown", bytes_text(volume.size_bytes), volume.label, volume.problem]
    return f"  [{', '.join(part for part in known if part)}]"


def _volume_document(volume: "VolumeShown") -> dict[str, Any]:
    return {
        "name": volume.name,
        "size_bytes": volume.size_bytes,
        "holds": volume.holds,
        "label": volume.label,
        "uuid": volume.uuid,
        "is_unclean": volume.is_unclean,
        "problem": volume.problem,
    }


def _line(entry: "Entry", owners: Owners) -> str:
    from vdrd.files.warnings import path_text

    owner = owners.users.get(entry.uid, str(entry.uid))
    group = owners.groups.get(entry.gid, str(entry.gid))
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


def _document(entry: "Entry", owners: Owners) -> dict[str, Any]:
    document: dict[str, Any] = {
        "path": entry.path.decode("utf-8", "backslashreplace"),
        "type": entry.type.name.lower(),
        "mode": f"{entry.mode:04o}",
        "uid": entry.uid,
        "gid": entry.gid,
        "user": owners.users.get(entry.uid),
        "group": owners.groups.get(entry.gid),
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
