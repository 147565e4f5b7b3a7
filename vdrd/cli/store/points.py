"""`vdr store points`: list the points of a storage."""

import argparse
import sys

from vdrd.cli.output import JSON_ANSWER, bytes_text, print_table
from vdrd.cli.storage_access import add_storage_arguments, open_storage, point_document
from vdrd.model.errors import ExitCode

NAME = "points"
HELP = "list restore points, oldest first"

_ID_DIGITS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("--object", metavar="NAME", help="only those of this object")


def run(args: argparse.Namespace) -> int:
    """List them; damaged ones are told on stderr."""
    with open_storage(args) as storage:
        points = storage.points(args.object)
        damages = storage.damaged_points()
    for damage in damages:
        print(f"warning: {damage.message}", file=sys.stderr)
    if args.json:
        JSON_ANSWER.print([point_document(point) for point in points])
    else:
        rows = [
            (
                point.point_id[:_ID_DIGITS],
                point.draft.object_name,
                point.draft.kind.value,
                point.time.astimezone().isoformat(sep=" ", timespec="seconds"),
                bytes_text(point.draft.logical_bytes),
                bytes_text(point.draft.new_bytes),
                bytes_text(point.draft.stored_bytes),
                (point.draft.parent_id or "-")[:_ID_DIGITS],
            )
            for point in points
        ]
        heads = ("ID", "OBJECT", "KIND", "TIME", "SIZE", "NEW", "STORED", "PARENT")
        print_table(heads, rows, right=("SIZE", "NEW", "STORED"))
    return ExitCode.WARNINGS if damages else ExitCode.DONE
