"""A file system of the files of a point, read-only.

Written against a small interface, because this package does not know how points keep files. Inode numbers
live as long as the kernel remembers them; all names of one file have the same.
"""

import errno
import os
import stat
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import pyfuse3
import trio

from fuse_nfs.mount import failed
from fuse_nfs.read_only import ReadOnlyFileSystem
from vdrd.model.errors import BadInput, NotFound, VdrError

_TYPES = {
    1: stat.S_IFREG,
    2: stat.S_IFDIR,
    3: stat.S_IFLNK,
    4: stat.S_IFIFO,
    5: stat.S_IFSOCK,
    6: stat.S_IFCHR,
    7: stat.S_IFBLK,
}
_DIRECTORY, _SYMLINK = 2, 3
_LISTED_ENTRIES_MAX = 50_000
"""Entries of the directories kept, about 1 KiB each."""
_KEPT_SECONDS = 3600.0
"""The content never changes, so the kernel may keep names and attributes."""


class TreeEntry(Protocol):
    """One path of a point."""

    @property
    def path(self) -> bytes: ...  # noqa: D102
    @property
    def type(self) -> int: ...  # noqa: D102
    @property
    def mode(self) -> int: ...  # noqa: D102
    @property
    def uid(self) -> int: ...  # noqa: D102
    @property
    def gid(self) -> int: ...  # noqa: D102
    @property
    def size_bytes(self) -> int: ...  # noqa: D102
    @property
    def mtime_ns(self) -> int: ...  # noqa: D102
    @property
    def ctime_ns(self) -> int: ...  # noqa: D102
    @property
    def node_device(self) -> tuple[int, int]: ...  # noqa: D102
    @property
    def link_count(self) -> int: ...  # noqa: D102
    @property
    def target(self) -> bytes: ...  # noqa: D102
    @property
    def attributes(self) -> tuple[tuple[bytes, bytes], ...]: ...  # noqa: D102
    @property
    def name(self) -> bytes:
        """Last component of the path."""

    @property
    def link_group(self) -> tuple[int, int, int] | None:
        """Same for all names of one file with several."""


class TreeFile(Protocol):
    """A regular file to read, by one thread at a time."""

    def read(self, offset_bytes: int, length_bytes: int) -> bytes:
        """Fewer bytes only at the file's end."""


class Tree(Protocol):
    """Files of a point, for one thread at a time."""

    def find(self, path: bytes) -> TreeEntry:
        """NotFound if there is nothing."""

    def list(self, path: bytes) -> Iterator[TreeEntry]:
        """Entries of a directory."""

    def open_file(self, entry: Any) -> TreeFile:
        """Content of an entry that this tree gave. BadInput for what has none."""


@dataclass(slots=True)
class _Node:
    """What the kernel knows by a number."""

    entry: TreeEntry
    key: object
    lookups: int = 0


@dataclass(slots=True)
class _OpenFile:
    name: bytes
    reader: TreeFile
    turn: trio.Lock = field(default_factory=trio.Lock)


class _Listings:
    """Directories read lately, by path. Finding one name costs as much as reading some hundred entries."""

    def __init__(self) -> None:
        self._kept: OrderedDict[bytes, dict[bytes, TreeEntry]] = OrderedDict()
        self._entries = 0

    def keep(self, path: bytes, entries: Sequence[TreeEntry]) -> None:
        self._entries -= len(self._kept.pop(path, {}))
        self._kept[path] = {entry.name: entry for entry in entries}
        self._entries += len(self._kept[path])
        while self._entries > _LISTED_ENTRIES_MAX and len(self._kept) > 1:
            self._entries -= len(self._kept.popitem(last=False)[1])

    def get(self, path: bytes) -> dict[bytes, TreeEntry] | None:
        return self._kept.get(path)


