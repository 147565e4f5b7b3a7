"""What commands print: one JSON document, or tables and figures for people. Knows no command.

Sizes are in binary units with three digits, durations in the unit that fits, so that they read the same
everywhere.
"""

import json
import sys
from collections.abc import Iterable, Sequence

from vdrd.model.errors import VdrError

_UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]


class JsonAnswer:
    """The one JSON document that a command with `--json` prints on stdout."""

    def __init__(self) -> None:
        self._printed = False

    def print(self, value: object) -> None:
        """Print `value` (what `json.dumps` takes). A command calls this once, at its end."""
        self._printed = True
        print(json.dumps(value, ensure_ascii=False, indent=2))

    def print_error(self, error: VdrError, *, wanted: bool) -> None:
        """Print the failure as the document, if `--json` was given and none was printed yet."""
        if wanted and not self._printed:
            self.print({"error": {"code": error.code, "message": str(error), "hint": error.hint_text}})

    def print_unforeseen(self, text: str, *, wanted: bool) -> None:
        """The same for an ending that no package foresaw."""
        if wanted and not self._printed:
            self.print({"error": {"code": VdrError.code, "message": text, "hint": ""}})


JSON_ANSWER = JsonAnswer()


def bytes_text(count: int | None) -> str:
    """`count` bytes as `17 B`, `1.50 KiB`, `812 MiB`; a dash for None."""
    if count is None:
        return "-"
    value = float(count)
    for unit in _UNITS:
        if abs(value) < 999.5 or unit == _UNITS[-1]:
            break
        value /= 1024
    if unit == "B":
        return f"{count} B"
    digits = 2 if abs(value) < 9.995 else 1 if abs(value) < 99.95 else 0
    return f"{value:.{digits}f} {unit}"


def seconds_text(seconds: float) -> str:
    """A duration as `85 ms`, `4.2 s`, `3 min 05 s`, `2 h 07 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def rate_text(count: int, seconds: float) -> str:
    """`count` bytes in `seconds` as a speed."""
    return f"{bytes_text(round(count / seconds))}/s" if seconds > 0 else "-"


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]], *, right: Sequence[str] = ()) -> None:
    """Print rows in columns on stdout; the columns named in `right` are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in rows]
    widths = [max([len(head), *(len(row[i]) for row in cells)]) for i, head in enumerate(heads)]
    for row in [list(heads), *cells]:
        line = [
            cell.rjust(width) if head in right else cell.ljust(width)
            for head, cell, width in zip(heads, row, widths, strict=True)
        ]
        sys.stdout.write("  ".join(line).rstrip() + "\n")
