"""`vdr store forget`: remove points."""

import argparse

from vdrd.cli.output import JSON_ANSWER
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode

NAME = "forget"
HELP = "remove points; the next collect frees their space"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("points", metavar="POINT", nargs="+", help="which ones")


def run(args: argparse.Namespace) -> int:
    """Remove all of them, or none when one is not there."""
    with open_storage(args, writable=True) as storage:
        names = storage.forget(args.points)
    if args.json:
        JSON_ANSWER.print({"forgotten": names})
    else:
        print("\n".join(f"forgot point {name}" for name in names))
    return ExitCode.DONE
