"""An independent look at a tree: plain os calls, none of the product's code. What it returns is compared for
equality."""

import array
import errno
import fcntl
import hashlib
import os
import stat
from dataclasses import dataclass

FS_IOC_GETFLAGS = 0x80086601
FLAGS = {0x10: "immutable", 0x20: "append", 0x40: "nodump", 0x80: "noatime", 0x8: "sync"}


@dataclass(frozen=True)
class Seen:
    """Everything of one path that a restore must bring back."""

    type: int
    mode: int
    uid: int
    gid: int
    mtime_ns: int
    size: int
    rdev: int
    target: bytes
    xattrs: tuple[tuple[str, bytes], ...]
    flags: tuple[str, ...]
    digest: str
    holes: tuple[tuple[int, int], ...]
    """Data ranges of a sparse file."""
    links: tuple[bytes, ...]
    """Names of the same inode within the tree."""


def walk(root: os.PathLike[str] | str) -> dict[bytes, Seen]:
    """Every path beneath root, itself as b'', without crossing symbolic links. Works at any depth."""
    found: dict[bytes, dict[str, object]] = {}
    inodes: dict[tuple[int, int], list[bytes]] = {}
    root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _walk(root_fd, b"", found, inodes)
        found[b""] = _look(root_fd, b".", os.fstat(root_fd))
    finally:
        os.close(root_fd)
    names = {path: tuple(sorted(paths)) for paths in inodes.values() for path in paths if len(paths) > 1}
    return {path: Seen(links=names.get(path, ()), **fields) for path, fields in found.items()}


def _walk(
    fd: int, prefix: bytes, found: dict[bytes, dict[str, object]], inodes: dict[tuple[int, int], list[bytes]]
) -> None:
    for name in sorted(os.fsencode(entry) for entry in os.listdir(fd)):
        info = os.stat(name, dir_fd=fd, follow_symlinks=False)
        path = prefix + name
        found[path] = _look(fd, name, info)
        if not stat.S_ISDIR(info.st_mode):
            inodes.setdefault((info.st_dev, info.st_ino), []).append(path)
            continue
        below = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
        try:
            _walk(below, path + b"/", found, inodes)
        finally:
            os.close(below)


def _look(fd: int, name: bytes, info: os.stat_result) -> dict[str, object]:
    kind = stat.S_IFMT(info.st_mode)
    held = f"/proc/self/fd/{fd}/".encode() + name
    fields: dict[str, object] = {
        "type": kind,
        "mode": stat.S_IMODE(info.st_mode),
        "uid": info.st_uid,
        "gid": info.st_gid,
        "mtime_ns": info.st_mtime_ns,
        "size": info.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0,
        "rdev": info.st_rdev if kind in (stat.S_IFCHR, stat.S_IFBLK) else 0,
        "target": os.readlink(name, dir_fd=fd) if kind == stat.S_IFLNK else b"",
        "xattrs": tuple(
            (attribute, os.getxattr(held, attribute, follow_symlinks=False))
            for attribute in sorted(os.listxattr(held, follow_symlinks=False))
        ),
        "flags": (),
        "digest": "",
        "holes": (),
    }
    if kind in (stat.S_IFREG, stat.S_IFDIR):
        file_fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=fd)
        try:
            fields["flags"] = _flags(file_fd)
            if kind == stat.S_IFREG:
                fields["digest"], fields["holes"] = _content(file_fd, info)
        finally:
            os.close(file_fd)
    return fields


def _flags(fd: int) -> tuple[str, ...]:
    value = array.array("l", [0])
    try:
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, value)
    except OSError:
        return ()
    return tuple(name for bit, name in FLAGS.items() if value[0] & bit)


def _content(fd: int, info: os.stat_result) -> tuple[str, tuple[tuple[int, int], ...]]:
    digest = hashlib.sha256()
    ranges = []
    at = 0
    is_sparse = info.st_blocks * 512 < info.st_size and info.st_size >= 8192
    while at < info.st_size:
        try:
            begin = os.lseek(fd, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break
        end = os.lseek(fd, begin, os.SEEK_HOLE)
        if is_sparse:
            ranges.append((begin, end))
            digest.update(f"{begin}-{end}:".encode())
        at = begin
        while at < end:
            part = os.pread(fd, min(1 << 20, end - at), at)
            assert part
            digest.update(part)
            at += len(part)
    return digest.hexdigest(), tuple(ranges)


def differences(left: dict[bytes, Seen], right: dict[bytes, Seen], *, limit: int = 10) -> list[str]:
    """What is not the same, in words; empty when nothing is."""
    texts = [f"only left: {path!r}" for path in sorted(left.keys() - right.keys())]
    texts += [f"only right: {path!r}" for path in sorted(right.keys() - left.keys())]
    for path in sorted(left.keys() & right.keys()):
        if left[path] != right[path]:
            fields = [
                f for f in Seen.__dataclass_fields__ if getattr(left[path], f) != getattr(right[path], f)
            ]
            texts.append(
                f"{path!r}: "
                + ", ".join(f"{f} {getattr(left[path], f)!r} != {getattr(right[path], f)!r}" for f in fields)
            )
    return texts[:limit]
