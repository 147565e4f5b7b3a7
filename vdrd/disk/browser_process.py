"""The browser process: reads the volumes of one disk for its parent, with no right to do anything else.

Started by `vdrd.disk.browser` with one descriptor. It gets all bytes of the disk through that descriptor,
and every
import is made before it gives up its rights.
"""

import codecs
import gc
import sys
from collections.abc import Callable

from vdrd.disk import browse_messages as say
from vdrd.disk.confinement import confine
from vdrd.disk.volumes.catalog import Volume, volumes_of
from vdrd.disk.volumes.file_system import CODED, FILE, HOLE, SYMLINK, FileSystem, Node
from vdrd.disk.volumes.ranges import Range, Unreadable, WholeDisk

_PLACES_MAX = 10_000
_NAMES_KEPT = 200_000
_NAME_BYTES_MAX = 1024


class Session:
    """One disk, read for one parent."""

    def __init__(self, disk: Range) -> None:
        self._disk = disk
        self._volumes: list[Volume] | None = None
        self._names: dict[tuple[int, int], list[tuple[bytes, int]]] = {}

    def answer(self, ask: say.Ask) -> say.Answer:
        """Answer one question. Raises anything for damaged volumes."""
        match ask:
            case say.VolumesAsk():
                return say.Volumes([_shown_volume(volume) for volume in self._found()])
            case say.FindAsk(number, names, with_details):
                files = self._files(number)
                ref = self._find(files, names)
                if ref is None:
                    return say.Found(None)
                return say.Found(_shown_entry(files, names[-1] if names else b"", ref, with_details))
            case say.ListAsk():
                return self._list(ask)
            case say.RunsAsk(number, ref, offset):
                files = self._files(number)
                return say.Runs(_places(files, files.node(ref), offset, say.RUNS_MAX))
            case say.ReadAsk(number, ref, offset, length):
                files = self._files(number)
                return say.Content(files.read(files.node(ref), offset, min(length, say.READ_BYTES_MAX)))

    def _found(self) -> list[Volume]:
        if self._volumes is None:
            self._volumes = volumes_of(self._disk)
        return self._volumes

    def _files(self, number: int) -> FileSystem:
        files = self._found()[number].files
        if files is None:
            raise Unreadable(self._found()[number].problem)
        return files

    def _find(self, files: FileSystem, names: list[bytes]) -> int | None:
        ref = files.root_ref
        for name in names:
            if files.node(ref).kind != 2:
                return None
            found = files.find(ref, name)
            if found is None:
                return None
            ref = found
        return ref

    def _list(self, ask: say.ListAsk) -> say.Listed:
        files = self._files(ask.volume)
        names = self._sorted_names(ask.volume, ask.ref, files)
        first = 0 if ask.after is None else _first_after(names, ask.after)
        limit = max(1, min(ask.limit, say.LIST_ENTRIES_MAX))
        entries: list[say.EntryShown] = []
        attribute_bytes = 0
        for name, ref in names[first : first + limit]:
            if attribute_bytes > say.MESSAGE_BYTES_MAX // 4:
                break
            entry = _shown_entry(files, name, ref, ask.with_details)
            attribute_bytes += sum(len(key) + len(value) for key, value in entry.attributes) + len(
                entry.target
            )
            entries.append(entry)
        return say.Listed(entries, first + len(entries) < len(names))

    def _sorted_names(self, volume: int, ref: int, files: FileSystem) -> list[tuple[bytes, int]]:
        """Names of a directory in order; those of the last few stay, for a walk comes back to them."""
        names = self._names.pop((volume, ref), None)
        if names is None:
            # As long as they are shown: pages go by what is shown.
            names = sorted((name[:_NAME_BYTES_MAX], child) for name, child in files.children(ref))
        self._names[(volume, ref)] = names
        total = sum(map(len, self._names.values()))
        while total > _NAMES_KEPT and len(self._names) > 1:
            total -= len(self._names.pop(next(iter(self._names))))
        return names


def _first_after(names: list[tuple[bytes, int]], after: bytes) -> int:
    low, high = 0, len(names)
    while low < high:
        middle = (low + high) // 2
        if names[middle][0] <= after:
            low = middle + 1
        else:
            high = middle
    return low


