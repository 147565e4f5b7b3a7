"""`vdr logout`: end the session and forget it."""

import argparse

from vdrd.cli.output import JSON_ANSWER
from vdrd.cli.rest_commands import add_json
from vdrd.model.errors import ExitCode, NotAuthorised, SessionEnded

NAME = "logout"
HELP = "end the session"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """End it at the server, then remove the file. Done, too, if it had ended already."""
    from vdrd.cli.rest import Rest
    from vdrd.cli.rest_session import forget_session

    try:
        with Rest.open() as rest:
            rest.delete("/sessions/current")
    except (SessionEnded, NotAuthorised):
        pass
    forget_session()
    if args.json:
        JSON_ANSWER.print({})
    return ExitCode.DONE
