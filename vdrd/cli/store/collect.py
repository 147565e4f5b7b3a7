"""`vdr store collect`: free the space that no point uses."""

import argparse
import re
import sys
import time
from dataclasses import asdict

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode
from vdrd.model.rate import RateLimit

NAME = "collect"
HELP = "free the space that no point uses"

_UNITS = {"": 0, "K": 10, "M": 20, "G": 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument(
        "--rate",
        metavar="BYTES",
        type=rate_argument,
        help="bytes to read and write a second at most, such as 50M; default: no limit",
    )


def rate_argument(text: str) -> int:
    """For argparse: bytes, with K, M or G for powers of 1024."""
    match = re.fullmatch(r"([1-9]\d{0,14})([KMG]?)", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"{text} is no number of bytes; write 50M")
    return int(match.group(1)) << _UNITS[match.group(2)]


def run(args: argparse.Namespace) -> int:
    """Collect and tell."""
    began = time.monotonic()
    with open_storage(args, writable=True) as storage, ProgressLine() as line:
        report = storage.collect(rate=RateLimit(args.rate), progress=line)
    seconds = time.monotonic() - began
    if args.json:
        JSON_ANSWER.print({**asdict(report), "seconds": round(seconds, 3)})
    else:
        print(
            f"freed {bytes_text(report.freed_bytes)}: removed {report.removed_packs} packs, wrote"
            f" {report.rewritten_packs} again ({bytes_text(report.moved_bytes)} moved)."
            f" {bytes_text(report.dead_bytes)} dead in packs that stay. took {seconds_text(seconds)}"
        )
        if report.deferred_packs:
            print(f"{report.deferred_packs} packs are in use and wait for the next collect")
        if report.locked_packs:
            print(f"{report.locked_packs} packs stay as they are: a locked point has chunks there")
    if report.damaged_packs:
        print(f"{report.damaged_packs} packs stay as they are: not all in them can be read", file=sys.stderr)
        return ExitCode.WARNINGS
    return ExitCode.DONE
