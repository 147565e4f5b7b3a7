"""The entries a restore is about, as blocks of loose entries in path order: all of a point, or some paths of
it.

Reads only the segments that hold them. Must not know what is done with the entries.
"""

from collections.abc import Iterator, Sequence

from native.segment import loose_entries
from vdrd.files.browse import FileTree, clean_path
from vdrd.files.entry import EntryType, split_loose
from vdrd.formats.manifest import path_key
from vdrd.model.errors import BadInput


class Selection:
    """Paths of a point. NotFound or BadInput at once when one of them is not there."""

    def __init__(self, tree: FileTree, paths: Sequence[str | bytes]) -> None:
        self._tree = tree
        cleaned = sorted({clean_path(path) for path in paths}, key=path_key)
        self.is_all = not cleaned or cleaned[0] == b""
        self.paths: list[bytes] = []
        if self.is_all:
            return
        for path in cleaned:
            if not self.paths or not path.startswith(self.paths[-1] + b"/"):
                tree.find(path)
                self.paths.append(path)

    def parents(self) -> list[bytes]:
        """Directories above the selected paths, in path order, without the root."""
        above = set()
        for path in self.paths:
            parts = path.split(b"/")
            above |= {b"/".join(parts[:count]) for count in range(1, len(parts))}
        return sorted(above, key=path_key)

    def blocks(self, parents: Sequence[bytes] = ()) -> Iterator[bytes]:
        """Loose entries of everything selected, and of those `parents` of it that the caller wants too."""
        if self.is_all:
            for segment in self._tree.segments_from(b""):
                yield from loose_entries(segment)
            return
        wanted = [(path, False) for path in parents] + [(path, True) for path in self.paths]
        for path, is_whole in sorted(wanted, key=lambda item: path_key(item[0])):
            yield from self._blocks_of(path, is_whole)

    def _blocks_of(self, path: bytes, is_whole: bool) -> Iterator[bytes]:
        prefix = path + b"/"
        for segment in self._tree.segments_from(path):
            for block in loose_entries(segment):
                picked = []
                is_past = False
                for record_path, record in split_loose(block):
                    if record_path == path or (is_whole and record_path.startswith(prefix)):
                        picked.append(record)
                    elif path_key(record_path) > path_key(path):
                        is_past = True
                        break
                if picked:
                    yield b"".join(picked)
                if is_past or (picked and not is_whole):
                    return

    def check_parents(self) -> None:
        """BadInput when something above a selected path is not a directory (a manifest made by hand)."""
        for path in self.parents():
            if self._tree.find(path).type is not EntryType.DIRECTORY:
                raise BadInput(what="the point names paths beneath something that is not a directory")