def _shown_volume(volume: Volume) -> say.VolumeShown:
    places: list[tuple[int, int]] = []
    if volume.whole is not None:
        try:
            for place in volume.whole.pieces(0, volume.size_bytes):
                if len(places) >= _PLACES_MAX:
                    places = []
                    break
                places.append(place)
        except Unreadable:
            places = []
    files = volume.files
    return say.VolumeShown(
        volume.name,
        volume.size_bytes,
        volume.holds,
        volume.label,
        volume.uuid,
        volume.problem,
        files is not None and files.is_unclean,
        files is None or files.has_owners,
        files.root_ref if files is not None else 0,
        places,
    )


def _shown_entry(files: FileSystem, name: bytes, ref: int, with_details: bool) -> say.EntryShown:
    """An entry with what can be read of it: damage of one file is told with it and hides no other."""
    try:
        node = files.node(ref)
    except Exception as error:  # whatever a parser of damaged bytes trips over
        return say.EntryShown(
            name[:_NAME_BYTES_MAX], Node(ref, 0, 0, 0, 0, 0, 0, 0), problem=reason_of(error)
        )
    target, attributes, runs, problem = b"", [], None, ""
    try:
        if node.kind == SYMLINK:
            target = files.link_target(node)
        if with_details:
            attributes = files.attributes(ref)
            if sum(len(key) + len(value) for key, value in attributes) > say.ATTRIBUTES_BYTES_MAX:
                attributes, problem = [], "its attributes are longer than can be kept"
            if node.kind == FILE:
                places = _places(files, node, 0, say.RUNS_SHOWN)
                runs = places if sum(length for length, _ in places) == node.size_bytes else None
    except Exception as error:  # as above
        problem = reason_of(error)
    return say.EntryShown(name[:_NAME_BYTES_MAX], node, target, attributes, runs, problem)


def _places(files: FileSystem, node: Node, offset: int, limit: int) -> list[tuple[int, int]]:
    runs, _ = files.runs(node)
    found: list[tuple[int, int]] = []
    for run in runs:
        end = run.offset + run.length
        if end <= offset:
            continue
        skipped = max(0, offset - run.offset)
        if run.place in (HOLE, CODED):
            found.append((run.length - skipped, run.place))
        else:
            found += _disk_places(files, run.place + skipped, run.length - skipped, limit - len(found))
        if len(found) >= limit:
            break
    return found[:limit]


def _disk_places(files: FileSystem, place: int, length: int, limit: int) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    try:
        for at, count in files.volume.pieces(place, length):
            if len(found) >= limit:
                break
            found.append((count, at))
    except Unreadable:
        # Beyond the end, which reading will tell, or held by a journal.
        return [(length, CODED)]
    return found


def reason_of(error: BaseException) -> str:
    """What to say of an error that reading a volume raised."""
    if isinstance(error, Unreadable):
        return str(error)[:500]
    if isinstance(error, MemoryError):
        return "it needs more memory than its reader may take"
    return f"it is damaged ({type(error).__name__})"


def serve(fd: int, size_bytes: int) -> None:
    """Answer until the parent is gone."""

    def read(offset: int, length: int) -> bytes:
        say.send(fd, say.encode(say.NeedBytes(offset, length)))
        data = say.receive(fd)
        if len(data) != length:
            raise EOFError
        return data

    session = Session(WholeDisk(read, size_bytes))
    while True:
        say.send(fd, _answered(session.answer, say.decode_ask(say.receive(fd))))


def _answered(answer: Callable[[say.Ask], say.Answer], ask: say.Ask) -> bytes:
    """The answer as bytes: the root of each question, where every failure of parsing becomes a fault."""
    try:
        message = say.encode(answer(ask))
        if len(message) <= say.MESSAGE_BYTES_MAX:
            return message
        return say.encode(say.Fault("the answer would be too long"))
    except (OSError, EOFError):
        raise
    except Exception as error:
        gc.collect()
        return say.encode(say.Fault(reason_of(error)))


def main() -> int:
    """`python -m vdrd.disk.browser_process DESCRIPTOR SIZE`."""
    fd, size_bytes = int(sys.argv[1]), int(sys.argv[2])
    for codec in ("utf-16-le", "cp437"):
        codecs.lookup(codec)  # loads a module, which is too late afterwards
    confine()
    try:
        serve(fd, size_bytes)
    except (OSError, EOFError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
