"""`vdr store verify`: check that what is stored is what was written."""

import argparse
import sys
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.storage_access import add_storage_arguments, open_storage
from vdrd.model.errors import BadInput, ExitCode

if TYPE_CHECKING:
    from vdrd.jobs.verify import AffectedPart
    from vdrd.store.verify import VerifyReport

NAME = "verify"
HELP = "check points, or the whole storage"

_PARTS_SHOWN = 10


def share_argument(text: str) -> float:
    """For argparse: `5%` (or `5`) as 0.05."""
    try:
        share = float(text.removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise argparse.ArgumentTypeError(f"a share like 5% is needed, above 0 and up to 100%, not {text!r}")
    return share


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("points", metavar="POINT", nargs="*", help="only these; default: everything there is")
    parser.add_argument("--read-data", action="store_true", help="read every byte, not only the structure")
    parser.add_argument(
        "--resume", action="store_true", help="read all data that an interrupted --read-data did not come to"
    )
    parser.add_argument(
        "--sample",
        metavar="SHARE",
        type=share_argument,
        help="read this share of the data (5%%), taken at random, and no tree of any point",
    )


def run(args: argparse.Namespace) -> int:
    """Check and tell; exit code 7 when anything is damaged."""
    from vdrd.jobs.verify import affected_parts

    if args.points and (args.resume or args.sample):
        raise BadInput(what="--resume and --sample are for a whole storage, not for points")
    if args.resume and args.sample:
        raise BadInput(what="--resume goes on with all data, --sample reads a part: give one of them")
    began = time.monotonic()
    with open_storage(args) as storage, ProgressLine() as line:
        report = storage.verify(
            args.points or None,
            read_data=args.read_data or args.resume,
            resume=args.resume,
            sample=args.sample,
            progress=line,
        )
        parts = affected_parts(storage, report)
    seconds = time.monotonic() - began
    if args.json:
        JSON_ANSWER.print({**_document(report, parts), "seconds": round(seconds, 3)})
    else:
        _tell(report, parts, seconds)
    if report.damages and not report.is_remembered:
        print("vdr: the storage cannot be written: the next backup will not know of this", file=sys.stderr)
    if report.damages:
        print(
            "vdr: damage found. points not named above are whole. the next backup of the same source mends"
            " what the source still has; vdr store repair takes it from another storage",
            file=sys.stderr,
        )
        return ExitCode.DAMAGED
    return ExitCode.DONE


def _document(report: "VerifyReport", parts: "dict[str, list[AffectedPart]]") -> dict[str, object]:
    damages = []
    for damage in report.damages:
        told = parts.get(damage.chunk_id, [])
        files = [{"point": part.point, "path": part.path} for part in told if part.path is not None]
        ranges = [
            {"point": part.point, "offset": part.offset, "length": part.length}
            for part in told
            if part.path is None
        ]
        damages.append({**asdict(damage), "files": files, "ranges": ranges})
    return {**asdict(report), "damages": damages}


def _tell(report: "VerifyReport", parts: "dict[str, list[AffectedPart]]", seconds: float) -> None:
    for damage in report.damages:
        print(f"damaged: {damage.what}: {damage.reason}")
        told = parts.get(damage.chunk_id, [])
        for part in told[:_PARTS_SHOWN]:
            print(f"  needed by point {part.point}: {part.text()}")
        if len(told) > _PARTS_SHOWN:
            print(f"  and {len(told) - _PARTS_SHOWN} more; --json has them all")
    for point_id in report.affected_points:
        print(f"cannot be restored whole: point {point_id}")
    if report.unneeded:
        print(f"{report.unneeded} records or packs do not hold, and nothing needs them")
    if report.resumed_packs:
        print(f"{report.resumed_packs} packs were read by the verification that this one continues")
    print(
        f"{report.points} points, {report.chunks} chunks, {report.packs} packs,"
        f" {bytes_text(report.read_bytes)} read in {seconds_text(seconds)}:"
        f" {len(report.damages) or 'no'} damage{'s' if len(report.damages) > 1 else ''}"
    )
