"""`vdr node`: the machines that run jobs and hold storages."""

import argparse

from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, print_rows, run_act
from vdrd.model.errors import ExitCode

NAME = "node"
HELP = "list nodes"

run = run_act


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    Acts(parser).add("list", _list, "list nodes")


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("STATE", lambda row: row["presence"]),
        ("DATA", lambda row: row["data_address"]),
        ("STORAGES", lambda row: row["storage_count"]),
        ("RUNNING", lambda row: row["running_count"]),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rest.rows("/nodes"), columns, right=("STORAGES", "RUNNING"))
    return ExitCode.DONE
