"""`vdr store key`: who can open a storage, and rotating its root key."""

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from vdrd.cli.output import JSON_ANSWER, print_table
from vdrd.cli.storage_access import (
    add_storage_arguments,
    path_argument,
    read_key_file,
    read_passphrase_file,
    with_prompt,
)
from vdrd.model.errors import ExitCode
from vdrd.model.storage import KeyMaterial

if TYPE_CHECKING:
    from vdrd.store.slots import KeySlots

NAME = "key"
HELP = "list, add and remove what opens a storage; rotate its root key"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = parser.add_subparsers(dest="act_name", metavar="ACT", required=True)

    def act(name: str, run_it: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        inner = acts.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_storage_arguments(inner)
        inner.set_defaults(act=run_it)
        return inner

    act("list", _list, "show the key slots; needs no key")
    add = act("add", _add, "let one more secret open the storage")
    secret = add.add_mutually_exclusive_group(required=True)
    secret.add_argument("--new-key-file", metavar="F", type=path_argument, help="a key file")
    secret.add_argument("--new-passphrase-file", metavar="F", type=path_argument, help="a passphrase")
    secret.add_argument("--recovery", action="store_true", help="a recovery key, made now and shown once")
    remove = act("remove", _remove, "let a secret open the storage no more")
    remove.add_argument("slot", metavar="SLOT", help="id of its slot")
    rotate = act("rotate", _rotate, "seal what is written from now on under a new root key")
    rotate.add_argument(
        "--also-key-file",
        metavar="F",
        type=path_argument,
        action="append",
        default=[],
        help="key file of another slot, which is to have the new key too",
    )
    rotate.add_argument(
        "--also-passphrase-file",
        metavar="F",
        type=path_argument,
        action="append",
        default=[],
        help="passphrase or recovery key of another slot",
    )
    rotate.add_argument(
        "--new-recovery", action="store_true", help="a new recovery key in place of those there are"
    )
    rotate.add_argument(
        "--drop", metavar="SLOT", action="append", default=[], help="slot that shall not open it any more"
    )


def run(args: argparse.Namespace) -> int:
    """Carry out the act that was named."""
    act: Callable[[argparse.Namespace], int] = args.act
    return act(args)


def _slots(args: argparse.Namespace) -> "KeySlots":
    from vdrd.store.directory import StorageDirectory
    from vdrd.store.slots import KeySlots

    return KeySlots(StorageDirectory(args.directory))


def _list(args: argparse.Namespace) -> int:
    from vdrd.store.slots import read_header

    header = read_header(args.directory)
    slots, damages = _slots(args).read()
    rows = [
        {
            "id": name,
            "kind": slot.kind.value,
            "created": slot.created.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "epochs": slot.epoch_count,
            "is_current": slot.newest == header.signing_keys[-1],
        }
        for name, slot in slots.items()
    ]
    if args.json:
        JSON_ANSWER.print(
            {
                "storage_id": header.info.storage_id,
                "encryption": header.info.encryption.value,
                "epochs": header.epoch_count,
                "slots": rows,
                "damages": [str(error) for error in damages.values()],
            }
        )
    else:
        print(f"encryption {header.info.encryption.value}, key epochs: {header.epoch_count}")
        heads = ("SLOT", "KIND", "CREATED", "EPOCHS", "")
        print_table(
            heads,
            [
                (row["id"], row["kind"], row["created"], row["epochs"], "" if row["is_current"] else "behind")
                for row in rows
            ],
            right=("EPOCHS",),
        )
    for error in damages.values():
        print(f"warning: {error}", file=sys.stderr)
    return ExitCode.WARNINGS if damages else ExitCode.DONE


def _add(args: argparse.Namespace) -> int:
    slots = _slots(args)
    secret: KeyMaterial | None = None
    if args.new_key_file:
        secret = read_key_file(args.new_key_file)
    elif args.new_passphrase_file:
        secret = read_passphrase_file(args.new_passphrase_file)

    def add(key: KeyMaterial | None) -> tuple[str, str | None]:
        return slots.add_recovery(key) if secret is None else (slots.add(key, secret), None)

    name, text = with_prompt(args, add)
    _tell(args, {"id": name, "recovery_key": text}, f"added slot {name}", text)
    return ExitCode.DONE


def _remove(args: argparse.Namespace) -> int:
    with_prompt(args, lambda key: _slots(args).remove(key, args.slot))
    _tell(args, {"id": args.slot}, f"removed slot {args.slot}", None)
    print(
        "a copy of that slot and its secret still open what is stored: rotate the key to keep them from what"
        " comes",
        file=sys.stderr,
    )
    return ExitCode.DONE


def _rotate(args: argparse.Namespace) -> int:
    from vdrd.store.locks import StorageLock
    from vdrd.store.slots import Rotation

    others = [read_key_file(path) for path in args.also_key_file]
    others += [read_passphrase_file(path) for path in args.also_passphrase_file]
    slots = _slots(args)

    def rotate(key: KeyMaterial | None) -> Rotation:
        slots.unlock(key)
        lock = StorageLock(args.directory, writable=True)
        try:
            materials = [material for material in (key, *others) if material is not None]
            return slots.rotate(materials, drop=args.drop, renew_recovery=args.new_recovery)
        finally:
            lock.close()

    rotation = with_prompt(args, rotate)
    epochs = rotation.unlocked.header.epoch_count
    _tell(
        args,
        {
            "epochs": epochs,
            "slots": list(rotation.slots),
            "dropped": list(rotation.dropped),
            "recovery_key": rotation.recovery_key,
        },
        f"key epoch {epochs - 1} is in force; slots that open it: {', '.join(rotation.slots)}",
        rotation.recovery_key,
    )
    return ExitCode.DONE


def _tell(args: argparse.Namespace, answer: dict[str, object], text: str, recovery_key: str | None) -> None:
    if args.json:
        JSON_ANSWER.print(answer)
        return
    print(text)
    if recovery_key is not None:
        print(f"recovery key: {recovery_key}")
        print("write it down and keep it apart from the storage: it is not shown again", file=sys.stderr)
