"""`vdr status`: the whole system in a few lines."""

import argparse

from vdrd.cli.output import JSON_ANSWER, bytes_text
from vdrd.cli.rest_commands import add_json
from vdrd.model.errors import ExitCode

NAME = "status"
HELP = "show how the whole system is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print it; problems make the exit code 3."""
    from vdrd.cli.rest import Rest

    with Rest.open() as rest:
        status = rest.get("/status")
    if args.json:
        JSON_ANSWER.print(status)
    else:
        runs = ", ".join(f"{count} {state}" for state, count in sorted(status["runs_by_state"].items()))
        print(f"version   {status['version']}")
        print(f"hosts     {status['hosts_online']} of {status['hosts_total']} online")
        print(f"nodes     {status['nodes_online']} of {status['nodes_total']} online")
        print(f"jobs      {status['jobs_total']}")
        print(f"points    {status['points_total']}, {bytes_text(status['stored_bytes'])} stored")
        print(f"space     {bytes_text(status['free_bytes'])} free of {bytes_text(status['capacity_bytes'])}")
        print(f"runs      {runs or 'none within 24 hours'}")
        for problem in status["problems"]:
            print(f"problem   {problem}")
    return ExitCode.WARNINGS if status["problems"] else ExitCode.DONE
