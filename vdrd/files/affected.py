"""Which files of a point need which of the chunks that are damaged. Must not know where chunks are kept."""

from collections.abc import Iterator

from native.segment import loose_entries
from vdrd.files.entry import Entry, EntryFlag, EntryType, parse_loose
from vdrd.files.tree import checked_segment
from vdrd.files.warnings import path_text
from vdrd.formats.manifest import parse_head, parse_list_leaf, parse_list_node, parse_node
from vdrd.model.chunks import ChunkSource
from vdrd.model.errors import Damaged
from vdrd.model.points import FilesRoot

EVERYTHING = "(every file)"


class FilesAffected:
    """Answers for one set of bad chunks and any number of points; what points share is read once."""

    def __init__(self, source: ChunkSource, bad: frozenset[bytes]) -> None:
        self._source = source
        self._bad = bad
        self._clean: set[bytes] = set()

    def of(self, root: FilesRoot) -> list[tuple[bytes, str]]:
        """Bad chunk and path of each file that cannot be restored; where the manifest itself is damaged, the
        paths that it would tell of."""
        if root.root_id is None:
            return []
        try:
            head = parse_head(self._fetch(root.root_id))
        except Damaged:
            return [(root.root_id, EVERYTHING)]
        return list(self._below(head.tree_id, head.levels, b"", b""))

    def _fetch(self, chunk_id: bytes) -> bytes:
        if chunk_id in self._bad:
            raise Damaged(what=f"chunk {chunk_id.hex()}", reason="its record does not hold")
        return self._source.fetch(chunk_id)[0]

    def _below(self, chunk_id: bytes, level: int, after: bytes, last: bytes) -> Iterator[tuple[bytes, str]]:
        if chunk_id in self._clean:
            return
        is_clean = True
        try:
            plain = self._fetch(chunk_id)
            found = self._of_segment(plain) if level == 0 else self._of_node(plain, level, after)
            for one in found:
                is_clean = False
                yield one
        except Damaged:
            is_clean = False
            yield chunk_id, _span(after, last)
        if is_clean:
            self._clean.add(chunk_id)

    def _of_node(self, plain: bytes, level: int, after: bytes) -> Iterator[tuple[bytes, str]]:
        for child in parse_node(plain, level):
            yield from self._below(child.chunk_id, level - 1, after, child.last_path)
            after = child.last_path

    def _of_segment(self, plain: bytes) -> Iterator[tuple[bytes, str]]:
        checked_segment(plain)
        for block in loose_entries(plain):
            for entry in parse_loose(block):
                if entry.type is not EntryType.REGULAR:
                    continue
                for chunk_id in sorted(set(self._of_entry(entry))):
                    yield chunk_id, path_text(entry.path)

    def _of_entry(self, entry: Entry) -> Iterator[bytes]:
        if EntryFlag.LIST in entry.flags:
            root = entry.extents[0]
            if root.chunk_id is not None:
                yield from self._of_list(root.chunk_id, root.offset_bytes)
            return
        yield from (e.chunk_id for e in entry.extents if e.chunk_id is not None and e.chunk_id in self._bad)

    def _of_list(self, chunk_id: bytes, level: int) -> Iterator[bytes]:
        if chunk_id in self._clean:
            return
        is_clean = True
        try:
            plain = self._fetch(chunk_id)
            if level == 0:
                below = (e.chunk_id for e in parse_list_leaf(plain) if e.chunk_id in self._bad)
            else:
                children = parse_list_node(plain, level)
                below = (one for child, _ in children for one in self._of_list(child, level - 1))
            for one in below:
                if one is not None:
                    is_clean = False
                    yield one
        except Damaged:
            is_clean = False
            yield chunk_id
        if is_clean:
            self._clean.add(chunk_id)


def _span(after: bytes, last: bytes) -> str:
    """Words for the paths that a lost part of a manifest told of."""
    if not last:
        return EVERYTHING
    return f"(everything after {path_text(after) or 'the root'} up to {path_text(last)})"
