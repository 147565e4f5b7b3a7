"""`vdr run`: executions of jobs, restores, verifications."""

import argparse
import time

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest import Rest, Row
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.cli.watch import follow
from vdrd.model.errors import ExitCode

NAME = "run"
HELP = "list, watch and cancel runs"

run = run_act

STATES = ("queued", "preparing", "running", "done", "warning", "failed", "cancelled")
_ID_DIGITS = 8


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    listing = acts.add("list", _list, "list runs, newest first")
    listing.add_argument("--job", metavar="JOB")
    listing.add_argument("--host", metavar="HOST")
    listing.add_argument("--state", choices=STATES, action="append", help="may be given several times")
    listing.add_argument("--limit", metavar="N", type=int, default=20, help="at most so many (20)")
    acts.add("show", _show, "show a run as JSON").add_argument("run_id", metavar="RUN")
    acts.add("log", _log, "print a run's log").add_argument("run_id", metavar="RUN")
    watch = acts.add("watch", _watch, "show progress until the end; the exit code tells how it ended")
    watch.add_argument("run_ids", metavar="RUN", nargs="+")
    acts.add("cancel", _cancel, "stop a run; what it stored is used by the next").add_argument(
        "run_id", metavar="RUN"
    )


def _list(rest: Rest, args: argparse.Namespace) -> int:
    rows = rest.rows(
        "/runs",
        limit=args.limit,
        job_id=rest.find("job", args.job)["id"] if args.job else None,
        host_id=rest.find("host", args.host)["id"] if args.host else None,
        states=args.state,
    )
    columns = (
        ("ID", lambda row: row["id"][:_ID_DIGITS]),
        ("STATE", lambda row: row["state"]),
        ("WHAT", lambda row: row["kind"]),
        ("JOB", lambda row: row["job_name"] or "-"),
        ("HOST", lambda row: row["host_name"] or "-"),
        ("STARTED", lambda row: moment(row["started_at"])),
        ("READ", lambda row: bytes_text(row["progress"]["done_bytes"])),
        ("STORED", lambda row: bytes_text(row["progress"]["stored_bytes"])),
    )
    print_rows(args, rows, columns, right=("READ", "STORED"))
    return ExitCode.DONE


def _show(rest: Rest, args: argparse.Namespace) -> int:
    JSON_ANSWER.print(rest.run(args.run_id))
    return ExitCode.DONE


def _log(rest: Rest, args: argparse.Namespace) -> int:
    run_id = rest.run(args.run_id)["id"]
    lines: list[Row] = []
    while True:
        page = rest.get(
            f"/runs/{run_id}/log", after_sequence=lines[-1]["sequence"] if lines else 0, limit=1000
        )
        lines += page["items"]
        if page["is_complete"] or not page["items"]:
            break
    if args.json:
        JSON_ANSWER.print({"items": lines})
    else:
        for line in lines:
            print(f"{moment(line['time'])}  {line['level']:<7}  {line['text']}")
    return ExitCode.DONE


def _watch(rest: Rest, args: argparse.Namespace) -> int:
    return follow(rest, args, [rest.run(text)["id"] for text in args.run_ids])


def _cancel(rest: Rest, args: argparse.Namespace) -> int:
    run_id = rest.run(args.run_id)["id"]
    asked = rest.post(f"/runs/{run_id}/cancel")
    print_row(args, asked, f"run {run_id[:_ID_DIGITS]} was asked to stop at {time.strftime('%H:%M:%S')}")
    return ExitCode.DONE
