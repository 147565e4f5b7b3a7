"""Announced points in pages: by number, so that the catalog's writes stay short, and by size, so that each
fits into a message."""

import logging

import msgspec

from schemas.control import PointRecord
from schemas.link import CONTROL_BYTES_MAX

log = logging.getLogger(__name__)

POINTS_PER_MESSAGE = 500
POINTS_BYTES_PER_MESSAGE = CONTROL_BYTES_MAX // 2


def pages_of(records: list[PointRecord]) -> list[list[PointRecord]]:
    """The records in pages, each small enough for a message; at least one page.

    One that fits into none (made by other hands: nothing here writes such names) is left out and logged.
    """
    pages: list[list[PointRecord]] = [[]]
    page_bytes = 0
    for record in records:
        record_bytes = len(msgspec.msgpack.encode(record))
        if record_bytes > POINTS_BYTES_PER_MESSAGE:
            log.warning("point too large to be announced point=%s bytes=%d", record.point_id, record_bytes)
            continue
        if len(pages[-1]) == POINTS_PER_MESSAGE or page_bytes + record_bytes > POINTS_BYTES_PER_MESSAGE:
            pages.append([])
            page_bytes = 0
        pages[-1].append(record)
        page_bytes += record_bytes
    return pages
