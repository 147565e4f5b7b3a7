"""`vdr store points`: list the points of a storage."""

import argparse
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from vdrd.cli.output import JSON_ANSWER, bytes_text, print_table
from vdrd.cli.storage_access import ID_DIGITS, add_storage_arguments, open_storage, point_document
from vdrd.model.errors import Damaged, ExitCode
from vdrd.model.locks import PointLock, text_of
from vdrd.model.points import Point

if TYPE_CHECKING:
    from vdrd.store import Storage

NAME = "points"
HELP = "list restore points, oldest first"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("--object", metavar="NAME", help="only those of this object")


def run(args: argparse.Namespace) -> int:
    """List them; damaged ones are told on stderr."""
    with open_storage(args) as storage:
        points = storage.points(args.object)
        damages = storage.damaged_points()
        locks = _locks_of(storage)
    for damage in damages:
        print(f"warning: {damage.message}", file=sys.stderr)
    if args.json:
        JSON_ANSWER.print([{**point_document(point), **_lock_fields(point, locks)} for point in points])
    else:
        rows = [
            (
                point.point_id[:ID_DIGITS],
                point.draft.object_name,
                point.draft.kind.value,
                point.time.astimezone().isoformat(sep=" ", timespec="seconds"),
                bytes_text(point.draft.logical_bytes),
                bytes_text(point.draft.new_bytes),
                bytes_text(point.draft.stored_bytes),
                (point.draft.parent_id or "-")[:ID_DIGITS],
                _lock_text(locks.get(point.point_id)),
            )
            for point in points
        ]
        heads = ("ID", "OBJECT", "KIND", "TIME", "SIZE", "NEW", "STORED", "PARENT", "LOCKED")
        print_table(heads, rows, right=("SIZE", "NEW", "STORED"))
    return ExitCode.WARNINGS if damages else ExitCode.DONE


def _locks_of(storage: "Storage") -> dict[str, PointLock]:
    """Those in force. What cannot be read is told by `vdr store lock DIR`; the list of points is whole."""
    with suppress(Damaged):
        now = storage.guard.time().now
        return {name: lock for name, lock in storage.guard.locks().locks.items() if lock.is_in_force(now)}
    return {}


def _lock_fields(point: Point, locks: dict[str, PointLock]) -> dict[str, Any]:
    lock = locks.get(point.point_id, PointLock())
    return {
        "locked_until": text_of(lock.until) if lock.until else None,
        "is_held": lock.is_held or bool(lock.damage),
    }


def _lock_text(lock: PointLock | None) -> str:
    if lock is None:
        return "-"
    return "held" if lock.is_held or lock.damage or lock.until is None else text_of(lock.until)
