"""`vdr store retain`: remove the points of an object that a policy lets go."""

import argparse
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any

from vdrd.cli.output import JSON_ANSWER, print_table
from vdrd.cli.policy import POLICY_NAMES, add_policy_arguments
from vdrd.cli.storage_access import ID_DIGITS, add_storage_arguments, open_storage
from vdrd.model.errors import ExitCode, NotFound
from vdrd.model.locks import text_of
from vdrd.model.retention import RetentionPolicy

if TYPE_CHECKING:
    from vdrd.store.retain import RetainReport

NAME = "retain"
HELP = "remove the points of an object that a policy lets go"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("--object", metavar="NAME", required=True, help="whose points")
    add_policy_arguments(parser)
    parser.add_argument("--dry-run", action="store_true", help="only tell what would go")


def run(args: argparse.Namespace) -> int:
    """Decide, remove, tell what stayed and why."""
    policy = RetentionPolicy(**{name: getattr(args, name) for name in POLICY_NAMES})
    with open_storage(args, writable=True) as storage:
        times = {point.point_id: point.time for point in storage.points(args.object)}
        if not times:
            raise NotFound(what="object", name=args.object)
        report = storage.retain(args.object, policy, dry_run=args.dry_run)
        damages = [*storage.damaged_points(), *storage.guard.locks().damages]
    for damage in damages:
        print(f"warning: {damage.message}", file=sys.stderr)
    if report.is_clock_doubtful:
        print(
            f"warning: this machine's clock was set forward; for this storage it is {text_of(report.now)}."
            " if the clock is right: vdr store lock DIR --accept-clock",
            file=sys.stderr,
        )
    if args.json:
        JSON_ANSWER.print(_document(args, report, times))
    else:
        _print(args, report, times)
    return ExitCode.WARNINGS if damages or report.is_clock_doubtful else ExitCode.DONE


def _document(args: argparse.Namespace, report: "RetainReport", times: dict[str, datetime]) -> dict[str, Any]:
    def shown(point_id: str) -> dict[str, Any]:
        return {"id": point_id, "time": times[point_id].isoformat(timespec="milliseconds")}

    return {
        "object": args.object,
        "now": text_of(report.now),
        "dry_run": args.dry_run,
        "kept": [{**shown(name), "reasons": list(reasons)} for name, reasons in report.kept.items()],
        "removed": [shown(name) for name in report.removed],
        "blocked": [{**shown(name), "reason": reason} for name, reason in report.blocked.items()],
    }


def _print(args: argparse.Namespace, report: "RetainReport", times: dict[str, datetime]) -> None:
    goes = "would go" if args.dry_run else "removed"
    rows = [(name, "stays", ", ".join(reasons)) for name, reasons in report.kept.items()]
    rows += [(name, "stays", reason) for name, reason in report.blocked.items()]
    rows += [(name, goes, "") for name in report.removed]
    rows.sort(reverse=True)
    print_table(
        ("ID", "TIME", "POINT", "WHY"),
        [
            (name[:ID_DIGITS], times[name].astimezone().isoformat(sep=" ", timespec="seconds"), word, why)
            for name, word, why in rows
        ],
    )
    print(f"{len(report.kept) + len(report.blocked)} points stay, {len(report.removed)} {goes}")
