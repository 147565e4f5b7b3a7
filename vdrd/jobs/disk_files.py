"""The files within a disk point as a tree: volumes are its top-level folders. Listed, read, searched,
restored.

Knows how what the browser process tells becomes entries of a tree; must not know file systems.
"""

import fnmatch
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from native.segment import is_safe_path
from vdrd.disk.browse_messages import EntryShown, VolumeShown
from vdrd.disk.browser import ANSWER_SECONDS, DiskBrowser, GuestFile, checked_places
from vdrd.disk.source import DiskSource
from vdrd.disk.volumes.file_system import CODED, DIRECTORY, FILE, HOLE
from vdrd.files.browse import clean_path
from vdrd.files.entry import Entry, EntryFlag, EntryType
from vdrd.files.made_tree import PIECE_BYTES_MAX, MadeTree, Place
from vdrd.formats.manifest import path_key
from vdrd.model.errors import BadInput, NotFound, VolumeUnreadable
from vdrd.model.paths import text_of_path
from vdrd.model.points import FilesRoot
from vdrd.model.progress import Cancel

_NAME_BYTES_MAX = 255
_SIZE_BYTES_MAX = (1 << 63) - 1
_ATTRIBUTE_BYTES_MAX, _ATTRIBUTE_HEAD_BYTES = 262_144, 6
_DEPTH_MAX = 512
_PATH_BYTES_MAX = 16_384
_WARNINGS_KEPT = 1000
_ON_DISK, _BY_PROCESS = 1, 2
_NO_HASH = bytes(16)


@dataclass
class Warnings:
    """What was left out, and why: the first ones, and how many."""

    first: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, text: str) -> None:
        """One more."""
        self.count += 1
        if len(self.first) < _WARNINGS_KEPT:
            self.first.append(text)


@dataclass(frozen=True)
class DiskFilesPoint:
    """A file point made of paths within a disk, for `restore_files`."""

    root: FilesRoot
    source: MadeTree
    warnings: Warnings


@dataclass(frozen=True)
class _Place:
    """What stands at a path: an entry of a volume, or a folder above the volumes."""

    path: bytes
    volume: int | None
    shown: EntryShown | None


