"""Counts anew how much of each pack points reach, and keeps it where collection would."""

from typing import TYPE_CHECKING

from vdrd.formats.live import LiveCounts, encode_live
from vdrd.model.errors import Damaged
from vdrd.model.progress import Cancel, Progress, ProgressSink
from vdrd.store.collect import LIVE_NAME
from vdrd.store.walk import Walk

if TYPE_CHECKING:
    from vdrd.store.storage import Storage


def recount(storage: "Storage", *, progress: ProgressSink, cancel: Cancel) -> int | None:
    """Live bytes in sum; None, with no counts kept, when what is alive cannot be known."""
    storage.index.flush()
    packs = storage.index.pack_rows()
    points, damages = storage.book.list()
    is_known = not damages

    def lost(_: bytes, __: Damaged) -> None:
        nonlocal is_known
        is_known = False

    walk = Walk(storage.index.native, storage.reader, on_damage=lost, cancel=cancel)
    for number, point in enumerate(points, 1):
        walk.visit([point])
        progress(Progress("count", done_files=number, total_files=len(points)))
    usage = storage.index.native.usage()
    storage.index.native.mark_begin()
    if not is_known:
        storage.directory.remove(LIVE_NAME)
        return None
    counts = LiveCounts(
        {row.pack_id: usage[number] for number, row in packs.items()},
        frozenset(point.point_id for point in points),
    )
    data = encode_live(counts, storage.keyring.storage_id, storage.keyring.record_key)
    storage.directory.write_file(LIVE_NAME, data)
    return sum(live_bytes for live_bytes, _ in counts.packs.values())
