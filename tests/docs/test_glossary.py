"""The glossary's words are the code's words."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from vdrd.cli.main import command_names

ROOT = Path(__file__).parents[2]


def glossary() -> list[dict[str, str]]:
    rows = []
    for line in ROOT.joinpath("docs/glossary.md").read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| ") and len(cells) == 4 and cells[0] != "term":
            rows.append(dict(zip(("term", "chinese", "meaning", "never"), cells, strict=True)))
    return rows


def forbidden_words() -> set[str]:
    return {word.strip() for row in glossary() for word in row["never"].split(",") if word.strip()}


def names_defined(path: Path) -> Iterator[str]:
    """Classes, functions, fields and string constants of a module, as lower-case words joined by
    underscores."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.ClassDef(name=name):
                yield re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name


def test_every_term_has_both_languages_and_one_row() -> None:
    rows = glossary()
    assert len(rows) > 40
    terms = [row["term"] for row in rows]
    assert len(terms) == len(set(terms))
    for row in rows:
        assert re.search(r"[一-鿿]", row["chinese"]), row["term"]
        assert row["meaning"], row["term"]
    assert not forbidden_words() & set(terms)


def test_schemas_use_no_word_the_glossary_forbids() -> None:
    found = []
    for path in ROOT.joinpath("schemas").rglob("*.py"):
        for name in names_defined(path):
            found += [f"{path.name}: {name}" for word in forbidden_words() if f"_{word}_" in f"_{name}_"]
    assert found == []


def test_catalog_uses_no_word_the_glossary_forbids() -> None:
    found = []
    for path in ROOT.joinpath("schemas").rglob("*.sql"):
        statements = re.sub(r"--[^\n]*", "", path.read_text())
        words = set(re.findall(r"[a-z_]+", statements))
        found += [f"{path.name}: {word}" for word in forbidden_words() & words]
    assert found == []


def test_commands_use_no_word_the_glossary_forbids() -> None:
    names = {name.replace("-", "_") for prefix in ("", "store") for name in command_names(prefix)}
    assert not forbidden_words() & names
