"""`vdr storage`: where points live."""

import argparse

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import NULL, Rest
from vdrd.cli.rest_commands import Acts, print_row, print_rows, run_act
from vdrd.cli.watch import add_wait, started
from vdrd.model.errors import ExitCode

NAME = "storage"
HELP = "list, make, verify and detach storages, rotate their keys"

run = run_act


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    acts.add("list", _list, "list storages")
    create = acts.add("create", _create, "make a storage on a node, or attach the one that is there")
    create.add_argument("name", metavar="NAME")
    create.add_argument("path", metavar="PATH", help="directory on the node")
    create.add_argument("--encryption", choices=("none", "aes-256-gcm", "sm4-gcm"), default="aes-256-gcm")
    create.add_argument("--compression", choices=("1", "2", "3", "4", "none"), default="1")
    create.add_argument("--key-file", metavar="F", help="key file on the node (the node makes one)")
    create.add_argument("--node", metavar="NODE", help="which node (the only one)")
    create.add_argument("--attach", action="store_true", help="take over the storage that stands there")
    detach = acts.add("detach", _detach, "forget a storage; nothing in its directory is touched")
    detach.add_argument("storage", metavar="STORAGE")
    verify = acts.add("verify", _verify, "verify every point of a storage")
    verify.add_argument("storage", metavar="STORAGE")
    verify.add_argument("--read-data", action="store_true", help="read all data back, not only what names it")
    add_wait(verify)
    rotate = acts.add("rotate-key", _rotate_key, "seal what is written from now on under a new root key")
    rotate.add_argument("storage", metavar="STORAGE")
    rotate.add_argument(
        "--drop", metavar="SLOT", action="append", default=[], help="key slot that shall not open it any more"
    )
    collect = acts.add("collect", _collect, "free what no point uses")
    collect.add_argument("storage", metavar="STORAGE")
    add_wait(collect)


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("STATE", lambda row: "online" if row["is_online"] else "offline"),
        ("POINTS", lambda row: row["point_count"]),
        ("STORED", lambda row: bytes_text(row["stored_bytes"])),
        ("FREE", lambda row: bytes_text(row["free_bytes"])),
        ("ENCRYPTION", lambda row: row["encryption"]),
        ("PATH", lambda row: f"{row['node_name']}:{row['path']}"),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rest.rows("/storages"), columns, right=("POINTS", "STORED", "FREE"))
    return ExitCode.DONE


def _create(rest: Rest, args: argparse.Namespace) -> int:
    storage = rest.post(
        "/storages",
        name=args.name,
        path=args.path,
        encryption=args.encryption,
        compression=NULL if args.compression == "none" else int(args.compression),
        key_file=args.key_file,
        node_id=rest.find("node", args.node)["id"] if args.node else None,
        attach=args.attach,
    )
    print_row(
        args, storage, f"storage {storage['name']} is ready at {storage['node_name']}:{storage['path']}"
    )
    return ExitCode.DONE


def _detach(rest: Rest, args: argparse.Namespace) -> int:
    storage = rest.find("storage", args.storage)
    rest.delete(f"/storages/{storage['id']}")
    if args.json:
        JSON_ANSWER.print({"id": storage["id"]})
    return ExitCode.DONE


def _verify(rest: Rest, args: argparse.Namespace) -> int:
    storage = rest.find("storage", args.storage)
    return started(rest, args, rest.post(f"/storages/{storage['id']}/verify", read_data=args.read_data))


def _rotate_key(rest: Rest, args: argparse.Namespace) -> int:
    storage = rest.find("storage", args.storage)
    rotated = rest.post(f"/storages/{storage['id']}/rotate-key", drop_slots=args.drop)
    epoch = rotated["epoch_count"] - 1
    slots = ", ".join(rotated["slots"])
    print_row(args, rotated, f"key epoch {epoch} of storage {storage['name']} is in force; slots: {slots}")
    return ExitCode.DONE


def _collect(rest: Rest, args: argparse.Namespace) -> int:
    storage = rest.find("storage", args.storage)
    return started(rest, args, rest.post(f"/storages/{storage['id']}/collect"))
