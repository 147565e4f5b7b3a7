"""A directory whose every change is written down and can be made to fail: `crash_disk.c`, mounted.

Owns the process and the layout of its log; knows nothing of what is stored there.
"""

import errno
import os
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

SOURCE = Path(__file__).with_name("crash_disk.c")
_HEAD = struct.Struct("<IiQQQIIQ")


class Kind(IntEnum):
    """What a call does; `call_kind` in the C file."""

    MAKE_DIRECTORY = 1
    CREATE = 2
    WRITE = 3
    TRUNCATE = 4
    SYNC = 5
    SYNC_DIRECTORY = 6
    RENAME = 7
    UNLINK = 8
    REMOVE_DIRECTORY = 9
    MARK = 10
    PUNCH = 11
    ALLOCATE = 12


@dataclass(frozen=True, slots=True)
class Call:
    """One line of the log. Paths begin with `/`, the mounted directory. `inode` is 0 where a path names it;
    a number may come again once its file is gone."""

    kind: Kind
    result: int
    inode: int
    offset_bytes: int
    length_bytes: int
    name: str
    other: str
    data: bytes


def read_log(data: bytes) -> list[Call]:
    """Calls in the order in which they were made."""
    calls = []
    at = 0
    while at < len(data):
        kind, result, inode, offset, length, name_bytes, other_bytes, data_bytes = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        name, other = at + name_bytes, at + name_bytes + other_bytes
        end = other + data_bytes
        calls.append(
            Call(
                Kind(kind),
                result,
                inode,
                offset,
                length,
                os.fsdecode(data[at:name]),
                os.fsdecode(data[name:other]),
                data[other:end],
            )
        )
        at = end
    return calls


class CrashDisk:
    """A mounted disk."""

    WRITES = "mcwta"
    """Kinds of calls that a full disk refuses: make directory, create, write, truncate, allocate."""

    def __init__(self, mountpoint: Path, backing: Path, log: Path) -> None:
        self.path = mountpoint
        self.backing = backing
        """The same files, to look at without asking the disk."""
        self._log = log

    def mark(self, text: str) -> None:
        """Put a line of one's own into the log."""
        os.setxattr(self.path, "user.crash.mark", text.encode())

    def calls(self) -> list[Call]:
        """All calls so far."""
        return read_log(self._log.read_bytes())

    def fail(self, kinds: str, nth: int, number: int = errno.ENOSPC, mode: str = "on") -> None:
        """The `nth` call from now of one of `kinds` fails with this errno; all after it too with mode `on`,
        none with `once`; with `half` a write does half of its work first."""
        os.setxattr(self.path, "user.crash.fault", f"{kinds} {nth} {number} {mode}".encode())

    def heal(self) -> None:
        """Fail nothing any more."""
        self.fail("-", 0, 0, "once")

    def failing_count(self) -> int:
        """Calls, since `fail`, of the kinds it named."""
        return int(os.getxattr(self.path, "user.crash.count"))


def build_program(folder: Path) -> Path:
    """Compile the file system."""
    program = folder / "crash_disk"
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "fuse3"], check=True, capture_output=True, text=True
    ).stdout.split()
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Werror"]
    subprocess.run(["gcc", "-std=gnu11", "-O1", *warnings, SOURCE, "-o", program, *flags], check=True)
    return program


@contextmanager
def mounted(program: Path, folder: Path) -> Iterator[CrashDisk]:
    """An empty disk in `folder`, which is made; unmounted at the end."""
    backing, mountpoint, log = folder / "backing", folder / "disk", folder / "calls"
    for path in (folder, backing, mountpoint):
        path.mkdir()
    server = subprocess.Popen([program, backing, log, mountpoint], stdout=subprocess.PIPE)
    assert server.stdout is not None
    try:
        assert server.stdout.readline() == b"mounted\n"
        try:
            yield CrashDisk(mountpoint, backing, log)
        finally:
            subprocess.run(["umount", "--lazy", mountpoint], check=True)
    finally:
        # Not waited for: it would serve on until the last file of a failed test is closed.
        server.kill()
        server.wait()
        server.stdout.close()
