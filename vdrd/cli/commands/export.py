"""`vdr export`: points served as disks over NFS: instant recovery."""

import argparse

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.model.errors import ExitCode

NAME = "export"
HELP = "serve the disk of a point over NFS (instant recovery)"

run = run_act

_ID_DIGITS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    start = acts.add("start", _start, "serve a disk point and print its nfs:// address")
    start.add_argument("point", metavar="POINT", help="id, unique beginning of it, or OBJECT@latest")
    start.add_argument("--read-only", action="store_true", help="refuse writes (else they go to a cache)")
    acts.add("list", _list, "list what is served")
    stop = acts.add("stop", _stop, "stop serving; what was written over the point is discarded")
    stop.add_argument("export", metavar="EXPORT", help="id of the export or of its point")


def _start(rest: Rest, args: argparse.Namespace) -> int:
    export = rest.post("/exports", point_id=rest.point(args.point)["id"], is_writable=not args.read_only)
    print_row(args, export, export["url"])
    return ExitCode.DONE


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("ID", lambda row: row["id"][:_ID_DIGITS]),
        ("OBJECT", lambda row: row["object_name"]),
        ("STATE", lambda row: "serving" if row["is_online"] else "offline"),
        ("WRITTEN", lambda row: bytes_text(row["cache_bytes"]) if row["is_writable"] else "read-only"),
        ("SINCE", lambda row: moment(row["started_at"])),
        ("ADDRESS", lambda row: row["url"]),
    )
    print_rows(args, rest.rows("/exports"), columns, right=("WRITTEN",))
    return ExitCode.DONE


def _stop(rest: Rest, args: argparse.Namespace) -> int:
    export = rest.export(args.export)
    rest.delete(f"/exports/{export['id']}")
    if args.json:
        JSON_ANSWER.print({"id": export["id"]})
    return ExitCode.DONE
