"""Pages of a list: filters, and cursors that name the last row seen (so that a page costs the same at any
depth)."""

import base64
import binascii
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

import msgspec

from vdrd.model.errors import BadArgument

T = TypeVar("T")
Key = int | str
_CURSOR_CHARACTERS_MAX = 1000


class Filter:
    """Conditions of a WHERE clause. Values always travel as parameters, never in the text."""

    def __init__(self) -> None:
        self._conditions: list[str] = []
        self._values: list[object] = []

    def where(self, condition: str, *values: object) -> "Filter":
        """Add a condition with its `?` values."""
        self._conditions.append(condition)
        self._values.extend(values)
        return self

    def equals(self, column: str, value: object | None) -> "Filter":
        """Add `column = value` unless value is None."""
        return self if value is None else self.where(f"{column} = ?", value)

    def contains(self, column: str, part: str | None) -> "Filter":
        """Add 'column holds part', case-insensitive for ASCII, unless part is None or empty."""
        if not part:
            return self
        escaped = part.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        return self.where(f"{column} LIKE ? ESCAPE '\\'", f"%{escaped}%")

    def any_of(self, column: str, values: Iterable[object]) -> "Filter":
        """Add 'column is one of values' unless there are none."""
        wanted = list(values)
        return self.where(f"{column} IN ({', '.join('?' * len(wanted))})", *wanted) if wanted else self

    @property
    def sql(self) -> str:
        """The clause, empty if there is no condition."""
        return f" WHERE {' AND '.join(self._conditions)}" if self._conditions else ""

    @property
    def values(self) -> list[object]:
        """The parameters in order."""
        return self._values


def encode_cursor(key: Sequence[Key]) -> str:
    """The opaque spelling of a row's key."""
    return base64.urlsafe_b64encode(msgspec.json.encode(list(key))).decode().rstrip("=")


def decode_cursor(cursor: str, columns: int) -> list[Key]:
    """The key of a cursor. Raises BadArgument if it is none of ours."""
    try:
        if len(cursor) > _CURSOR_CHARACTERS_MAX:
            raise ValueError  # noqa: TRY301
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        key = msgspec.json.decode(text, type=list[Key])
        if len(key) != columns:
            raise ValueError  # noqa: TRY301
    except (ValueError, binascii.Error, msgspec.MsgspecError) as error:
        raise BadArgument(field="cursor", reason="not one that a page of this list gave") from error
    return key


def page(
    connection: sqlite3.Connection,
    select: str,
    conditions: Filter,
    *,
    key: Sequence[str],
    cursor: str | None,
    limit: int,
    make: Callable[[sqlite3.Row], T],
    descending: bool = False,
) -> tuple[list[T], str | None]:
    """One page of `select`, ordered by the columns of `key` (unique together, plain names in the result).

    Returns the items and the cursor of the next page, None on the last.
    """
    if cursor is not None:
        sign = "<" if descending else ">"
        values = decode_cursor(cursor, len(key))
        conditions.where(f"({', '.join(key)}) {sign} ({', '.join('?' * len(key))})", *values)
    direction = " DESC" if descending else ""
    order = ", ".join(column + direction for column in key)
    rows = connection.execute(
        f"{select}{conditions.sql} ORDER BY {order} LIMIT ?", [*conditions.values, limit + 1]
    ).fetchall()
    names = [column.rsplit(".", 1)[-1] for column in key]
    more = len(rows) > limit
    rows = rows[:limit]
    next_cursor = encode_cursor([rows[-1][name] for name in names]) if more else None
    return [make(row) for row in rows], next_cursor
