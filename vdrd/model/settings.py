"""Settings of a daemon: frozen dataclasses filled from TOML tables and from the command line.

Pure: texts in, values out. Every daemon has one dataclass for its table; a file may hold the tables of all of
them, each
daemon takes its own. A key nobody knows is an error, with the nearest known one as suggestion.
"""

import difflib
import tomllib
import types
import typing
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar

from vdrd.model.errors import BadInput

TABLES = ("appliance", "server", "node", "agent", "console")
"""Tables a file may hold, one per daemon."""

CONFIG_DIRECTORY = Path("/etc/vdr/conf.d")
"""Where daemons look unless told otherwise; files ending in .toml, in order of name, the later one wins."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AtLeast:
    """Annotates a number that must not be smaller: `Annotated[int, AtLeast(1)]`."""

    value: float


AtLeastOne = Annotated[int, AtLeast(1)]
"""A whole number of something without which nothing works."""


class SettingsWrong(BadInput):
    """A settings file or option cannot be used."""

    code = "settings-wrong"
    template = "{where}: {reason}"
    hint = "see docs/admin for every key, or print what is in force with --show-config"


class Secret:
    """A text that shows itself only when asked with `reveal`."""

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text."""
        return self._text

    def __repr__(self) -> str:
        return "Secret('***')" if self._text else "Secret('')"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), 1)
    return f", did you mean {near[0]}?" if near else ""


def _named(kind: Any) -> str:
    if kind is Path:
        return "a path in quotes"
    if kind is Secret or kind is str:
        return "a text in quotes"
    if typing.get_origin(kind) is tuple:
        return "a list of texts in quotes"
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, str(kind))


def _converted(value: object, kind: Any, where: str) -> Any:
    """`value` from TOML as `kind`: bool, int, float, str, Path, Secret, tuple[str, ...] or one of these or
    None."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next(part for part in kind.__args__ if part is not type(None))
    if typing.get_origin(kind) is Annotated:
        kind, bound = typing.get_args(kind)
        number = _converted(value, kind, where)
        if number < bound.value:
            raise SettingsWrong(where=where, reason=f"must be at least {bound.value}, but is {number}")
        return number
    if kind is bool and isinstance(value, bool):
        return value
    if kind in (int, float) and isinstance(value, int | float) and not isinstance(value, bool):
        if kind is int and isinstance(value, float):
            raise SettingsWrong(where=where, reason=f"must be a whole number, not {value}")
        if value < 0:
            raise SettingsWrong(where=where, reason=f"must not be negative, but is {value}")
        return kind(value)
    if kind in (str, Path, Secret) and isinstance(value, str):
        return kind(value)
    if (
        typing.get_origin(kind) is tuple
        and isinstance(value, list)
        and all(isinstance(item, str) for item in value)
    ):
        return tuple(value)
    raise SettingsWrong(where=where, reason=f"must be {_named(kind)}, not {value!r}")


def load(
    kind: type[T],
    table: str,
    files: Sequence[tuple[str, str]],
    overrides: Sequence[str] = (),
    **given: object,
) -> T:
    """Fill dataclass `kind` from the tables called `table`.

    `files` are names and texts in order, `overrides` texts like `table.key=value` (the value in TOML, or a
    bare text),
    `given` what the command line states outright; None there means it does not. Raises SettingsWrong naming
    file and key.
    """
    known = typing.get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for name, text in files:
        try:
            document = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise SettingsWrong(where=name, reason=f"is no TOML: {str(error).lower()}") from error
        for found in document:
            if found not in TABLES:
                raise SettingsWrong(where=name, reason=f"unknown table {found}{_nearest(found, TABLES)}")
        _take(values, document.get(table, {}), known, f"{name}: {table}")
    for override in overrides:
        path, separator, text = override.partition("=")
        owner, _, key = path.strip().partition(".")
        if not separator or owner not in TABLES or not key:
            raise SettingsWrong(where=override, reason="must be TABLE.KEY=VALUE")
        if owner == table:
            try:
                value = tomllib.loads(f"value = {text}")["value"]
            except tomllib.TOMLDecodeError:
                value = text
            _take(values, {key: value}, known, f"option {table}")
    values.update({key: value for key, value in given.items() if value is not None})
    return kind(**values)


def _take(values: dict[str, Any], table: object, known: dict[str, Any], where: str) -> None:
    if not isinstance(table, dict):
        raise SettingsWrong(where=where, reason="must be a table")
    for key, value in table.items():
        if key not in known:
            raise SettingsWrong(where=where, reason=f"unknown key {key}{_nearest(key, known)}")
        values[key] = _converted(value, known[key], f"{where}.{key}")


def read_files(directory: Path) -> list[tuple[str, str]]:
    """Names and texts of the TOML files of a directory, in order of name; none if there is no such directory.

    Raises SettingsWrong if one cannot be read.
    """
    if not directory.is_dir():
        return []
    texts = []
    for path in sorted(directory.glob("*.toml")):
        try:
            texts.append((str(path), path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsWrong(where=path, reason=f"cannot be read: {error}") from error
    return texts


def _toml(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int() | float():
            return repr(value)
        case tuple():
            return f"[{', '.join(_toml(item) for item in value)}]"
        case Secret():
            return '"***"' if value.reveal() else '""'
        case _:
            escaped = str(value).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            return f'"{escaped}"'


def shown(table: str, settings: Any) -> str:
    """The settings in force as TOML, secrets masked."""
    lines = [f"[{table}]"]
    for field in fields(settings):
        value = getattr(settings, field.name)
        lines.append(f"# {field.name} is not set" if value is None else f"{field.name} = {_toml(value)}")
    return "\n".join(lines)
