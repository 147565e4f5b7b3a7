"""`vdr`: finds the command, parses its arguments, runs it, and turns every ending into an exit code.

A command is a file in `commands/` (over REST) or `store/` (directly on a storage, `vdr store ...`). It
defines `NAME`, `HELP`, `add_arguments(parser)` and `run(args) -> int`. Adding a file adds the command; only
the one that runs is imported. What the exit codes mean stands in `docs/cli.md`. This module knows nothing
about any command.
"""

import argparse
import gc
import importlib
import io
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn, Protocol, cast

from vdrd import __version__
from vdrd.cli.output import JSON_ANSWER
from vdrd.model.errors import BadInput, ExitCode, VdrError

_INTERRUPTED = 130
_TERMINATED = 143
"""What a shell expects of a program that Ctrl-C, or SIGTERM, ended."""

_GARBAGE_THRESHOLD = 50_000
"""Objects made before Python looks for reference cycles. Its own 700 takes a quarter of a short command's
time: imports make a hundred thousand objects, none of them garbage."""

_FOLDERS = {"": "commands", "store": "store"}
"""Prefix on the command line to the folder of its commands."""


class _Terminated(KeyboardInterrupt):
    """SIGTERM: the same way out as Ctrl-C, so that a command clears up what it had half written."""


def _terminate(*_: object) -> NoReturn:
    raise _Terminated


class Command(Protocol):
    """What a command's module offers."""

    NAME: str
    HELP: str

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Declare the command's arguments."""

    def run(self, args: argparse.Namespace) -> int:
        """Do it; returns an `ExitCode`. Failures are raised as VdrError."""


class _Parser(argparse.ArgumentParser):
    """Reports wrong usage in the shape of every other error."""

    wants_json = False

    def error(self, message: str) -> NoReturn:
        JSON_ANSWER.print_error(BadInput(what=message), wanted=self.wants_json)
        self.exit(ExitCode.USAGE, f"vdr: {message}. see: {self.prog} --help\n")


def command_names(prefix: str = "") -> list[str]:
    """Names of the commands under `prefix` ('' or 'store'), sorted."""
    files = Path(__file__).parent.joinpath(_FOLDERS[prefix]).glob("[!_]*.py")
    return sorted(file.stem.replace("_", "-") for file in files)


def load_command(prefix: str, name: str) -> Command:
    """Import the module of one command."""
    module = importlib.import_module(f"vdrd.cli.{_FOLDERS[prefix]}.{name.replace('-', '_')}")
    return cast(Command, module)


def _overview(prefix: str) -> str:
    """Help page of `vdr` or `vdr store`."""
    lines = ["usage: vdr COMMAND ..." if not prefix else f"usage: vdr {prefix} COMMAND ...", ""]
    lines += ["Commands (each explains itself with --help):"]
    rows = [(name, load_command(prefix, name).HELP) for name in command_names(prefix)]
    if not prefix:
        rows.append(("store", "work directly on a storage, without any server: vdr store --help"))
    width = max(len(name) for name, _ in rows) if rows else 0
    lines += [f"  {name:<{width}}  {text}" for name, text in sorted(rows)]
    if not prefix:
        lines += ["", "  --version  print the version", "  --help     print this"]
    return "\n".join(lines)


def _find(arguments: Sequence[str]) -> tuple[str, str, list[str]]:
    """Split `arguments` into prefix, command and the command's own arguments; prints help and exits if
    asked."""
    rest = list(arguments)
    prefix = ""
    if rest and rest[0] == "store":
        prefix = rest.pop(0)
    if not rest:
        print(_overview(prefix), file=sys.stderr)
        sys.exit(ExitCode.USAGE)
    if rest[0] in ("-h", "--help", "help"):
        print(_overview(prefix))
        sys.exit(ExitCode.DONE)
    if rest[0] == "--version" and not prefix:
        print(f"vdr {__version__}")
        sys.exit(ExitCode.DONE)
    name = rest.pop(0)
    names = command_names(prefix)
    if name not in names:
        words = ["vdr", prefix] if prefix else ["vdr"]
        _Parser(prog=" ".join(words)).error(f"unknown command: {name}{_suggestion(name, names)}")
    return prefix, name, rest


def _suggestion(name: str, names: list[str]) -> str:
    """The nearest known name, as the end of a sentence."""
    import difflib

    near = difflib.get_close_matches(name, names, 1)
    return f" (did you mean {near[0]}?)" if near else ""


def _run(arguments: Sequence[str]) -> int:
    prefix, name, rest = _find(arguments)
    command = load_command(prefix, name)
    words = ["vdr", prefix, name] if prefix else ["vdr", name]
    parser = _Parser(prog=" ".join(words), description=command.HELP, allow_abbrev=False)
    command.add_arguments(parser)
    parser.wants_json = "--json" in rest
    args = parser.parse_args(rest)
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)
    try:
        return command.run(args)
    except VdrError as error:
        JSON_ANSWER.print_error(error, wanted=getattr(args, "json", False))
        print(f"vdr: {error.message}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        raise
    except (Exception, KeyboardInterrupt) as error:
        JSON_ANSWER.print_unforeseen(_unforeseen(error), wanted=getattr(args, "json", False))
        raise


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `vdr` with `arguments` (default: the process's) and return its exit code.

    One line on stderr tells every failure. An error nobody foresaw is told the same way; `VDR_DEBUG=1` shows
    where it came from.
    """
    gc.set_threshold(_GARBAGE_THRESHOLD)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name that is no UTF-8 comes out escaped, which within JSON is JSON.
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            code = _run(sys.argv[1:] if arguments is None else arguments)
        except SystemExit as ending:  # help, version or wrong usage
            code = int(ending.code or 0)
        sys.stdout.flush()
    except KeyboardInterrupt as error:
        print("vdr: interrupted", file=sys.stderr)
        return _TERMINATED if isinstance(error, _Terminated) else _INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away: nothing is left to tell, and the interpreter's own flush at
        # exit must not try.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED
    except Exception as error:
        if os.environ.get("VDR_DEBUG"):
            raise
        print(f"vdr: {_unforeseen(error)}", file=sys.stderr)
        return ExitCode.FAILED
    return code


def _unforeseen(error: BaseException) -> str:
    """One line for an error that no package translated."""
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror.lower()}: {error.filename}" if error.filename else error.strerror.lower()
    text = " ".join(str(error).split()) or type(error).__name__
    return f"internal error: {type(error).__name__}: {text}. run again with VDR_DEBUG=1 to see where"
