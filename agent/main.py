"""`vdr-agent`: run the daemon, or enrol this host. Turns every ending into an exit code of the product."""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import trio

from agent.config import AgentConfig
from agent.daemon import serve
from agent.enrolment import MODES, enrol_with_bundle, enrol_with_token
from agent.state import AgentState
from vdrd import __version__
from vdrd.model import settings
from vdrd.model.errors import ExitCode, VdrError

_BUNDLE_BYTES_MAX = 64 << 10
_LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def _parser() -> argparse.ArgumentParser:
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument(
        "--config-dir",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="DIR",
        help=f"directory of TOML files (default {settings.CONFIG_DIRECTORY})",
    )
    shared.add_argument(
        "--set",
        action="append",
        default=argparse.SUPPRESS,
        metavar="agent.KEY=VALUE",
        dest="overrides",
        help="one setting, over what the files say",
    )
    parser = argparse.ArgumentParser(
        prog="vdr-agent",
        description="Protects this host: runs what the server asks for.",
        parents=[shared],
    )
    parser.add_argument("--version", action="version", version=f"vdr-agent {__version__}")
    parser.add_argument("--show-config", action="store_true", help="print the settings in force and end")
    commands = parser.add_subparsers(dest="command", metavar="enrol", title="commands")
    enrol = commands.add_parser(
        "enrol", help="get a certificate with a one-time token of the server", parents=[shared]
    )
    enrol.add_argument("token", nargs="?", help="the token, as the server printed it")
    enrol.add_argument(
        "--bundle", metavar="FILE", help="take over an identity the server made; - is standard input"
    )
    enrol.add_argument(
        "--mode", choices=MODES, default="active", help="who dials (default active: this host)"
    )
    enrol.add_argument("--address", default="", metavar="HOST:PORT", help="where a passive agent is dialled")
    enrol.add_argument("--again", action="store_true", help="replace the certificate this host has")
    return parser


def _set_up_logging(level: str) -> None:
    """Log lines on standard error: time, level, module, text."""
    if level not in _LEVELS:
        known = ", ".join(_LEVELS)
        raise settings.SettingsWrong(where="agent.log_level", reason=f"must be one of {known}, not {level!r}")
    logging.basicConfig(
        level=_LEVELS[level],
        stream=sys.stderr,
        format="%(asctime)s.%(msecs)03d %(levelname)-7s %(name)s: %(message)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )


def _bundle_from(name: str) -> str:
    if name == "-":
        return sys.stdin.read(_BUNDLE_BYTES_MAX)
    with Path(name).open(encoding="utf-8") as file:
        return file.read(_BUNDLE_BYTES_MAX)


def _enrol(args: argparse.Namespace, parser: argparse.ArgumentParser, state: AgentState) -> int:
    if (args.token is None) == (args.bundle is None):
        parser.error("enrol needs a token, or --bundle FILE")
    if args.bundle is not None:
        identity = enrol_with_bundle(state, _bundle_from(args.bundle), again=args.again)
    else:
        identity = enrol_with_token(state, args.token, mode=args.mode, address=args.address, again=args.again)
    print(f"enrolled as {identity}; start the agent now")
    return ExitCode.DONE


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns an `ExitCode`."""
    parser = _parser()
    args = parser.parse_args(arguments)
    directory = getattr(args, "config_dir", settings.CONFIG_DIRECTORY)
    try:
        files = settings.read_files(directory)
        config = settings.load(AgentConfig, "agent", files, getattr(args, "overrides", ()))
        if args.show_config:
            print(settings.shown("agent", config))
            return ExitCode.DONE
        _set_up_logging(config.log_level)
        if args.command == "enrol":
            return _enrol(args, parser, AgentState(config.state_directory))
        trio.run(serve, config)
    except VdrError as error:
        print(f"vdr-agent: {error.message}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"vdr-agent: {error}", file=sys.stderr)
        return ExitCode.FAILED
    except KeyboardInterrupt:
        return 130
    return ExitCode.DONE


if __name__ == "__main__":
    sys.exit(main())
