"""A list of changed blocks as a file: JSON, `[[offset, length], ...]` in bytes.

Such lists come from hypervisors and may be long, so a list is read pair by pair and never stands in memory
as JSON values. Knows no disk: whether the ranges lie on one is for the backup to say.
"""

import re
from pathlib import Path

from vdrd.model.errors import BadInput, NotFound
from vdrd.model.extents import Extent

FILE_BYTES_MAX = 64 << 20
RANGES_MAX = 1 << 20
"""Ranges that do not touch; about 120 MiB of memory."""

_PAIR = re.compile(rb"\s*\[\s*(0|[1-9][0-9]{0,18})\s*,\s*(0|[1-9][0-9]{0,18})\s*\]\s*")
_BEGIN = re.compile(rb"\s*\[\s*")
_END = re.compile(rb"\]\s*\Z")


def read_changed_blocks(path: Path) -> list[Extent]:
    """Ranges in the file's order, neighbours joined, empty ones left out.

    Raises NotFound or BadInput naming the file and the byte where it stops being such a list.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(what="list of changed blocks", name=path) from error
    except OSError as error:
        raise BadInput(what=f"cannot read {path}: {(error.strerror or 'error').lower()}") from error
    if len(data) > FILE_BYTES_MAX:
        raise BadInput(what=f"{path} is longer than {FILE_BYTES_MAX} bytes. join neighbouring ranges")
    return _parsed(path, data)


def _parsed(path: Path, data: bytes) -> list[Extent]:
    begin = _BEGIN.match(data)
    if begin is None:
        raise _unexpected(path, 0)
    found: list[Extent] = []
    at = begin.end()
    if _END.match(data, at):
        return found
    while True:
        pair = _PAIR.match(data, at)
        if pair is None:
            raise _unexpected(path, at)
        offset, length = int(pair[1]), int(pair[2])
        if length and found and found[-1].end_bytes == offset:
            found[-1] = Extent(found[-1].offset_bytes, found[-1].length_bytes + length)
        elif length:
            if len(found) == RANGES_MAX:
                raise BadInput(what=f"{path} has more than {RANGES_MAX} ranges. join neighbouring ranges")
            found.append(Extent(offset, length))
        at = pair.end()
        if _END.match(data, at):
            return found
        if data[at : at + 1] != b",":
            raise _unexpected(path, at)
        at += 1


def _unexpected(path: Path, at: int) -> BadInput:
    what = f"{path} is no list of changed blocks, from byte {at} on"
    return BadInput(what=f"{what}. it is to be JSON, [[offset, length], ...] in bytes, whole numbers")
