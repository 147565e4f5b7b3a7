"""`vdr store lock`: keep points from being removed, until a time or until a legal hold is released."""

import argparse
import sys
from typing import TYPE_CHECKING, Any

from vdrd.cli.moments import moment_argument
from vdrd.cli.output import JSON_ANSWER, print_table
from vdrd.cli.storage_access import ID_DIGITS, add_storage_arguments, open_storage
from vdrd.model.errors import BadInput, ExitCode
from vdrd.model.locks import PointLock, text_of

if TYPE_CHECKING:
    from vdrd.store import Storage

NAME = "lock"
HELP = "keep a point from being removed; without POINT list what is locked"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_storage_arguments(parser)
    parser.add_argument("point", metavar="POINT", nargs="?", help="which one")
    act = parser.add_mutually_exclusive_group()
    act.add_argument(
        "--until",
        metavar="TIME",
        type=moment_argument,
        help="RFC 3339, or a date for the end of that day, UTC; a lock is only ever extended",
    )
    act.add_argument("--hold", action="store_true", help="legal hold: it stays until it is released")
    act.add_argument("--release-hold", action="store_true", help="end the legal hold; a lock goes on")
    act.add_argument(
        "--accept-clock",
        action="store_true",
        help="without POINT: the clock of this machine is right now; locks and retention go by it again",
    )


def run(args: argparse.Namespace) -> int:
    """Lock, hold, release, or list."""
    wants_change = args.until is not None or args.hold or args.release_hold
    if args.accept_clock:
        if args.point is not None:
            raise BadInput(what="--accept-clock is about the storage, not about a point")
        with open_storage(args, writable=True) as storage:
            now = storage.accept_clock()
        if args.json:
            JSON_ANSWER.print({"now": text_of(now)})
        else:
            print(f"it is {text_of(now)} for this storage")
        return ExitCode.DONE
    if wants_change != (args.point is not None):
        raise BadInput(what="give POINT together with --until, --hold or --release-hold")
    if not wants_change:
        with open_storage(args) as storage:
            return _list(args, storage)
    with open_storage(args, writable=True) as storage:
        name = storage.book.resolve(args.point)
        if args.until is not None:
            lock = storage.lock(name, args.until)
        else:
            lock = storage.put_hold(name, args.hold)
    if args.json:
        JSON_ANSWER.print(lock_document(name, lock))
    else:
        print(f"point {name} {lock.text}")
    return ExitCode.DONE


def lock_document(point_id: str, lock: PointLock) -> dict[str, Any]:
    """A lock as `--json` prints it."""
    return {
        "id": point_id,
        "locked_until": text_of(lock.until) if lock.until else None,
        "is_held": lock.is_held,
        "damage": lock.damage,
    }


def _list(args: argparse.Namespace, storage: "Storage") -> int:
    book, time = storage.guard.locks(), storage.guard.time()
    there = set(storage.book.names())
    rows = sorted((name, lock) for name, lock in book.locks.items() if lock.is_in_force(time.now))
    damages = list(book.damages)
    for damage in damages:
        print(f"warning: {damage.message}", file=sys.stderr)
    gone = [name for name, _ in rows if name not in there]
    for name in gone:
        print(f"warning: point {name} is locked, and its file is gone", file=sys.stderr)
    if args.json:
        JSON_ANSWER.print(
            {
                "now": text_of(time.now),
                "clock_ahead_seconds": round(time.ahead.total_seconds()),
                "locks": [{**lock_document(name, lock), "is_missing": name in gone} for name, lock in rows],
            }
        )
    else:
        print_table(("ID", "POINT"), [(name[:ID_DIGITS], lock.text) for name, lock in rows])
        print(f"it is {text_of(time.now)} for this storage")
    return ExitCode.WARNINGS if damages or gone else ExitCode.DONE
