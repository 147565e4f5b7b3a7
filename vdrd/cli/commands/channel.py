"""`vdr channel`: how alerts reach people."""

import argparse
from pathlib import Path
from typing import Any

from vdrd.cli.output import JSON_ANSWER
from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, moment, print_row, print_rows, run_act
from vdrd.model.errors import ExitCode, SourceUnreadable

NAME = "channel"
HELP = "list, make, test and delete the channels alerts are sent through"

run = run_act

_LEVELS = ("info", "warning", "critical")
_SECRET_BYTES_MAX = 4096


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    acts = Acts(parser)
    acts.add("list", _list, "list channels")
    mail = acts.add("add-mail", _add_mail, "send alerts by mail")
    mail.add_argument("name", metavar="NAME")
    mail.add_argument("--host", required=True, metavar="HOST", help="SMTP server")
    mail.add_argument("--port", type=int, metavar="N", help="its port (587; 465 with tls, 25 with none)")
    mail.add_argument("--security", choices=("none", "starttls", "tls"), default="starttls")
    mail.add_argument("--user", default="", metavar="NAME", help="to log in with (nobody)")
    mail.add_argument("--password-file", type=Path, metavar="F")
    mail.add_argument("--sender", required=True, metavar="ADDRESS")
    mail.add_argument("--to", required=True, action="append", metavar="ADDRESS", help="may be repeated")
    webhook = acts.add("add-webhook", _add_webhook, "send alerts as JSON by POST")
    webhook.add_argument("name", metavar="NAME")
    webhook.add_argument("--url", required=True, metavar="URL")
    webhook.add_argument("--secret-file", type=Path, metavar="F", help="signs what is sent")
    service = acts.add("add-service", _add_service, "send alerts through a service Apprise knows")
    service.add_argument("name", metavar="NAME")
    service.add_argument("--url-file", required=True, type=Path, metavar="F", help="with its Apprise address")
    for adding in (mail, webhook, service):
        adding.add_argument("--least-level", choices=_LEVELS, default="warning")
    acts.add("test", _test, "send a test message").add_argument("channel", metavar="CHANNEL")
    acts.add("delete", _delete, "delete a channel").add_argument("channel", metavar="CHANNEL")
    deliveries = acts.add("deliveries", _deliveries, "list messages, newest first")
    deliveries.add_argument("--channel", metavar="CHANNEL")
    deliveries.add_argument("--limit", metavar="N", type=int, default=50, help="at most so many (50)")


def _secret(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            return file.read(_SECRET_BYTES_MAX + 1).decode().strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise SourceUnreadable(path=path, reason=reason) from error


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("KIND", lambda row: row["service"] or row["settings"]["type"]),
        ("FROM LEVEL", lambda row: row["least_level"]),
        ("STATE", lambda row: "enabled" if row["is_enabled"] else "disabled"),
        ("LAST SENT", lambda row: moment(row["last_sent_at"])),
        ("LAST ERROR", lambda row: row["last_error"] or "-"),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rest.rows("/channels"), columns)
    return ExitCode.DONE


def _made(rest: Rest, args: argparse.Namespace, settings: dict[str, Any]) -> int:
    channel = rest.post("/channels", name=args.name, settings=settings, least_level=args.least_level)
    print_row(args, channel, f"channel {channel['name']} is made. Send a test: vdr channel test {args.name}")
    return ExitCode.DONE


def _add_mail(rest: Rest, args: argparse.Namespace) -> int:
    usual = {"none": 25, "starttls": 587, "tls": 465}
    settings = {
        "type": "mail",
        "host": args.host,
        "port": args.port or usual[args.security],
        "security": args.security,
        "user_name": args.user,
        "password": _secret(args.password_file),
        "sender": args.sender,
        "recipients": args.to,
    }
    return _made(rest, args, settings)


def _add_webhook(rest: Rest, args: argparse.Namespace) -> int:
    return _made(rest, args, {"type": "webhook", "url": args.url, "secret": _secret(args.secret_file)})


def _add_service(rest: Rest, args: argparse.Namespace) -> int:
    return _made(rest, args, {"type": "service", "url": _secret(args.url_file)})


def _test(rest: Rest, args: argparse.Namespace) -> int:
    channel = rest.find("channel", args.channel)
    print_row(args, rest.post(f"/channels/{channel['id']}/test"), f"a test went through {channel['name']}")
    return ExitCode.DONE


def _delete(rest: Rest, args: argparse.Namespace) -> int:
    channel = rest.find("channel", args.channel)
    rest.delete(f"/channels/{channel['id']}")
    if args.json:
        JSON_ANSWER.print({"id": channel["id"]})
    return ExitCode.DONE


def _deliveries(rest: Rest, args: argparse.Namespace) -> int:
    channel_id = rest.find("channel", args.channel)["id"] if args.channel else None
    columns = (
        ("TIME", lambda row: moment(row["created_at"])),
        ("CHANNEL", lambda row: row["channel_name"]),
        ("STATE", lambda row: row["state"]),
        ("TRIES", lambda row: row["attempts"]),
        ("EVENT", lambda row: row["event"]),
        ("SUBJECT", lambda row: row["subject"]),
        ("ERROR", lambda row: row["error"] or "-"),
    )
    print_rows(
        args, rest.rows("/deliveries", limit=args.limit, channel_id=channel_id), columns, right=("TRIES",)
    )
    return ExitCode.DONE
