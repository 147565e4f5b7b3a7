"""`vdr user`: who may log in."""

import argparse

from vdrd.cli.rest import Rest
from vdrd.cli.rest_commands import Acts, moment, print_rows, run_act
from vdrd.model.errors import ExitCode

NAME = "user"
HELP = "list users"

run = run_act


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    Acts(parser).add("list", _list, "list users")


def _list(rest: Rest, args: argparse.Namespace) -> int:
    columns = (
        ("NAME", lambda row: row["name"]),
        ("ROLES", lambda row: ", ".join(row["roles"]) or "none"),
        (
            "STATE",
            lambda row: (
                "locked out" if row["is_locked_out"] else "enabled" if row["is_enabled"] else "disabled"
            ),
        ),
        ("LAST LOG-IN", lambda row: moment(row["last_login_at"])),
        ("ID", lambda row: row["id"]),
    )
    print_rows(args, rest.rows("/users"), columns)
    return ExitCode.DONE
