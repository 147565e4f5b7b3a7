"""Looks into a file point: one path, one directory, all entries, the bytes of one file. Reads only what it
needs.
"""

from collections.abc import Iterator

from native.segment import is_safe_path, loose_entries
from vdrd.files.content import FileReader
from vdrd.files.entry import Entry, EntryFlag, EntryType, parse_loose
from vdrd.files.tree import TreeReader
from vdrd.files.warnings import path_text
from vdrd.formats.manifest import path_key
from vdrd.model.chunks import ChunkSource
from vdrd.model.errors import BadInput, NotFound
from vdrd.model.points import FilesRoot


def clean_path(path: str | bytes) -> bytes:
    """A path as a user writes it, as entries have it: '/' at the ends and '.' fall away. BadInput for
    '..'.
    """
    raw = path.encode("utf-8", "surrogateescape") if isinstance(path, str) else path
    parts = [part for part in raw.split(b"/") if part not in (b"", b".")]
    cleaned = b"/".join(parts)
    if not is_safe_path(cleaned):
        raise BadInput(what=f"{path_text(raw)} is not a path within a point")
    return cleaned


class FileTree:
    """One file point, open for reading. Keeps a few nodes of the manifest. Not to be used by two threads at
    once.
    """

    def __init__(self, root: FilesRoot, source: ChunkSource) -> None:
        self._reader = TreeReader(root, source)
        self._source = source
        self.head = self._reader.head

    def segments_from(self, path: bytes) -> Iterator[bytes]:
        """Checked segments in order, from the one that holds `path` or its place on."""
        return self._reader.segments_from(path)

    def entries_from(self, path: bytes) -> Iterator[Entry]:
        """Entries in path order from `path`, or its place, on."""
        wanted = path_key(path)
        for segment in self._reader.segments_from(path):
            for block in loose_entries(segment):
                for entry in parse_loose(block):
                    if path_key(entry.path) >= wanted:
                        yield entry

    def find(self, path: str | bytes) -> Entry:
        """The entry at a path; NotFound."""
        cleaned = clean_path(path)
        entry = next(self.entries_from(cleaned), None)
        if entry is None or entry.path != cleaned:
            raise NotFound(what="path", name=path_text(cleaned))
        return entry

    def subtree(self, path: str | bytes) -> Iterator[Entry]:
        """The entry at a path and all beneath it. NotFound before anything is given."""
        cleaned = clean_path(path)
        self.find(cleaned)
        return self._beneath(cleaned)

    def _beneath(self, path: bytes) -> Iterator[Entry]:
        prefix = path + b"/" if path else b""
        for entry in self.entries_from(path):
            if entry.path != path and not entry.path.startswith(prefix):
                return
            yield entry

    def list(self, path: str | bytes) -> Iterator[Entry]:
        """Entries of a directory by name; a file gives itself. Subtrees are stepped over, not read.
        NotFound.
        """
        found = self.find(path)
        if found.type is not EntryType.DIRECTORY:
            return iter([found])
        return self._children(found.path)

    def _children(self, path: bytes) -> Iterator[Entry]:
        prefix = path + b"/" if path else b""
        after: bytes | None = prefix
        while after is not None:
            begin, after = after, None
            seen = 0
            for entry in self.entries_from(begin):
                if not entry.path.startswith(prefix):
                    return
                if entry.path == path:
                    continue
                seen += 1
                if b"/" not in entry.path[len(prefix) :]:
                    yield entry
                    seen = 0
                elif seen > _STEP_OVER_ENTRIES:
                    # the first key that is not beneath this child: beneath, '/' (as NUL) follows its name
                    child = prefix + entry.path[len(prefix) :].split(b"/", 1)[0]
                    after = child + b"\x01"
                    break

    def open_file(self, entry: Entry) -> FileReader:
        """Reader of a regular file. BadInput for another type or a file whose content was not kept."""
        name = path_text(entry.path)
        if entry.type is not EntryType.REGULAR:
            raise BadInput(what=f"{name} is not a regular file")
        if EntryFlag.UNREADABLE in entry.flags:
            raise BadInput(what=f"{name} could not be read when it was backed up")
        return FileReader(entry, self._source)


_STEP_OVER_ENTRIES = 400
"""Entries of a child's subtree read in sequence (about a segment) before it is stepped over by a search."""


def list_entries(root: FilesRoot, source: ChunkSource, path: str | bytes = b"") -> list[Entry]:
    """Entries of one directory of a point, or the one file there."""
    return list(FileTree(root, source).list(path))


def iterate(root: FilesRoot, source: ChunkSource) -> Iterator[Entry]:
    """All entries of a point in path order, in bounded memory."""
    return FileTree(root, source).entries_from(b"")


def open_file(entry: Entry, source: ChunkSource) -> FileReader:
    """Random access to the content of a regular file."""
    return FileReader(entry, source)
