"""Paths as text and back, without loss: what is not UTF-8 becomes backslash, x and two hex digits; a
backslash two of them."""

import re

from vdrd.model.errors import BadInput

_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|\\|.?)", re.DOTALL)


class PathUnreadable(BadInput):
    """A path holds an escape that is none."""

    code = "path-unreadable"
    template = "{path} is no path: {found} is no escape"
    hint = "write a backslash as two, and a byte that is not UTF-8 as backslash, x and two hex digits"


def text_of_path(raw: bytes) -> str:
    """The text of a path; `path_of_text` gives the same bytes back."""
    return raw.replace(b"\\", b"\\\\").decode("utf-8", "surrogateescape").translate(_ESCAPES)


_ESCAPES = {0xDC00 + byte: f"\\x{byte:02x}" for byte in range(0x80, 0x100)}


def path_of_text(text: str) -> bytes:
    """The bytes of a path written by `text_of_path` or by a person. Raises PathUnreadable."""

    def plain(match: re.Match[bytes]) -> bytes:
        escape = match.group(1)
        if escape == b"\\":
            return b"\\"
        if escape.startswith(b"x") and len(escape) == 3:
            return bytes([int(escape[1:], 16)])
        raise PathUnreadable(path=text, found=match.group(0).decode("utf-8", "replace"))

    return _ESCAPE.sub(plain, text.encode("utf-8", "surrogateescape"))
