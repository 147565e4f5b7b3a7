"""`vdr store collect`: free the space that no point uses."""

import argparse
import time
from dataclasses import asdict

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode

NAME = "collect"
HELP = "free the space that no point uses"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Collect and tell."""
    began = time.monotonic()
    with open_storage(args, writable=True) as storage, ProgressLine() as line:
        report = storage.collect(progress=line)
    seconds = time.monotonic() - began
    if args.json:
        JSON_ANSWER.print({**asdict(report), "seconds": round(seconds, 3)})
        return ExitCode.DONE
    print(
        f"freed {bytes_text(report.freed_bytes)}: removed {report.removed_packs} packs, wrote"
        f" {report.rewritten_packs} again ({bytes_text(report.moved_bytes)} moved) in {seconds_text(seconds)}"
    )
    if report.deferred_packs:
        print(f"{report.deferred_packs} packs are in use and wait for the next collect")
    return ExitCode.DONE
