"""`vdr store repair`: mend a storage out of another one that has what it lost."""

import argparse
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import (
    add_storage_arguments,
    open_storage,
    path_argument,
    read_key_file,
    read_passphrase_file,
    storage_key,
)
from vdrd.model.errors import BadInput, ExitCode
from vdrd.model.progress import Cancel

if TYPE_CHECKING:
    from vdrd.jobs.repair import RepairReport
    from vdrd.model.storage import KeyMaterial
    from vdrd.store import Storage

NAME = "repair"
HELP = "mend what is damaged, out of another storage that has it"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument(
        "--from",
        dest="other",
        metavar="OTHER",
        type=path_argument,
        help="directory of the other storage: a copy of DIR, or one with points of the same objects",
    )
    key = parser.add_mutually_exclusive_group()
    key.add_argument(
        "--from-key-file", metavar="F", type=Path, help="key of the other storage; default: the key of DIR"
    )
    key.add_argument(
        "--from-passphrase-file", metavar="F", type=Path, help="file with the passphrase of the other storage"
    )
    parser.add_argument(
        "--read-data", action="store_true", help="read every byte of DIR first, to find what nobody has met"
    )


def run(args: argparse.Namespace) -> int:
    """Mend and tell; exit code 7 when something is still damaged."""
    from vdrd.jobs.repair import Repair

    if args.other is None and (args.from_key_file or args.from_passphrase_file):
        raise BadInput(what="a key for the other storage is given, and no --from")
    if args.other is not None and args.other.resolve() == args.directory.resolve():
        raise BadInput(what="--from must be another storage than the one to mend")
    began = time.monotonic()
    other = None if args.other is None else _open_other(args)
    try:
        with open_storage(args, writable=True) as storage, ProgressLine() as line:
            report = Repair(storage, other, progress=line, cancel=Cancel()).run(read_data=args.read_data)
    finally:
        if other is not None:
            other.close()
    seconds = time.monotonic() - began
    if args.json:
        JSON_ANSWER.print({**asdict(report), "seconds": round(seconds, 3)})
    else:
        _tell(report, seconds)
    if report.after.damages:
        print("vdr: not everything could be mended. points not named above are whole", file=sys.stderr)
        return ExitCode.DAMAGED
    return ExitCode.DONE


def _open_other(args: argparse.Namespace) -> "Storage":
    from vdrd.store import Storage

    key: KeyMaterial | None
    if args.from_key_file:
        key = read_key_file(args.from_key_file)
    elif args.from_passphrase_file:
        key = read_passphrase_file(args.from_passphrase_file)
    else:
        key = storage_key(args)
    return Storage.open(args.other, key=key)


def _tell(report: "RepairReport", seconds: float) -> None:
    for damage in report.after.damages:
        print(f"still damaged: {damage.what}: {damage.reason}")
    for point_id in report.after.affected_points:
        print(f"cannot be restored whole: point {point_id}")
    mended = f"mended {report.mended_chunks} chunks"
    if report.mended_points:
        mended += f" and the records of {report.mended_points} points"
    print(
        f"{len(report.before.damages) or 'no'} damage{'s' if len(report.before.damages) > 1 else ''} found"
        f" ({bytes_text(report.before.read_bytes)} read), {mended}, removed {report.removed_packs} packs,"
        f" {len(report.after.damages) or 'none'} left. took {seconds_text(seconds)}"
    )
