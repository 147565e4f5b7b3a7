"""`vdr point`: states to go back to."""

import argparse

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, moment, print_rows, run_act
from vdrd.cli.watch import add_wait, started
from vdrd.model.errors import ExitCode

NAME = "point"
HELP = "list, browse, verify and forget restore points"

run = run_act

_ID_DIGITS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    listing = acts.add("list", _list, "list points, newest first")
    listing.add_argument("--host", metavar="HOST")
    listing.add_argument("--object", metavar="NAME")
    listing.add_argument("--storage", metavar="STORAGE")
    listing.add_argument("--limit", metavar="N", type=int, default=50, help="at most so many (50)")
    acts.add("show", _show, "show a point as JSON").add_argument("point", metavar="POINT")
    browse = acts.add("ls", _ls, "list a directory of a file point")
    browse.add_argument("point", metavar="POINT")
    browse.add_argument("path", metavar="PATH", nargs="?", default="/")
    verify = acts.add("verify", _verify, "read a point back and check it")
    verify.add_argument("point", metavar="POINT")
    add_wait(verify)
    acts.add("forget", _forget, "forget points for good").add_argument("points", metavar="POINT", nargs="+")


def _list(rest: Rest, args: argparse.Namespace) -> int:
    rows = rest.rows(
        "/points",
        limit=args.limit,
        host_id=rest.find("host", args.host)["id"] if args.host else None,
        storage_id=rest.find("storage", args.storage)["id"] if args.storage else None,
        object_name=args.object,
    )
    columns = (
        ("ID", lambda row: row["id"][:_ID_DIGITS]),
        ("OBJECT", lambda row: row["object_name"]),
        ("KIND", lambda row: row["kind"]),
        ("TIME", lambda row: moment(row["time"])),
        ("SIZE", lambda row: bytes_text(row["logical_bytes"])),
        ("NEW", lambda row: bytes_text(row["new_bytes"])),
        ("STORED", lambda row: bytes_text(row["stored_bytes"])),
        ("VERIFIED", lambda row: {None: "-", True: "yes", False: "DAMAGED"}[row["verified_ok"]]),
    )
    print_rows(args, rows, columns, right=("SIZE", "NEW", "STORED"))
    return ExitCode.DONE


def _show(rest: Rest, args: argparse.Namespace) -> int:
    JSON_ANSWER.print(rest.point(args.point))
    return ExitCode.DONE


def _ls(rest: Rest, args: argparse.Namespace) -> int:
    rows = rest.rows(f"/points/{rest.point(args.point)['id']}/files", path=args.path)
    columns = (
        ("KIND", lambda row: row["kind"]),
        ("MODE", lambda row: f"{row['mode']:04o}"),
        ("SIZE", lambda row: bytes_text(row["size_bytes"]) if row["kind"] == "file" else "-"),
        ("CHANGED", lambda row: moment(row["modified_at"])),
        ("NAME", lambda row: f"{row['name']} -> {row['link_target']}" if row["link_target"] else row["name"]),
    )
    print_rows(args, rows, columns, right=("SIZE",))
    return ExitCode.DONE


def _verify(rest: Rest, args: argparse.Namespace) -> int:
    return started(rest, args, rest.post(f"/points/{rest.point(args.point)['id']}/verify"))


def _forget(rest: Rest, args: argparse.Namespace) -> int:
    reply = rest.post("/points/forget", ids=[rest.point(text)["id"] for text in args.points])
    if args.json:
        JSON_ANSWER.print(reply)
    else:
        print(f"{len(reply['forgotten_ids'])} points forgotten. to free their space: vdr storage collect")
    return ExitCode.DONE
