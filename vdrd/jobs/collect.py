"""Collection: frees what no point of a storage uses. Blocking; the caller gives a thread."""

from vdrd.model.progress import Cancel, ProgressSink
from vdrd.store.storage import Storage


def run(storage: Storage, progress: ProgressSink, cancel: Cancel) -> int:
    """Collect. Returns the bytes freed. Raises Cancelled, and what stops it."""
    return storage.collect(progress=progress, cancel=cancel).freed_bytes
