"""What commands over REST share: `--json`, the acts of a noun, and showing times. Knows no noun."""

import argparse
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any

from vdrd.cli.output import JSON_ANSWER, print_table
from vdrd.cli.rest import Rest, Row

Act = Callable[[Rest, argparse.Namespace], int]


def add_json(parser: argparse.ArgumentParser) -> None:
    """`--json`, which every command has."""
    parser.add_argument("--json", action="store_true", help="print one JSON document")


class Acts:
    """The acts of a noun: `vdr NOUN ACT ...`, each with arguments of its own."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(dest="act_name", metavar="ACT", required=True)

    def add(self, name: str, act: Act, text: str) -> argparse.ArgumentParser:
        """Another act; returns its parser, which has `--json` already."""
        parser = self._parsers.add_parser(name, help=text, description=text, allow_abbrev=False)
        add_json(parser)
        parser.set_defaults(act=act)
        return parser


def run_act(args: argparse.Namespace) -> int:
    """Carry out the act that was named."""
    act: Act = args.act
    with Rest.open() as rest:
        return act(rest, args)


def print_rows(
    args: argparse.Namespace,
    rows: list[Row],
    columns: Sequence[tuple[str, Callable[[Row], Any]]],
    *,
    right: Sequence[str] = (),
) -> None:
    """A list: `{"items": [...]}` with `--json`, else a table of the columns."""
    if args.json:
        JSON_ANSWER.print({"items": rows})
    else:
        print_table(
            [name for name, _ in columns], [[cell(row) for _, cell in columns] for row in rows], right=right
        )


def print_row(args: argparse.Namespace, row: Row, text: str) -> None:
    """One thing: as it is with `--json`, else a line of text."""
    if args.json:
        JSON_ANSWER.print(row)
    else:
        print(text)


def moment(text: str | None) -> str:
    """A moment of the API in the zone of this machine."""
    if not text:
        return "-"
    return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M:%S")
