"""Command lines in the documents are accepted by the program, and docs/cli.md names every option."""

import argparse
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from vdrd.cli.main import command_names, load_command

ROOT = Path(__file__).parents[2]
EVERYWHERE = {"--help", "--json", "--key-file", "--passphrase-file"}
"""Options said once for all commands."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """Command as typed ('store init', 'host token') to its parser."""
    found = {}
    for prefix in ("", "store"):
        for name in command_names(prefix):
            parser = argparse.ArgumentParser(exit_on_error=False)
            load_command(prefix, name).add_arguments(parser)
            inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
            words = f"{prefix} {name}".strip()
            # The kind of a backup stands behind the directory: it is an argument, not a command.
            if inner and words != "store backup":
                found |= {f"{words} {choice}": sub for choice, sub in inner[0].choices.items()}
            else:
                found[words] = parser
    return found


def options(parser: argparse.ArgumentParser) -> set[str]:
    found = set()
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                found |= options(inner)
        found |= {text for text in action.option_strings if text.startswith("--")}
    return found


def fenced_lines(page: Path) -> Iterator[str]:
    for block in re.findall(r"```\w*\n(.*?)```", page.read_text(), re.DOTALL):
        yield from re.sub(r"\n {8,}", " ", block).splitlines()


def synopses() -> dict[str, set[str]]:
    """Command to the options that docs/cli.md gives it."""
    found: dict[str, set[str]] = {}
    for line in fenced_lines(ROOT / "docs/cli.md"):
        for part in line.partition("#")[0].split(" ; "):
            words = re.match(r"vdr((?: [a-z-]+)+)", part)
            if words:
                known = words[1].split()
                length = 1 if known[0] in ("login", "logout", "status") else 2
                length = 3 if known[:2] in (["store", "key"], ["store", "overlay"]) else length
                found.setdefault(" ".join(known[:length]), set()).update(re.findall(r"--[a-z-]+", part))
    return found


def examples() -> list[tuple[str, str]]:
    """Command lines of the other documents, as (page, line)."""
    pages = [ROOT / "README.md", *ROOT.joinpath("docs/admin").glob("*.md")]
    lines = [(page.name, line.partition(" #")[0].strip()) for page in pages for line in fenced_lines(page)]
    return [(page, line) for page, line in lines if re.match(r"(\.venv/bin/)?vdr ", line)]


def test_every_command_has_a_synopsis_and_every_synopsis_a_command() -> None:
    assert set(synopses()) == set(parsers())


def test_synopses_name_every_option() -> None:
    known = parsers()
    documented = {name: named - EVERYWHERE for name, named in synopses().items() if name in known}
    assert documented == {name: options(known[name]) - EVERYWHERE for name in documented}


@pytest.mark.parametrize(("page", "line"), examples())
def test_example_is_accepted(page: str, line: str) -> None:
    words = shlex.split(line)[1:]
    known = parsers()
    name = next((" ".join(words[:n]) for n in (3, 2, 1) if " ".join(words[:n]) in known), None)
    assert name, f"{page}: {line}"
    parser = known[name]
    parser.parse_args(words[len(name.split()) :])
