"""The table 'Folders and who may import whom' and the contracts of `.importlinter` are the same rules."""

import configparser
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def documented() -> dict[str, set[str]]:
    """Part to the parts it may import, from docs/architecture.md."""
    page = ROOT.joinpath("docs/architecture.md").read_text()
    rows = re.findall(r"^\| `([\w/]+)/` \| .+ \| ([^|]+) \|$", page, re.MULTILINE)
    parts = {folder.replace("/", ".") for folder, _ in rows}
    allowed: dict[str, set[str]] = {}
    for folder, text in rows:
        names = set() if text == "nothing" else {name.strip() for name in text.split(",")}
        allowed[folder.replace("/", ".")] = {name if name in parts else f"vdrd.{name}" for name in names}
    return allowed


def contracts() -> dict[str, set[str]]:
    """Part to the parts that its contract forbids whole (a contract may forbid single modules of another)."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    sections = {name.removeprefix("importlinter:contract:"): config[name] for name in config.sections()}
    return {
        name: set(section["forbidden_modules"].split())
        for name, section in sections.items()
        if section.get("source_modules", "").split() == [name]
    }


def test_import_contracts_are_the_table_of_the_architecture_page() -> None:
    table = documented()
    assert len(table) > 15
    parts = set(table)
    forbidden = {part: names & parts for part, names in contracts().items()}
    assert {part: parts - {part} - allowed for part, allowed in table.items()} == forbidden


def test_every_package_has_a_row() -> None:
    tops = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"vdrd"}
    inner = {f"vdrd.{path.parent.name}" for path in ROOT.glob("vdrd/*/__init__.py")}
    assert tops | inner == set(documented())
