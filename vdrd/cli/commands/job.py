"""`vdr job`: what is protected, when, how long points are kept."""

import argparse

from vdrd.cli.output import JSON_ANSWER
from vdrd.cli.policy import POLICY_NAMES, add_policy_arguments
from vdrd.cli.rest import Rest, Row
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.cli.watch import add_wait, started
from vdrd.model.errors import BadInput, ExitCode

NAME = "job"
HELP = "list, create, run and delete jobs"

run = run_act

TYPES = ("full", "incremental", "differential")
_DAYS = {day: number for number, day in enumerate(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), 1)}
_UNITS = {"m": 60, "h": 3600, "d": 86400}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    acts.add("list", _list, "list jobs")
    _add_create(acts.add("create", _create, "create a job"))
    acts.add("show", _show, "show a job as JSON").add_argument("job", metavar="JOB")
    start = acts.add("run", _run, "start a job now, a run per host")
    start.add_argument("job", metavar="JOB")
    start.add_argument(
        "--type", choices=TYPES, default="incremental", help="how to look for changes (incremental)"
    )
    add_wait(start)
    for name, text in (("enable", "let the schedule start runs"), ("disable", "stop the schedule")):
        acts.add(name, _switch, text).add_argument("job", metavar="JOB")
    acts.add("delete", _delete, "delete a job; its points stay").add_argument("job", metavar="JOB")


def _add_create(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME")
    parser.add_argument("kind", choices=("disk", "files"))
    parser.add_argument(
        "--host", metavar="HOST", required=True, action="append", help="may be given several times"
    )
    parser.add_argument(
        "--path", metavar="PATH", required=True, action="append", help="disk or directory; several times"
    )
    parser.add_argument("--storage", metavar="STORAGE", help="where to (the only one)")
    parser.add_argument("--include", metavar="G", action="append", default=[], help="pattern; several times")
    parser.add_argument("--exclude", metavar="G", action="append", default=[], help="pattern; several times")
    when = parser.add_mutually_exclusive_group()
    when.add_argument("--every", metavar="SPAN", help="such as 30m, 6h, 1d")
    when.add_argument("--at", metavar="HH:MM", help="time of day")
    when.add_argument("--once", metavar="TIME", help="one moment, such as 2026-12-24T18:00+01:00")
    parser.add_argument("--zone", metavar="ZONE", default="UTC", help="time zone of --at and --window (UTC)")
    parser.add_argument("--days", metavar="mon,tue,..", help="days of --at or --window (all)")
    monthly = parser.add_mutually_exclusive_group()
    monthly.add_argument("--month-day", metavar="N", type=int, help="with --at: that day of each month")
    monthly.add_argument(
        "--month-weekday",
        metavar="N,DAY",
        help="with --at: 1,sun is the first Sunday, 5 the last one",
    )
    parser.add_argument("--window", metavar="HH:MM-HH:MM", help="with --every: when runs may start")
    parser.add_argument(
        "--type", choices=TYPES, default="incremental", help="of scheduled runs (incremental)"
    )
    add_policy_arguments(parser)


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("KIND", lambda row: row["kind"]),
        ("STORAGE", lambda row: row["storage_name"]),
        ("LAST RUN", lambda row: row["last_run_state"] or "never"),
        ("NEXT RUN", lambda row: moment(row["next_run_at"]) if row["is_enabled"] else "disabled"),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rest.rows("/jobs"), columns)
    return ExitCode.DONE


def _weekdays(text: str) -> list[int]:
    names = text.lower().split(",")
    unknown = [name for name in names if name not in _DAYS]
    if unknown:
        raise BadInput(what=f"{unknown[0]} is no day; write {','.join(_DAYS)}")
    return sorted({_DAYS[name] for name in names})


def _interval(args: argparse.Namespace) -> Row:
    number, unit = args.every[:-1], args.every[-1:]
    if not number.isdigit() or unit not in _UNITS:
        raise BadInput(what=f"{args.every} is no span of time; write 30m, 6h or 1d")
    fields: Row = {"type": "interval", "every_seconds": int(number) * _UNITS[unit]}
    if args.window:
        begin, dash, end = args.window.partition("-")
        if not dash:
            raise BadInput(what=f"{args.window} is no window; write 22:00-06:00")
        fields["window"] = {"begin": begin, "end": end, "zone": args.zone}
        if args.days:
            fields["window"]["weekdays"] = _weekdays(args.days)
    return fields


def _at(args: argparse.Namespace) -> Row:
    fields: Row = {"at": args.at, "zone": args.zone}
    if args.month_day is not None:
        return {"type": "monthly", "day": args.month_day, **fields}
    if args.month_weekday:
        week, _, name = args.month_weekday.partition(",")
        if not week.isdigit() or name not in _DAYS:
            raise BadInput(what=f"{args.month_weekday} is no weekday of a month; write 1,sun or 5,fri")
        return {"type": "monthly", "week": int(week), "weekday": _DAYS[name], **fields}
    return {"type": "daily", **fields, **({"weekdays": _weekdays(args.days)} if args.days else {})}


def _schedules(args: argparse.Namespace) -> list[Row]:
    if args.every:
        made = _interval(args)
    elif args.at:
        made = _at(args)
    elif args.once:
        made = {"type": "once", "time": args.once}
    else:
        return []
    return [{**made, "backup_type": args.type}]


def _create(rest: Rest, args: argparse.Namespace) -> int:
    options = {
        "include": args.include,
        "exclude": args.exclude,
        **{name: getattr(args, name) for name in POLICY_NAMES},
    }
    schedules = _schedules(args)
    job = rest.post(
        "/jobs",
        name=args.name,
        kind=args.kind,
        storage_id=rest.find("storage", args.storage)["id"] if args.storage else None,
        sources=[{"host_id": rest.find("host", host)["id"], "paths": args.path} for host in args.host],
        schedules=schedules,
        options={name: value for name, value in options.items() if value is not None},
    )
    print_row(args, job, f"job {job['name']} created, to storage {job['storage_name']}")
    return ExitCode.DONE


def _show(rest: Rest, args: argparse.Namespace) -> int:
    JSON_ANSWER.print(rest.find("job", args.job))
    return ExitCode.DONE


def _run(rest: Rest, args: argparse.Namespace) -> int:
    job = rest.find("job", args.job)
    return started(rest, args, rest.post(f"/jobs/{job['id']}/run", backup_type=args.type))


def _switch(rest: Rest, args: argparse.Namespace) -> int:
    job = rest.post(f"/jobs/{rest.find('job', args.job)['id']}/{args.act_name}")
    print_row(args, job, f"job {job['name']} is {'enabled' if job['is_enabled'] else 'disabled'}")
    return ExitCode.DONE


def _delete(rest: Rest, args: argparse.Namespace) -> int:
    job = rest.find("job", args.job)
    rest.delete(f"/jobs/{job['id']}")
    if args.json:
        JSON_ANSWER.print({"id": job["id"]})
    return ExitCode.DONE
