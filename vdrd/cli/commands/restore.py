"""`vdr restore`: bring a point back."""

import argparse

from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, run_act
from vdrd.cli.watch import add_wait, started

NAME = "restore"
HELP = "bring a point back"

run = run_act


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    start = Acts(parser).add("start", _start, "bring a point back to a host")
    start.add_argument("point", metavar="POINT", help="id, unique beginning of it, or OBJECT@latest")
    start.add_argument("--host", metavar="HOST", help="to which host (where it came from)")
    start.add_argument("--target", metavar="PATH", help="directory, device or image (where it came from)")
    start.add_argument(
        "--path", metavar="P", action="append", default=[], help="only this of a file point; several times"
    )
    start.add_argument("--overwrite", action="store_true", help="over what is there")
    add_wait(start)


def _start(rest: Rest, args: argparse.Namespace) -> int:
    answer = rest.post(
        "/restores",
        point_id=rest.point(args.point)["id"],
        host_id=rest.find("host", args.host)["id"] if args.host else None,
        target_path=args.target,
        paths=args.path,
        overwrite=args.overwrite,
    )
    return started(rest, args, answer)
