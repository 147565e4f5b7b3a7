"""Directories of file points as pages. Blocking."""

from datetime import UTC, datetime
from itertools import islice

from schemas.api.hosts import FileEntry
from schemas.control import ListingAnswer, PointBrowseAsk
from vdrd.files.browse import FileTree
from vdrd.files.entry import Entry, EntryType
from vdrd.model.errors import BadInput
from vdrd.model.paths import path_of_text, text_of_path
from vdrd.model.points import FilesRoot
from vdrd.store.storage import Storage

_KINDS = {
    EntryType.REGULAR: "file",
    EntryType.DIRECTORY: "directory",
    EntryType.SYMLINK: "symlink",
    EntryType.FIFO: "fifo",
    EntryType.SOCKET: "socket",
    EntryType.CHARACTER: "char",
    EntryType.BLOCK: "block",
}


def _shown(entry: Entry) -> FileEntry:
    return FileEntry(
        name=text_of_path(entry.name) or "/",
        path="/" + text_of_path(entry.path),
        kind=_KINDS[entry.type],
        size_bytes=entry.size_bytes,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        modified_at=datetime.fromtimestamp(entry.mtime_ns // 1_000_000_000, UTC),
        link_target=text_of_path(entry.target) if entry.type is EntryType.SYMLINK else None,
    )


def browse(storage: Storage, ask: PointBrowseAsk) -> ListingAnswer:
    """A page of a directory. Raises NotFound, BadInput for a point of a disk."""
    draft = storage.point(ask.point_id).draft
    root = draft.root
    if not isinstance(root, FilesRoot):
        raise BadInput(what=f"point {ask.point_id} is no point of a directory")
    tree = FileTree(root, storage.reader_of(draft.domain))
    entries = tree.list(path_of_text(ask.path))
    if ask.after is not None:
        after = path_of_text(ask.after)
        entries = (entry for entry in entries if entry.name > after)
    found = list(islice(entries, ask.limit + 1))
    return ListingAnswer(
        items=[_shown(entry) for entry in found[: ask.limit]], has_more=len(found) > ask.limit
    )
