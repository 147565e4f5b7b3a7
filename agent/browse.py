"""Directories of this host for people who make jobs, a page at a time. Blocking."""

import heapq
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

from schemas.api.hosts import FileEntry
from schemas.control import HostBrowseAsk, ListingAnswer
from vdrd.model.errors import NotFound, SourceUnreadable
from vdrd.model.paths import path_of_text, text_of_path

LIMIT_MAX = 1000
"""Entries of a page: some 200 KiB, well below a control link's bound."""
_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
}


def browse(ask: HostBrowseAsk) -> ListingAnswer:
    """Entries by name after `ask.after`. Memory is bounded by the page, not by the directory.

    Raises NotFound, SourceUnreadable. An entry that vanishes meanwhile is left out.
    """
    path = path_of_text(ask.path)
    after = path_of_text(ask.after) if ask.after is not None else b""
    limit = min(max(ask.limit, 1), LIMIT_MAX)
    try:
        with os.scandir(path) as entries:
            wanted = (
                entry
                for entry in entries
                if entry.name > after and (not ask.directories_only or entry.is_dir(follow_symlinks=False))
            )
            found = heapq.nsmallest(limit + 1, wanted, key=lambda entry: entry.name)
    except FileNotFoundError as error:
        raise NotFound(what="directory", name=ask.path) from error
    except OSError as error:
        raise SourceUnreadable(path=ask.path, reason=error.strerror) from error
    items = [shown for entry in found[:limit] if (shown := _shown(entry)) is not None]
    return ListingAnswer(items=items, has_more=len(found) > limit)


def _shown(entry: os.DirEntry[bytes]) -> FileEntry | None:
    try:
        status = entry.stat(follow_symlinks=False)
        kind = _KINDS.get(stat.S_IFMT(status.st_mode), "file")
        target = text_of_path(bytes(Path(os.fsdecode(entry.path)).readlink())) if kind == "symlink" else None
    except OSError:
        return None
    return FileEntry(
        name=text_of_path(entry.name),
        path=text_of_path(entry.path),
        kind=kind,
        size_bytes=status.st_size,
        mode=stat.S_IMODE(status.st_mode),
        uid=status.st_uid,
        gid=status.st_gid,
        modified_at=datetime.fromtimestamp(status.st_mtime_ns // 1_000_000_000, UTC),
        link_target=target,
    )
