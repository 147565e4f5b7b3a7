"""`vdr point`: states to go back to."""

import argparse

from vdrd.cli.moments import moment_argument
from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import Rest, Row
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
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
    lock = acts.add("lock", _lock, "keep a point from being removed")
    lock.add_argument("point", metavar="POINT")
    what = lock.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "--until",
        metavar="TIME",
        type=moment_argument,
        help="RFC 3339, or a date for the end of that day, UTC; a lock is only ever extended",
    )
    what.add_argument("--hold", action="store_true", help="legal hold: it stays until it is released")
    what.add_argument("--release-hold", action="store_true", help="end the legal hold; a lock goes on")
    acts.add("forget", _forget, "forget points for good").add_argument("points", metavar="POINT", nargs="+")


def _locked_text(row: Row) -> str:
    return "held" if row["is_held"] else moment(row["locked_until"])


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
        ("LOCKED", _locked_text),
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


def _lock(rest: Rest, args: argparse.Namespace) -> int:
    wish = {"until": args.until.isoformat()} if args.until else {"is_held": args.hold}
    point = rest.post(f"/points/{rest.point(args.point)['id']}/lock", **wish)
    if point["is_held"]:
        text = "is under legal hold"
    elif point["locked_until"]:
        text = f"is locked until {moment(point['locked_until'])}"
    else:
        text = "is not locked"
    print_row(args, point, f"point {point['id']} {text}")
    return ExitCode.DONE


def _forget(rest: Rest, args: argparse.Namespace) -> int:
    reply = rest.post("/points/forget", ids=[rest.point(text)["id"] for text in args.points])
    if args.json:
        JSON_ANSWER.print(reply)
    else:
        print(f"{len(reply['forgotten_ids'])} points forgotten. to free their space: vdr storage collect")
    return ExitCode.DONE
