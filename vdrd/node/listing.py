"""Directories and files of points for people who look into them: pages and parts. Blocking."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice

from schemas.api.hosts import FileEntry
from schemas.control import ListingAnswer, PointBrowseAsk, PointPart, PointReadAsk
from vdrd.disk.browse_messages import VolumeShown
from vdrd.files.browse import FileTree
from vdrd.files.entry import Entry, EntryType
from vdrd.jobs.disk_files import DiskFiles
from vdrd.model.errors import BadInput
from vdrd.model.paths import path_of_text, text_of_path
from vdrd.node.looks import PointLooks
from vdrd.store.storage import Storage

PART_BYTES_MAX = 256 << 10
"""Of one answer: a control link carries heartbeats too."""
_KINDS = {
    EntryType.REGULAR: "file",
    EntryType.DIRECTORY: "directory",
    EntryType.SYMLINK: "symlink",
    EntryType.FIFO: "fifo",
    EntryType.SOCKET: "socket",
    EntryType.CHARACTER: "char",
    EntryType.BLOCK: "block",
}


def _shown(entry: Entry, volumes: dict[str, VolumeShown]) -> FileEntry:
    volume = volumes.get(entry.path.decode("utf-8", "replace"))
    return FileEntry(
        name=text_of_path(entry.name) or "/",
        path="/" + text_of_path(entry.path),
        kind=_KINDS[entry.type],
        size_bytes=entry.size_bytes if volume is None else volume.size_bytes,
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        modified_at=_time(entry.mtime_ns),
        link_target=text_of_path(entry.target) if entry.type is EntryType.SYMLINK else None,
        note="" if volume is None else _note(volume),
    )


def _time(time_ns: int) -> datetime | None:
    """None for a time that no calendar has: a disk's file system may say anything."""
    try:
        return datetime.fromtimestamp(time_ns // 1_000_000_000, UTC)
    except (ValueError, OverflowError, OSError):
        return None


def _note(volume: VolumeShown) -> str:
    known = [volume.holds, volume.label, volume.problem]
    return ", ".join(part for part in known if part)


def browse(looks: PointLooks, storage: Storage, ask: PointBrowseAsk) -> ListingAnswer:
    """A page of a directory; of a disk, volumes are the folders at the top. Raises NotFound,
    VolumeUnreadable."""
    with looks.files(ask.storage_id, storage, ask.point_id) as files:
        after = path_of_text(ask.after) if ask.after is not None else None
        volumes: dict[str, VolumeShown] = {}
        if isinstance(files, DiskFiles):
            volumes = {volume.name: volume for volume in files.volumes()}
            entries = files.entries(path_of_text(ask.path), after=after)
        else:
            entries = _entries(files, path_of_text(ask.path), after)
        found = list(islice(entries, ask.limit + 1))
    return ListingAnswer(
        items=[_shown(entry, volumes) for entry in found[: ask.limit]], has_more=len(found) > ask.limit
    )


def _entries(tree: FileTree, path: bytes, after: bytes | None) -> Iterator[Entry]:
    return (entry for entry in tree.list(path) if after is None or entry.name > after)


def read_part(looks: PointLooks, storage: Storage, ask: PointReadAsk) -> PointPart:
    """A part of a regular file of a point. Raises NotFound, BadInput, VolumeUnreadable, Damaged."""
    path = path_of_text(ask.path)
    length = min(max(ask.length, 0), PART_BYTES_MAX)
    if ask.offset < 0:
        raise BadInput(what="an offset is not negative")
    with looks.files(ask.storage_id, storage, ask.point_id) as files:
        entry = files.find(path)
        reader = files.open_file(path) if isinstance(files, DiskFiles) else files.open_file(entry)
        data = reader.read(ask.offset, length)
    return PointPart(
        data=data,
        size_bytes=entry.size_bytes,
        name=text_of_path(entry.name),
        modified_at=_time(entry.mtime_ns),
    )