class DiskFiles:
    """Files of one disk. For one thread at a time; close it to end its process. The disk stays the
    caller's."""

    def __init__(self, disk: DiskSource, *, answer_seconds: float = ANSWER_SECONDS) -> None:
        self._disk = disk
        self._browser = DiskBrowser(disk, answer_seconds=answer_seconds)

    def close(self) -> None:
        """End the process."""
        self._browser.close()

    def __enter__(self) -> "DiskFiles":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def peak_memory_bytes(self) -> int:
        """Most memory that the process had so far; 0 if there is none."""
        return self._browser.peak_memory_bytes()

    # ---- looking ---------------------------------------------------------------------------------------

    def volumes(self) -> list[VolumeShown]:
        """All volumes, those that cannot be read too."""
        return self._browser.volumes()

    def volume(self, name: str) -> VolumeShown:
        """The volume with that folder. Raises NotFound."""
        wanted = name.strip("/")
        for volume in self.volumes():
            if volume.name == wanted:
                return volume
        names = ", ".join(volume.name for volume in self.volumes())
        raise NotFound(what="volume", name=f"{name} (there are: {names})")

    def volume_places(self, name: str) -> list[tuple[int, int]]:
        """Where a volume stands on the disk, as (offset, length) in order. Raises NotFound,
        VolumeUnreadable."""
        volume = self.volume(name)
        if not volume.places:
            reason = volume.problem or "it stands in too many places"
            raise VolumeUnreadable(name=volume.name, reason=reason)
        return checked_places(volume.places, self._disk.size_bytes)

    def find(self, path: str | bytes) -> Entry:
        """The entry at a path. Raises NotFound, VolumeUnreadable, BadInput."""
        return self._entry(self._place(clean_path(path)))

    def entries(self, path: str | bytes, *, after: bytes | None = None) -> Iterator[Entry]:
        """Entries of a directory by name, from the one after `after`; a file gives itself. Raises as
        `find`."""
        place = self._place(clean_path(path))
        if place.volume is None:
            return self._folders(place.path, after)
        if place.shown is None or place.shown.node.kind != DIRECTORY:
            return iter([self._entry(place)])
        return self._children(place, place.shown, after)

    def open_file(self, path: str | bytes) -> GuestFile:
        """Reader of a regular file. Raises as `find`."""
        place = self._place(clean_path(path))
        if place.volume is None or place.shown is None or place.shown.node.kind != FILE:
            raise BadInput(what=f"{text_of_path(place.path)} is not a regular file")
        return GuestFile(self._browser, place.volume, place.shown)

    def search(
        self,
        path: str | bytes,
        pattern: str,
        *,
        limit: int,
        cancel: Cancel,
        warnings: Warnings | None = None,
    ) -> Iterator[Entry]:
        """Entries at and beneath a path whose name fits a glob, at most `limit`; `warnings` takes what could
        not
        be looked into."""
        warnings = Warnings() if warnings is None else warnings
        wanted = pattern.encode("utf-8", "surrogateescape")
        found = 0
        for place in self._walk([clean_path(path)], warnings, with_details=False):
            cancel.check()
            if place.path and fnmatch.fnmatchcase(place.path.rpartition(b"/")[2], wanted):
                yield self._entry(place)
                found += 1
                if found >= limit:
                    return

    # ---- restoring -------------------------------------------------------------------------------------

    def as_point(self, paths: Sequence[str | bytes], cancel: Cancel) -> DiskFilesPoint:
        """A file point of these paths (all that can be read if there are none) with what stands above them.

        What cannot be restored as it was is a warning. Raises NotFound, BadInput, VolumeUnreadable for a path
        in a volume that cannot be read.
        """
        cleaned = sorted({clean_path(path) for path in paths} or {b""}, key=path_key)
        warnings = Warnings()
        made = MadeTree(self._read_place)
        for place in self._walk(cleaned, warnings, with_details=True):
            cancel.check()
            self._add(made, place, warnings)
        return DiskFilesPoint(made.finish(), made, warnings)

    def _add(self, made: MadeTree, place: _Place, warnings: Warnings) -> None:
        entry = self._entry(place)
        if place.volume is None or place.shown is None:
            made.add(entry)
            return
        if len(entry.attributes) != len(place.shown.attributes):
            warnings.add(f"{text_of_path(place.path)}: some attributes are none that Linux can have")
        if place.shown.problem:
            warnings.add(f"{text_of_path(place.path)}: {place.shown.problem}")
        if entry.type is not EntryType.REGULAR or not entry.size_bytes:
            made.add(entry)
            return
        try:
            runs = list(self._placed_runs(place.volume, place.shown))
        except VolumeUnreadable as error:
            warnings.add(f"{text_of_path(place.path)}: {error}")
            made.add(replace(entry, flags=EntryFlag.UNREADABLE))
            return
        made.add(entry, runs)

    def _placed_runs(self, volume: int, shown: EntryShown) -> Iterator[tuple[int, Place | None]]:
        node = shown.node
        runs = shown.runs if shown.runs is not None else self._browser.runs(volume, node.ref, node.size_bytes)
        at = 0
        for length, place in runs:
            if place == HOLE:
                yield length, None
            elif place == CODED:
                yield length, (_BY_PROCESS, volume, 0, at, node.ref)
            else:
                yield length, (_ON_DISK, volume, 0, place, 0)
            at += length
        if at != node.size_bytes:
            raise VolumeUnreadable(name=self.volumes()[volume].name, reason="a file is shorter than it says")

    def _read_place(self, place: Place) -> bytes:
        kind, volume, length, offset, ref = place
        if kind == _ON_DISK:
            return self._browser.read_disk(offset, length)
        return self._browser.read_coded(volume, ref, offset, min(length, PIECE_BYTES_MAX))

    # ---- the tree --------------------------------------------------------------------------------------

    def _place(self, path: bytes) -> _Place:
        prefix = path + b"/" if path else b""
        for number, volume in enumerate(self.volumes()):
            name = volume.name.encode()
            if path == name or path.startswith(name + b"/"):
                if volume.problem:
                    raise VolumeUnreadable(name=volume.name, reason=volume.problem)
                rest = path[len(name) + 1 :]
                shown = self._browser.find(number, rest.split(b"/") if rest else [])
                if shown is None:
                    break
                problem = _reason_to_skip(shown, path) if rest else ""
                if problem:
                    raise VolumeUnreadable(name=volume.name, reason=f"{text_of_path(rest)}: {problem}")
                return _Place(path, number, shown)
            if name.startswith(prefix):
                return _Place(path, None, None)
        if not path:
            return _Place(path, None, None)
        raise NotFound(what="path", name=text_of_path(path))

    def _folder_names(self, path: bytes) -> list[tuple[bytes, int | None]]:
        """Folders directly beneath one that is above volumes, by name, with the volume that one is."""
        prefix = path + b"/" if path else b""
        found: dict[bytes, int | None] = {}
        for number, volume in enumerate(self.volumes()):
            name = volume.name.encode()
            if name.startswith(prefix):
                first, slash, _ = name[len(prefix) :].partition(b"/")
                found.setdefault(first, None if slash else number)
        return sorted(found.items())

    def _folders(self, path: bytes, after: bytes | None) -> Iterator[Entry]:
        for name, number in self._folder_names(path):
            if after is None or name > after:
                below = path + b"/" + name if path else name
                yield self._entry(self._folder(below, number, None))

    def _folder(self, path: bytes, number: int | None, warnings: Warnings | None) -> _Place:
        """A volume's folder, with the attributes of its root if that can be read."""
        if number is None or self.volumes()[number].problem:
            return _Place(path, None, None)
        try:
            return _Place(path, number, self._browser.find(number, []))
        except VolumeUnreadable as error:
            if warnings is not None:
                warnings.add(str(error))
            return _Place(path, None, None)

    def _children(self, place: _Place, shown: EntryShown, after: bytes | None) -> Iterator[Entry]:
        assert place.volume is not None
        for child in self._browser.entries(place.volume, shown.node.ref, after=after):
            yield self._entry(_Place(place.path + b"/" + child.name, place.volume, child))

    def _walk(self, paths: list[bytes], warnings: Warnings, *, with_details: bool) -> Iterator[_Place]:
        """What stands above the paths, at them and beneath them, in path order."""
        given: set[bytes] = set()
        for path in paths:
            if any(path == one or path.startswith(one + b"/") or not one for one in paths if one != path):
                continue
            parts = path.split(b"/") if path else []
            for count in range(len(parts)):
                above = b"/".join(parts[:count])
                if above not in given:
                    given.add(above)
                    yield self._place(above)
            yield from self._subtree(self._place(path), warnings, with_details)

    def _subtree(self, place: _Place, warnings: Warnings, with_details: bool) -> Iterator[_Place]:
        yield place
        if place.volume is None:
            for name, number in self._folder_names(place.path):
                below = place.path + b"/" + name if place.path else name
                volume = self.volumes()[number] if number is not None else None
                if volume is not None and volume.problem:
                    warnings.add(f"volume {volume.name} cannot be read: {volume.problem}")
                    continue
                yield from self._subtree(self._folder(below, number, warnings), warnings, with_details)
            return
        volume = self.volumes()[place.volume]
        if place.path == volume.name.encode():
            _warn_of_volume(volume, warnings)
        yield from self._beneath(place.volume, place, warnings, with_details)

    def _beneath(self, volume: int, top: _Place, warnings: Warnings, with_details: bool) -> Iterator[_Place]:
        """Depth first, without recursion: how deep a hostile directory goes is not for it to say."""
        if top.shown is None or top.shown.node.kind != DIRECTORY:
            return
        trail = [top.shown.node.ref]
        paths = [top.path]
        open_lists = [self._browser.entries(volume, trail[0], with_details=with_details)]
        while open_lists:
            try:
                child = next(open_lists[-1], None)
            except VolumeUnreadable as error:
                warnings.add(f"{text_of_path(paths[-1])}: {error}")
                child = None
            if child is None:
                open_lists.pop()
                trail.pop()
                paths.pop()
                continue
            path = paths[-1] + b"/" + child.name
            problem = _reason_to_skip(child, path)
            if problem:
                warnings.add(f"{text_of_path(path)}: {problem}")
                continue
            yield _Place(path, volume, child)
            if child.node.kind == DIRECTORY:
                if child.node.ref in trail or len(trail) >= _DEPTH_MAX:
                    warnings.add(f"{text_of_path(path)}: directories go in a circle")
                    continue
                trail.append(child.node.ref)
                paths.append(path)
                open_lists.append(self._browser.entries(volume, child.node.ref, with_details=with_details))

    def _entry(self, place: _Place) -> Entry:
        if place.shown is None:
            return _folder_entry(place.path)
        node = place.shown.node
        is_directory = node.kind in (0, DIRECTORY)
        return Entry(
            path=place.path,
            type=EntryType(node.kind or FILE),
            flags=EntryFlag(0) if node.kind else EntryFlag.UNREADABLE,
            mode=node.mode & 0o7777,
            uid=node.uid & 0xFFFFFFFF,
            gid=node.gid & 0xFFFFFFFF,
            inode_flags=0,
            size_bytes=node.size_bytes if node.kind == FILE else 0,
            mtime_ns=node.mtime_ns,
            ctime_ns=node.ctime_ns,
            inode=node.ref & 0xFFFFFFFFFFFFFFFF,
            device=(0, (place.volume or 0) + 1),
            node_device=(node.device[0] & 0xFFFFFFFF, node.device[1] & 0xFFFFFFFF),
            link_count=1 if is_directory else min(max(1, node.link_count), 0xFFFFFFFF),
            target=place.shown.target if node.kind == EntryType.SYMLINK else b"",
            attributes=_kept_attributes(place.shown.attributes),
            extents=(),
            content_hash=_NO_HASH,
        )


