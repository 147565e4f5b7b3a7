"""`vdr store backup`: back up a disk or a directory into a storage, without any server."""

import argparse
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from vdrd.cli.changed_blocks import read_changed_blocks
from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage, path_argument, point_document
from vdrd.model.errors import BadInput, ExitCode
from vdrd.model.extents import Extent
from vdrd.model.points import (
    DOMAIN_MAX,
    OBJECT_NAME_CHARACTERS_MAX,
    DiskRoot,
    FilesRoot,
    ObjectKind,
    Point,
    PointDraft,
)
from vdrd.model.progress import Cancel

if TYPE_CHECKING:
    from vdrd.store import Storage, WriteSession

NAME = "backup"
HELP = "back up a disk, an image or a directory"


@dataclass
class _Hint:
    """What is said to have changed, and what became of that."""

    changed: list[Extent] | None
    notes: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("kind", choices=[kind.value for kind in ObjectKind], help="what PATH is")
    parser.add_argument(
        "path", metavar="PATH", type=path_argument, help="image file, block device or directory"
    )
    parser.add_argument("--object", metavar="NAME", required=True, help="what its points are called")
    parser.add_argument(
        "--full", action="store_true", help="read everything, trust nothing of the last point"
    )
    parser.add_argument("--include", metavar="G", action="append", default=[], help="files: only these")
    parser.add_argument("--exclude", metavar="G", action="append", default=[], help="files: not these")
    parser.add_argument(
        "--changed-blocks",
        metavar="FILE",
        type=path_argument,
        help="disk: JSON list of [offset, length] in bytes, all that changed since the last point",
    )
    parser.add_argument(
        "--domain", metavar="N", type=_domain, default=0, help="key domain that nothing is shared across, 0"
    )
    crossing = parser.add_mutually_exclusive_group()
    crossing.add_argument(
        "--one-file-system", action="store_true", help="files: leave mount points out without a warning"
    )
    crossing.add_argument(
        "--cross-file-systems", action="store_true", help="files: enter what is mounted below PATH"
    )


def _domain(text: str) -> int:
    if text.isdecimal() and int(text) <= DOMAIN_MAX:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be a number up to {DOMAIN_MAX}, not {text}")


def run(args: argparse.Namespace) -> int:
    """Back up, commit, tell."""
    kind = ObjectKind(args.kind)
    if kind is ObjectKind.DISK and (args.include or args.exclude):
        raise BadInput(what="--include and --exclude are for files, not for a disk")
    if args.changed_blocks and kind is ObjectKind.FILES:
        raise BadInput(what="--changed-blocks is for a disk, not for files")
    if args.changed_blocks and args.full:
        raise BadInput(what="--full reads everything; it does not go with --changed-blocks")
    if not args.object.strip() or "@" in args.object:
        raise BadInput(what="an object's name must not be empty or contain '@'")
    if not args.object.isprintable():
        raise BadInput(what=f"an object's name must be printable text, not {args.object!r}")
    if len(args.object) > OBJECT_NAME_CHARACTERS_MAX:
        raise BadInput(what=f"an object's name has at most {OBJECT_NAME_CHARACTERS_MAX} characters")
    if kind is ObjectKind.DISK and args.path.is_dir():
        raise BadInput(what=f"{args.path} is a directory, not a disk; back it up as: files {args.path}")
    hint = _Hint(read_changed_blocks(args.changed_blocks) if args.changed_blocks else None)
    began = time.monotonic()
    with open_storage(args, writable=True) as storage, _session(storage, args) as session:
        parents = [
            point
            for point in storage.points(args.object)
            if (point.draft.kind, point.draft.domain) == (kind, args.domain)
        ]
        # A full run over files still compares with the point before, so that it stores nothing twice.
        is_fresh = args.full and kind is ObjectKind.DISK
        parent = parents[-1] if parents and not is_fresh else None
        # What is unchanged is not claimed again, so the point before must not be collected meanwhile.
        with ProgressLine() as line, storage.hold(parent) if parent else nullcontext():
            if kind is ObjectKind.DISK:
                draft = _back_up_disk(args, storage, session, parent, line, hint=hint)
            else:
                draft = _back_up_files(args, storage, session, parent, line)
        point = session.commit(draft)
    _tell(args, point, hint.notes, time.monotonic() - began)
    return ExitCode.WARNINGS if point.draft.warning_count else ExitCode.DONE


def _session(storage: "Storage", args: argparse.Namespace) -> "WriteSession":
    # It need not check what this very process has just hashed; a full run proves what it does not send.
    return storage.session(check=False, domain=args.domain, proves=args.full)


def _back_up_disk(
    args: argparse.Namespace,
    storage: "Storage",
    session: "WriteSession",
    parent: Point | None,
    line: ProgressLine,
    *,
    hint: _Hint,
) -> PointDraft:
    from vdrd.disk.backup import backup_disk

    root = parent.draft.root if parent else None
    changed = hint.changed
    if changed is not None and parent is not None and storage.damaged_after(parent):
        # The list tells what changed since a point that cannot be read, not since this one.
        changed = None
        hint.notes.append("a newer point is damaged, so the whole disk was read and compared")
    if changed is not None and parent is not None and storage.lacking(parent):
        # Only what is read can be stored again.
        changed = None
        hint.notes.append("the storage has lost chunks of the point before, so the whole disk was read")
    if changed is not None and parent is not None and storage.lacking(parent):
        changed = None
        hint.notes.append("the last point is damaged, so the whole disk was read and compared")
    return backup_disk(
        args.path,
        session,
        object_name=args.object,
        changed=changed,
        parent=root if isinstance(root, DiskRoot) else None,
        parent_source=storage.reader_of(args.domain),
        parent_id=parent.point_id if parent else None,
        on_note=hint.notes.append,
        progress=line,
        cancel=Cancel(),
    )


def _back_up_files(
    args: argparse.Namespace,
    storage: "Storage",
    session: "WriteSession",
    parent: Point | None,
    line: ProgressLine,
) -> PointDraft:
    from vdrd.files.backup import backup_files

    root = parent.draft.root if parent else None
    return backup_files(
        args.path,
        session,
        object_name=args.object,
        include=args.include,
        exclude=args.exclude,
        parent=root if isinstance(root, FilesRoot) else None,
        parent_source=storage.reader_of(args.domain),
        parent_id=parent.point_id if parent else None,
        full=args.full,
        lacking=lambda: storage.lacking(parent) if parent else frozenset(),
        progress=line,
        cancel=Cancel(),
        skip_directories=[storage.path],
        crosses_file_systems=args.cross_file_systems,
        is_uncrossed_quiet=args.one_file_system,
    )


def _tell(args: argparse.Namespace, point: Point, notes: list[str], seconds: float) -> None:
    draft = point.draft
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    for warning in draft.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if draft.warning_count > len(draft.warnings):
        print(f"warning: {draft.warning_count - len(draft.warnings)} more", file=sys.stderr)
    if args.json:
        answer = point_document(point)
        answer |= {
            "read_bytes": draft.read_bytes,
            "seconds": round(seconds, 3),
            "warnings": list(draft.warnings),
            "notes": notes,
        }
        JSON_ANSWER.print(answer)
        return
    print(
        f"point {point.point_id}: {bytes_text(draft.logical_bytes)}, read {bytes_text(draft.read_bytes)},"
        f" new {bytes_text(draft.new_bytes)}, stored {bytes_text(draft.stored_bytes)},"
        f" in {seconds_text(seconds)}"
    )
