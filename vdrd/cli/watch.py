"""Follows runs until they end: progress on stderr, the end as an exit code."""

import argparse
import sys
from typing import Any

from vdrd.cli.output import JSON_ANSWER, bytes_text, seconds_text
from vdrd.cli.progress import ProgressLine
from vdrd.cli.rest import Rest, Row
from vdrd.model.errors import ExitCode
from vdrd.model.progress import Progress

FINAL_STATES = frozenset({"done", "warning", "failed", "cancelled"})
_WAIT_SECONDS = 10
_EXIT_CODES = {"done": ExitCode.DONE, "warning": ExitCode.WARNINGS}
_WORST_FIRST = (ExitCode.FAILED, ExitCode.WARNINGS, ExitCode.DONE)


def add_wait(parser: argparse.ArgumentParser) -> None:
    """`--wait`."""
    parser.add_argument(
        "--wait", action="store_true", help="show progress until the end; the exit code tells how it ended"
    )


def started(rest: Rest, args: argparse.Namespace, answer: Row) -> int:
    """After something started runs: follow them if `--wait` was given, else say which they are."""
    if args.wait:
        return follow(rest, args, answer["run_ids"], answer)
    if args.json:
        JSON_ANSWER.print(answer)
    else:
        for run_id in answer["run_ids"]:
            print(run_id)
        if not answer["run_ids"]:
            print("vdr: nothing to start: a run is open already", file=sys.stderr)
    return ExitCode.DONE


def follow(rest: Rest, args: argparse.Namespace, run_ids: list[str], answer: Row | None = None) -> int:
    """Follow runs one after the other; the worst end is the exit code."""
    runs = [_follow_one(rest, run_id) for run_id in run_ids]
    if args.json:
        JSON_ANSWER.print({**(answer or {}), "runs": runs})
    codes = {_EXIT_CODES.get(run["state"], ExitCode.FAILED) for run in runs}
    return next((code for code in _WORST_FIRST if code in codes), ExitCode.DONE)


def _follow_one(rest: Rest, run_id: str) -> Row:
    # The place in the feed first, the run second: nothing that happens between the two is missed.
    sequence = rest.get("/events", run_id=run_id, wait_seconds=0)["next_sequence"]
    run = rest.get(f"/runs/{run_id}")
    with ProgressLine() as line:
        while run["state"] not in FINAL_STATES:
            line(_progress(run))
            reply = rest.get("/events", run_id=run_id, wait_seconds=_WAIT_SECONDS, after_sequence=sequence)
            sequence = reply["next_sequence"]
            newest = next((event["run"] for event in reversed(reply["items"]) if event.get("run")), None)
            run = newest if newest and newest["state"] not in FINAL_STATES else rest.get(f"/runs/{run_id}")
    print(_end_text(run), file=sys.stderr)
    return run


def _progress(run: Row) -> Progress:
    shown: dict[str, Any] = run["progress"]
    return Progress(
        step=f"{run['kind']} {run['state'] if run['state'] != 'running' else shown['step'] or 'running'}",
        done_bytes=shown["done_bytes"],
        total_bytes=shown["total_bytes"],
        done_files=shown["done_files"],
        total_files=shown["total_files"],
        new_bytes=shown["new_bytes"],
        stored_bytes=shown["stored_bytes"],
    )


def _end_text(run: Row) -> str:
    shown = run["progress"]
    words = [f"{run['kind']} {run['state']}", bytes_text(shown["done_bytes"])]
    if run["started_at"] and run["ended_at"]:
        words.append(seconds_text(_seconds_between(run["started_at"], run["ended_at"])))
    if shown["new_bytes"]:
        words.append(f"new {bytes_text(shown['new_bytes'])}, stored {bytes_text(shown['stored_bytes'])}")
    if run["warning_count"]:
        words.append(f"{run['warning_count']} warnings, see: vdr run log {run['id'][:8]}")
    if run["error"]:
        words.append(run["error"])
    return "  ".join(words)


def _seconds_between(begin: str, end: str) -> float:
    from datetime import datetime

    return (datetime.fromisoformat(end) - datetime.fromisoformat(begin)).total_seconds()