def _reason_to_skip(shown: EntryShown, path: bytes) -> str:
    """Why an entry is not restored or entered; empty if it is."""
    if (
        len(shown.name) > _NAME_BYTES_MAX
        or not is_safe_path(shown.name)
        or b"/" in shown.name
        or not shown.name
    ):
        return "its name cannot stand in a directory of Linux"
    if len(path) > _PATH_BYTES_MAX:
        return "its path is too long"
    if shown.node.kind == 0:
        return shown.problem or "it is damaged"
    if not 0 <= shown.node.size_bytes <= _SIZE_BYTES_MAX:
        return "a file of impossible length"
    if shown.node.kind == EntryType.SYMLINK and (not shown.target or b"\0" in shown.target):
        return shown.problem or "a symbolic link to nowhere"
    return ""


def _kept_attributes(attributes: Sequence[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Those that Linux can have: a name of 1 to 255 bytes, each once, not too much of all."""
    kept: dict[bytes, bytes] = {}
    room = _ATTRIBUTE_BYTES_MAX
    for name, value in attributes:
        room -= len(name) + len(value) + _ATTRIBUTE_HEAD_BYTES
        if 0 < len(name) <= _NAME_BYTES_MAX and b"\0" not in name and room >= 0:
            kept.setdefault(name, value)
    return tuple(sorted(kept.items()))


def _warn_of_volume(volume: VolumeShown, warnings: Warnings) -> None:
    if volume.is_unclean:
        warnings.add(f"volume {volume.name} was in use: changes that stand in its journal alone are missing")
    if not volume.has_owners:
        warnings.add(f"volume {volume.name} ({volume.holds}) keeps no Linux owners, modes and attributes")


def _folder_entry(path: bytes) -> Entry:
    return Entry(
        path=path,
        type=EntryType.DIRECTORY,
        flags=EntryFlag(0),
        mode=0o755,
        uid=0,
        gid=0,
        inode_flags=0,
        size_bytes=0,
        mtime_ns=0,
        ctime_ns=0,
        inode=0,
        device=(0, 0),
        node_device=(0, 0),
        link_count=1,
        target=b"",
        attributes=(),
        extents=(),
        content_hash=_NO_HASH,
    )
