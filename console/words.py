"""The words of the console, in two languages. Owns the catalogs' form; knows no page.

A catalog is a TOML file of the same name in `words/`, tables by page. A text may hold `{fields}` and, where
English needs it, two forms parted by ` | `: for one and for more. Both catalogs hold the same keys; a test
sees to it.
"""

import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final

from markupsafe import Markup, escape

LANGUAGES: Final = {"en": "English", "zh": "中文"}
DEFAULT_LANGUAGE: Final = "en"

_FOLDER = Path(__file__).parent / "words"


@cache
def catalog(language: str) -> dict[str, str]:
    """All texts of one language, by dotted key."""
    with (_FOLDER / f"{language}.toml").open("rb") as file:
        return dict(_flat("", tomllib.load(file)))


def _flat(prefix: str, table: dict[str, object]) -> Iterable[tuple[str, str]]:
    for name, value in table.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict):
            yield from _flat(f"{key}.", value)
        else:
            yield key, str(value)


class Words:
    """Texts of one language. Fields that are strings are taken as plain text; nothing is markup unless
    asked."""

    def __init__(self, language: str) -> None:
        self.language = language if language in LANGUAGES else DEFAULT_LANGUAGE
        self._texts = catalog(self.language)

    def __call__(self, key: str, **fields: object) -> str:
        """The text of `key`. A field `count` chooses between the two forms. Raises KeyError for a key nobody
        wrote."""
        text = self._texts[key]
        if " | " in text:
            one, more = text.split(" | ")
            text = one if fields.get("count") == 1 else more
        return text.format(**fields) if fields else text

    def html(self, key: str, **fields: object) -> Markup:
        """The same as markup: the text itself may hold tags, the fields are escaped."""
        return Markup(self._texts[key]).format(**{name: escape(value) for name, value in fields.items()})

    def has(self, key: str) -> bool:
        """True if somebody wrote `key`."""
        return key in self._texts


def preferred_language(accept: Iterable[str]) -> str:
    """The first language of a browser's list that we speak."""
    for tag in accept:
        language = tag.split("-")[0].lower()
        if language in LANGUAGES:
            return language
    return DEFAULT_LANGUAGE
