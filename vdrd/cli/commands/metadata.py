"""`vdr metadata`: what a new server is made from when this one is gone."""

import argparse
import base64
import os
from pathlib import Path

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import NULL, Rest
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.model.errors import BadInput, ExitCode, SourceUnreadable, TargetOccupied

NAME = "metadata"
HELP = "save the server's own metadata, and say how it is saved every day"

run = run_act


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    acts.add("show", _show, "show how metadata is saved")
    plan = acts.add("plan", _plan, "change how metadata is saved")
    plan.add_argument("--passphrase-file", type=Path, metavar="F", help="opens the backups made from now on")
    plan.add_argument("--at", metavar="HH:MM", help="time of day")
    plan.add_argument("--zone", metavar="ZONE", help="its time zone")
    plan.add_argument("--storage", metavar="STORAGE", help="storage that gets a copy; none for none")
    plan.add_argument("--keep", type=int, metavar="N", help="how many are kept")
    acts.add("save", _save, "make a metadata backup now")
    acts.add("list", _list, "list the metadata backups on the server's machine")
    get = acts.add("get", _get, "download a metadata backup")
    get.add_argument("name", metavar="NAME", help="name of a backup, or latest")
    get.add_argument("target", metavar="FILE", type=Path, help="file to write; must not be there")


def _show(rest: Rest, args: argparse.Namespace) -> int:
    plan = rest.get("/metadata/plan")
    lines = [
        f"passphrase: {'chosen' if plan['has_passphrase'] else 'none: nothing is saved'}",
        f"every day:  {plan['at']} {plan['zone']}, the newest {plan['keep']} are kept",
        f"copy to:    {plan['storage_id'] or 'no storage'}",
        f"last saved: {moment(plan['last_at'])}",
    ]
    if plan["last_error"]:
        lines.append(f"last error: {plan['last_error']}")
    print_row(args, plan, "\n".join(lines))
    return ExitCode.DONE


def _plan(rest: Rest, args: argparse.Namespace) -> int:
    passphrase = None
    if args.passphrase_file is not None:
        try:
            passphrase = args.passphrase_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise SourceUnreadable(path=args.passphrase_file, reason=reason) from error
    storage = args.storage and (NULL if args.storage == "none" else rest.find("storage", args.storage)["id"])
    changes = {"passphrase": passphrase, "at": args.at, "zone": args.zone, "keep": args.keep}
    if all(value is None for value in [*changes.values(), storage]):
        raise BadInput(what="nothing to change: give at least one option")
    plan = rest.patch("/metadata/plan", **changes, storage_id=storage)
    print_row(
        args, plan, "metadata is saved every day" if plan["has_passphrase"] else "choose a passphrase next"
    )
    return ExitCode.DONE


def _save(rest: Rest, args: argparse.Namespace) -> int:
    made = rest.post("/metadata/backups")
    print_row(args, made, f"saved {made['name']}, {bytes_text(made['size_bytes'])}")
    return ExitCode.DONE


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("SIZE", lambda row: bytes_text(row["size_bytes"])),
        ("MADE", lambda row: moment(row["made_at"])),
    )
    print_rows(args, rest.get("/metadata/backups")["items"], columns, right=("SIZE",))
    return ExitCode.DONE


def _get(rest: Rest, args: argparse.Namespace) -> int:
    name = args.name
    if name == "latest":
        items = rest.get("/metadata/backups")["items"]
        if not items:
            raise BadInput(what="there is no metadata backup yet")
        name = items[0]["name"]
    try:
        fd = os.open(args.target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise TargetOccupied(path=args.target, reason="it exists") from error
    is_whole = False
    try:
        with os.fdopen(fd, "wb") as file:
            size_bytes = 1
            while file.tell() < size_bytes:
                part = rest.get(f"/metadata/backups/{name}/part", offset=file.tell())
                size_bytes = part["size_bytes"]
                data = base64.b64decode(part["data"])
                if not data:
                    break
                file.write(data)
            file.flush()
            os.fsync(fd)
            is_whole = file.tell() == size_bytes
    finally:
        if not is_whole:
            args.target.unlink(missing_ok=True)
    if args.json:
        JSON_ANSWER.print({"name": name, "size_bytes": size_bytes, "path": str(args.target)})
    else:
        print(f"wrote {name}, {bytes_text(size_bytes)}, to {args.target}")
    return ExitCode.DONE
