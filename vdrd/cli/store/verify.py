"""`vdr store verify`: check that what is stored is what was written."""

import argparse
import sys
import time
from dataclasses import asdict

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode

NAME = "verify"
HELP = "check points, or the whole storage"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("points", metavar="POINT", nargs="*", help="only these; default: everything there is")
    parser.add_argument("--read-data", action="store_true", help="read every byte, not only the structure")


def run(args: argparse.Namespace) -> int:
    """Check and tell; exit code 7 when anything is damaged."""
    began = time.monotonic()
    with open_storage(args) as storage, ProgressLine() as line:
        report = storage.verify(args.points or None, read_data=args.read_data, progress=line)
    seconds = time.monotonic() - began
    if args.json:
        JSON_ANSWER.print({**asdict(report), "seconds": round(seconds, 3)})
    else:
        for damage in report.damages:
            print(f"damaged: {damage.what}: {damage.reason}")
        for point_id in report.affected_points:
            print(f"cannot be restored whole: point {point_id}")
        print(
            f"{report.points} points, {report.chunks} chunks, {report.packs} packs,"
            f" {bytes_text(report.read_bytes)} read in {seconds_text(seconds)}:"
            f" {len(report.damages) or 'no'} damage{'s' if len(report.damages) > 1 else ''}"
        )
    if report.damages:
        print("vdr: damage found. points not named above are whole", file=sys.stderr)
        return ExitCode.DAMAGED
    return ExitCode.DONE
