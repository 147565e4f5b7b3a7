"""`vdr host`: hosts, how they join, what is on them."""

import argparse

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.model.errors import ExitCode

NAME = "host"
HELP = "list hosts, enrol new ones, look at their disks and directories"

run = run_act


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    acts.add("list", _list, "list hosts")
    token = acts.add(
        "token", _token, "make a one-time token and print the command to type on the new machine"
    )
    token.add_argument("--name", metavar="NAME", help="name to give the machine (its own host name)")
    token.add_argument(
        "--role", choices=("agent", "node", "console"), default="agent", help="what will run there (agent)"
    )
    token.add_argument(
        "--valid-hours", metavar="N", type=float, default=24, help="how long it is good for (24)"
    )
    disks = acts.add("disks", _disks, "list disks, partitions and volumes of a host")
    disks.add_argument("host", metavar="HOST")
    browse = acts.add("browse", _browse, "list a directory of a host")
    browse.add_argument("host", metavar="HOST")
    browse.add_argument("path", metavar="PATH", nargs="?", default="/")
    delete = acts.add("delete", _delete, "revoke a host's certificate and forget the host; its points stay")
    delete.add_argument("host", metavar="HOST")
    delete.add_argument("--force", action="store_true", help="even if a job names it")


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("STATE", lambda row: row["presence"]),
        ("SYSTEM", lambda row: row["operating_system"]),
        ("POINTS", lambda row: row["point_count"]),
        ("NEWEST POINT", lambda row: moment(row["last_success_at"])),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rest.rows("/hosts"), columns, right=("POINTS",))
    return ExitCode.DONE


def _token(rest: Rest, args: argparse.Namespace) -> int:
    token = rest.post(
        "/enrolment-tokens", name=args.name, role=args.role, valid_seconds=round(args.valid_hours * 3600)
    )
    print_row(args, token, token["command"])
    return ExitCode.DONE


def _disks(rest: Rest, args: argparse.Namespace) -> int:
    rows = rest.get(f"/hosts/{rest.find('host', args.host)['id']}/disks")["items"]
    columns = (
        ("PATH", lambda row: row["path"]),
        ("KIND", lambda row: row["kind"]),
        ("SIZE", lambda row: bytes_text(row["size_bytes"])),
        ("FILE SYSTEM", lambda row: row["file_system"] or "-"),
        ("MOUNTED", lambda row: ", ".join(row["mount_points"]) or "-"),
    )
    print_rows(args, rows, columns, right=("SIZE",))
    return ExitCode.DONE


def _browse(rest: Rest, args: argparse.Namespace) -> int:
    rows = rest.rows(f"/hosts/{rest.find('host', args.host)['id']}/files", path=args.path)
    columns = (
        ("KIND", lambda row: row["kind"]),
        ("SIZE", lambda row: bytes_text(row["size_bytes"]) if row["kind"] == "file" else "-"),
        ("CHANGED", lambda row: moment(row["modified_at"])),
        ("NAME", lambda row: row["name"]),
    )
    print_rows(args, rows, columns, right=("SIZE",))
    return ExitCode.DONE


def _delete(rest: Rest, args: argparse.Namespace) -> int:
    host = rest.find("host", args.host)
    rest.delete(f"/hosts/{host['id']}", force="true" if args.force else None)
    if args.json:
        JSON_ANSWER.print({"id": host["id"]})
    return ExitCode.DONE