class TreeFileSystem(ReadOnlyFileSystem):
    """The tree from its root. What the store does runs in threads; numbers and handles change on the loop."""

    def __init__(self, tree: Tree, *, size_bytes: int, files: int) -> None:
        super().__init__(size_bytes, files)
        self._tree = tree
        self._turn = trio.Lock()
        root = tree.find(b"")
        self._nodes: dict[int, _Node] = {pyfuse3.ROOT_INODE: _Node(root, b"", 1)}
        self._numbers: dict[object, int] = {b"": pyfuse3.ROOT_INODE}
        self._next_number = pyfuse3.ROOT_INODE + 1
        self._listings = _Listings()
        self._directories: dict[int, Sequence[TreeEntry]] = {}
        self._files: dict[int, _OpenFile] = {}
        self._next_handle = 1

    def _number(self, entry: TreeEntry) -> int:
        """The entry's inode number, made on first use."""
        key = entry.link_group or entry.path
        number = self._numbers.get(key)
        if number is None:
            number = self._next_number
            self._next_number += 1
            self._numbers[key] = number
            self._nodes[number] = _Node(entry, key)
        return number

    def _remember(self, entry: TreeEntry) -> pyfuse3.EntryAttributes:
        """Attributes for an answer by which the kernel learns the entry."""
        number = self._number(entry)
        self._nodes[number].lookups += 1
        return _attributes(entry, number)

    def _forget(self, number: int, lookups: int) -> None:
        node = self._nodes.get(number)
        if node is None or number == pyfuse3.ROOT_INODE:
            return
        node.lookups -= lookups
        if node.lookups <= 0:
            del self._nodes[number]
            del self._numbers[node.key]

    def _take_handle(self) -> pyfuse3.FileHandleT:
        self._next_handle += 1
        return pyfuse3.FileHandleT(self._next_handle)

    def _entry(self, inode: int) -> TreeEntry:
        return self._nodes[inode].entry

    async def lookup(  # noqa: D102
        self, parent_inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        parent = self._entry(parent_inode)
        if parent.type != _DIRECTORY:
            raise pyfuse3.FUSEError(errno.ENOTDIR)
        listing = self._listings.get(parent.path)
        if listing is not None:
            if name not in listing:
                raise pyfuse3.FUSEError(errno.ENOENT)
            return self._remember(listing[name])
        path = b"/".join(part for part in (parent.path, name) if part)
        try:
            async with self._turn:
                entry = await trio.to_thread.run_sync(self._tree.find, path)
        except (NotFound, BadInput) as error:
            raise pyfuse3.FUSEError(errno.ENOENT) from error
        except (VdrError, OSError) as error:
            raise failed(error, os.fsdecode(path)) from error
        return self._remember(entry)

    async def forget(self, inode_list: Sequence[tuple[pyfuse3.InodeT, int]]) -> None:  # noqa: D102
        for inode, lookups in inode_list:
            self._forget(inode, lookups)

    async def getattr(  # noqa: D102
        self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.EntryAttributes:
        return _attributes(self._entry(inode), inode)

    async def readlink(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> bytes:  # noqa: D102
        return self._entry(inode).target

    async def listxattr(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> list[bytes]:  # noqa: D102
        return [name for name, _ in self._entry(inode).attributes]

    async def getxattr(  # noqa: D102
        self, inode: pyfuse3.InodeT, name: bytes, ctx: pyfuse3.RequestContext
    ) -> bytes:
        for found, value in self._entry(inode).attributes:
            if found == name:
                return value
        raise pyfuse3.FUSEError(pyfuse3.ENOATTR)

    async def opendir(self, inode: pyfuse3.InodeT, ctx: pyfuse3.RequestContext) -> pyfuse3.FileHandleT:  # noqa: D102
        path = self._entry(inode).path
        known = self._listings.get(path)
        if known is not None:
            entries: Sequence[TreeEntry] = [*known.values()]
        else:
            entries = await self._list(path)
        handle = self._take_handle()
        self._directories[handle] = entries
        return handle

    async def _list(self, path: bytes) -> Sequence[TreeEntry]:
        try:
            async with self._turn:
                entries = await trio.to_thread.run_sync(partial(_entries, self._tree, path))
        except (VdrError, OSError) as error:
            raise failed(error, os.fsdecode(path)) from error
        self._listings.keep(path, entries)
        return entries

    async def readdir(  # noqa: D102
        self, fh: pyfuse3.FileHandleT, start_id: int, token: pyfuse3.ReaddirToken
    ) -> None:
        entries = self._directories[fh]
        for number in range(start_id, len(entries)):
            entry = entries[number]
            if not pyfuse3.readdir_reply(token, entry.name, self._remember(entry), number + 1):
                self._forget(self._number(entry), 1)
                return

    async def releasedir(self, fh: pyfuse3.FileHandleT) -> None:  # noqa: D102
        del self._directories[fh]

    async def open(  # noqa: D102
        self, inode: pyfuse3.InodeT, flags: pyfuse3.FlagT, ctx: pyfuse3.RequestContext
    ) -> pyfuse3.FileInfo:
        if flags & (os.O_RDWR | os.O_WRONLY):
            raise pyfuse3.FUSEError(errno.EROFS)
        entry = self._entry(inode)
        try:
            reader = self._tree.open_file(entry)
        except VdrError as error:
            raise failed(error, os.fsdecode(entry.path)) from error
        handle = self._take_handle()
        self._files[handle] = _OpenFile(entry.path, reader)
        return pyfuse3.FileInfo(fh=handle, keep_cache=True)

    async def read(self, fh: pyfuse3.FileHandleT, off: int, size: int) -> bytes:  # noqa: D102
        opened = self._files[fh]
        try:
            async with opened.turn:
                return await trio.to_thread.run_sync(opened.reader.read, off, size)
        except (VdrError, OSError) as error:
            raise failed(error, os.fsdecode(opened.name)) from error

    async def release(self, fh: pyfuse3.FileHandleT) -> None:  # noqa: D102
        del self._files[fh]


def _entries(tree: Tree, path: bytes) -> Sequence[TreeEntry]:
    return [*tree.list(path)]


def _attributes(entry: TreeEntry, number: int) -> pyfuse3.EntryAttributes:
    made = pyfuse3.EntryAttributes()
    made.st_ino = pyfuse3.InodeT(number)
    made.st_mode = pyfuse3.ModeT(_TYPES[entry.type] | entry.mode)
    made.st_nlink = entry.link_count
    made.st_uid = entry.uid
    made.st_gid = entry.gid
    made.st_rdev = os.makedev(*entry.node_device)
    made.st_size = len(entry.target) if entry.type == _SYMLINK else entry.size_bytes
    made.st_blksize = 1 << 16
    made.st_blocks = -(-entry.size_bytes // 512)
    made.st_atime_ns = made.st_mtime_ns = entry.mtime_ns
    made.st_ctime_ns = entry.ctime_ns
    made.entry_timeout = made.attr_timeout = _KEPT_SECONDS
    return made
