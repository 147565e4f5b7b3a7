"""Lists a directory tree in path order (contract: `csrc/scan.h`)."""

from collections.abc import Sequence
from typing import Any

from native import buffer
from native._core import ffi, lib
from native.err import NativeError, check
from native.event import EventList

_OUT_BYTES = 256 << 10


class Scan:
    """One pass over a tree. For one thread; `root_fd` must stay open meanwhile.

    `skips` are (device major, device minor, inode) of directories to leave out; `rules` a `glob.rule_list`.
    """

    def __init__(
        self,
        root_fd: int,
        *,
        rules: bytes = b"",
        crosses: bool = False,
        skips: Sequence[tuple[int, int, int]] = (),
    ) -> None:
        listed = ffi.new(
            "vdr_scan_skip[]", [{"dev_major": a, "dev_minor": b, "inode": c} for a, b, c in skips]
        )
        handle = lib.vdr_scan_open(root_fd, buffer.readable(rules), len(rules), crosses, listed, len(skips))
        if handle == ffi.NULL:
            raise NativeError("memory", "scan")
        self._handle = ffi.gc(handle, lib.vdr_scan_close)
        self._out = ffi.new("uint64_t[]", _OUT_BYTES // 8)
        self.events = EventList()
        self.pointer: Any = ffi.cast("uint8_t *", self._out)
        """Where `next_bytes` puts the entries."""

    def close(self) -> None:
        """Close the directories it holds; not usable afterwards."""
        ffi.release(self._handle)

    def next_bytes(self) -> int:
        """Write the next loose entries to `pointer`; their bytes, maybe 0. OSError when the root cannot be
        read.
        """
        return check(lib.vdr_scan_next(self._handle, self.pointer, _OUT_BYTES, self.events.handle), "scan")

    @property
    def is_end(self) -> bool:
        """True when every entry was given."""
        return bool(lib.vdr_scan_is_end(self._handle))

    def owners(self, *, groups: bool = False) -> list[int]:
        """User (or group) ids of the entries so far."""
        out = ffi.new("uint32_t[]", 4096)
        return list(out[0 : lib.vdr_scan_owners(self._handle, groups, out, 4096)])


def is_pseudo(fd: int) -> bool:
    """True if the file system of `fd` is a pseudo one such as proc."""
    return bool(check(lib.vdr_scan_is_pseudo(fd), "statfs"))
