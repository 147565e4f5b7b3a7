"""`vdr store stats`: where the space of a storage goes, counted exactly."""

import argparse
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vdrd.cli.output import JSON_ANSWER, bytes_text, print_table, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import ID_DIGITS, add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode, NotFound
from vdrd.model.locks import text_of

if TYPE_CHECKING:
    from vdrd.store.census import Census

NAME = "stats"
HELP = "count what objects and points take, share, and would free"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("--object", metavar="NAME", help="this object alone, and each of its points")


def run(args: argparse.Namespace) -> int:
    """Walk, count, tell."""
    began = time.monotonic()
    with open_storage(args) as storage, ProgressLine() as line:
        if args.object is not None and not storage.points(args.object):
            raise NotFound(what="object", name=args.object)
        census = storage.census(args.object, progress=line)
    seconds = time.monotonic() - began
    if args.json:
        JSON_ANSWER.print({**_document(census), "seconds": round(seconds, 3)})
    else:
        _print(census, seconds)
    if census.damage_count:
        print(
            f"warning: {census.damage_count} points or chunks cannot be read and are left out."
            " run: vdr store verify DIR",
            file=sys.stderr,
        )
    return ExitCode.WARNINGS if census.damage_count else ExitCode.DONE


def _document(census: "Census") -> dict[str, Any]:
    names = ("point_count", "logical_bytes", "live_bytes", "dead_bytes", "stored_bytes", "pack_count")
    document: dict[str, Any] = {name: getattr(census, name) for name in names}
    document["damage_count"] = census.damage_count
    document["objects"] = [asdict(figures) for figures in census.objects]
    document["points"] = [
        {
            "id": figures.point.point_id,
            "time": text_of(figures.point.time),
            "logical_bytes": figures.point.draft.logical_bytes,
            "new_bytes": figures.point.draft.new_bytes,
            "freed_bytes": figures.freed_bytes,
        }
        for figures in census.points
    ]
    return document


def _print(census: "Census", seconds: float) -> None:
    rows = [
        (
            figures.name,
            figures.point_count,
            bytes_text(figures.logical_bytes),
            bytes_text(figures.unique_bytes),
            bytes_text(figures.shared_bytes),
        )
        for figures in census.objects
    ]
    heads = ("OBJECT", "POINTS", "LOGICAL", "UNIQUE", "SHARED")
    print_table(heads, rows, right=heads[1:])
    if census.points:
        print()
        print_table(
            ("POINT", "TIME", "SIZE", "NEW", "WOULD FREE"),
            [
                (
                    figures.point.point_id[:ID_DIGITS],
                    figures.point.time.astimezone().isoformat(sep=" ", timespec="seconds"),
                    bytes_text(figures.point.draft.logical_bytes),
                    bytes_text(figures.point.draft.new_bytes),
                    bytes_text(figures.freed_bytes),
                )
                for figures in census.points
            ],
            right=("SIZE", "NEW", "WOULD FREE"),
        )
    print(
        f"\nthe storage: {census.point_count} points of {bytes_text(census.logical_bytes)},"
        f" {bytes_text(census.stored_bytes)} in {census.pack_count} packs:"
        f" {bytes_text(census.live_bytes)} alive, {bytes_text(census.dead_bytes)} dead."
        f" counted in {seconds_text(seconds)}"
    )
