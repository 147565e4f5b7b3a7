"""`vdr alert`: what somebody must look at."""

import argparse

from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.model.errors import ExitCode

NAME = "alert"
HELP = "list, acknowledge and close alerts"

run = run_act

_STATES = ("open", "acknowledged", "closed")
_LEVELS = ("info", "warning", "critical")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    listing = acts.add("list", _list, "list alerts, newest first; without --state those that are not closed")
    listing.add_argument("--state", choices=_STATES, action="append", help="may be given several times")
    listing.add_argument("--level", choices=_LEVELS, action="append", help="may be given several times")
    listing.add_argument("--limit", metavar="N", type=int, default=50, help="at most so many (50)")
    for name, act, text in (
        ("acknowledge", _acknowledge, "say that you look after alerts"),
        ("close", _close, "silence alerts until their condition has ended"),
    ):
        acts.add(name, act, text).add_argument("alert_ids", metavar="ALERT", nargs="+", help="id of an alert")


def _list(rest: Rest, args: argparse.Namespace) -> int:
    rows = rest.rows(
        "/alerts", limit=args.limit, states=args.state or ["open", "acknowledged"], levels=args.level
    )
    columns = (
        ("LEVEL", lambda row: row["level"]),
        ("STATE", lambda row: row["state"]),
        ("KIND", lambda row: row["kind"]),
        ("SUBJECT", lambda row: row["subject"]),
        ("SINCE", lambda row: moment(row["opened_at"])),
        ("COUNT", lambda row: row["count"]),
        ("BY", lambda row: row["closed_by"] or row["acknowledged_by"] or "-"),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rows, columns, right=("COUNT",))
    return ExitCode.DONE


def _acknowledge(rest: Rest, args: argparse.Namespace) -> int:
    return _act(rest, args, "acknowledge", "acknowledged")


def _close(rest: Rest, args: argparse.Namespace) -> int:
    return _act(rest, args, "close", "closed")


def _act(rest: Rest, args: argparse.Namespace, act: str, done: str) -> int:
    answer = rest.post(f"/alerts/{act}", ids=args.alert_ids)
    print_row(args, answer, f"{done} {answer['count']} of {len(args.alert_ids)}")
    return ExitCode.DONE
