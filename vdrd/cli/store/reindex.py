"""`vdr store reindex`: make the index and the live counts again from the packs."""

import argparse
import sys
import time

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, with_prompt
from vdrd.model.errors import ExitCode

NAME = "reindex"
HELP = "make the index again from the packs"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Read all packs' tables, write the index, count what is alive, tell."""
    from vdrd.store import Storage

    began = time.monotonic()
    storage = with_prompt(
        args, lambda key: Storage.open(args.directory, key=key, writable=True, reindex=True)
    )
    with storage, ProgressLine() as line:
        live_bytes = storage.recount(progress=line)
        statistics = storage.statistics()
        damages = [str(damage) for damage in storage.damages_at_open()]
    seconds = time.monotonic() - began
    for damage in damages:
        print(f"warning: {damage}", file=sys.stderr)
    if live_bytes is None:
        print("warning: not all points can be read, so what is alive is unknown", file=sys.stderr)
    if args.json:
        JSON_ANSWER.print(
            {
                "points": statistics.point_count,
                "packs": statistics.pack_count,
                "chunks": statistics.chunk_count,
                "stored_bytes": statistics.stored_bytes,
                "live_bytes": live_bytes,
                "damages": damages,
                "seconds": round(seconds, 3),
            }
        )
    else:
        print(
            f"indexed {statistics.chunk_count} chunks in {statistics.pack_count} packs,"
            f" {bytes_text(statistics.stored_bytes)}, {bytes_text(live_bytes)} of it alive,"
            f" in {seconds_text(seconds)}"
        )
    return ExitCode.WARNINGS if damages or live_bytes is None else ExitCode.DONE
