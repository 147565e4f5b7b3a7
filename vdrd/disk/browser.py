"""Files of a disk, read by a process of its own that may do nothing else: `DiskBrowser` is its parent.

The disk may be hostile: what the process answers is checked here, and a process that dies, takes too long or
talks
nonsense costs the question that was asked, not more. Must not know file systems.
"""

import logging
import os
import re
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import msgspec

from native.err import NativeError
from vdrd.disk import browse_messages as say
from vdrd.disk.source import DiskSource
from vdrd.disk.volumes.file_system import CODED, FILE, HOLE
from vdrd.model.errors import Damaged, NotFound, VolumeUnreadable

log = logging.getLogger(__name__)
ANSWER_SECONDS = 60.0
"""For one answer, the time that its reads of the disk take here left out."""
TOTAL_SECONDS = 600.0
"""For one answer with all its reads of the disk."""
_NEED_BYTES_MAX = 1 << 20
A = TypeVar("A")


class DiskBrowser:
    """Volumes, directories and files of one disk. Thread-safe and blocking; the disk stays the caller's."""

    def __init__(
        self,
        disk: DiskSource,
        *,
        answer_seconds: float = ANSWER_SECONDS,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._disk = disk
        self._answer_seconds = answer_seconds
        self._total_seconds = total_seconds
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._fd = -1
        self._volumes: list[say.VolumeShown] | None = None

    def volumes(self) -> list[say.VolumeShown]:
        """All volumes of the disk. Raises VolumeUnreadable."""
        if self._volumes is None:
            self._volumes = self._ask(say.VolumesAsk(), say.Volumes, "disk").volumes
        return self._volumes

    def find(self, volume: int, names: list[bytes]) -> say.EntryShown | None:
        """The entry at a path of a volume, None if nothing is there. Raises VolumeUnreadable."""
        return self._ask(say.FindAsk(volume, names, True), say.Found, self._name(volume)).entry

    def entries(
        self,
        volume: int,
        ref: int,
        *,
        after: bytes | None = None,
        limit: int | None = None,
        with_details: bool = False,
    ) -> Iterator[say.EntryShown]:
        """Entries of a directory by name, at most `limit`. Raises VolumeUnreadable."""
        left = limit
        while left is None or left > 0:
            count = say.LIST_ENTRIES_MAX if left is None else min(left, say.LIST_ENTRIES_MAX)
            ask = say.ListAsk(volume, ref, after, count, with_details)
            answer = self._ask(ask, say.Listed, self._name(volume))
            before = after
            for entry in answer.entries:
                if after is not None and entry.name <= after:
                    # A directory may hold a name twice; beyond that, names ascend or the process lies.
                    if entry.name < after:
                        raise VolumeUnreadable(name=self._name(volume), reason="names out of order")
                    continue
                after = entry.name
                yield entry
            if not answer.has_more or not answer.entries:
                return
            if after == before:
                raise VolumeUnreadable(name=self._name(volume), reason="a directory that has no end")
            if left is not None:
                left -= len(answer.entries)

    def runs(self, volume: int, ref: int, size_bytes: int) -> Iterator[tuple[int, int]]:
        """Runs of a file from its begin: (length, place on the disk, HOLE or CODED), in all `size_bytes`.

        Raises VolumeUnreadable.
        """
        at = 0
        while at < size_bytes:
            answer = self._ask(say.RunsAsk(volume, ref, at), say.Runs, self._name(volume))
            if not answer.runs:
                raise VolumeUnreadable(name=self._name(volume), reason="a file is shorter than it says")
            for run in checked_runs(answer.runs, self._disk.size_bytes):
                yield min(run[0], size_bytes - at), run[1]
                at += run[0]
                if at >= size_bytes:
                    return

    def read_coded(self, volume: int, ref: int, offset: int, length: int) -> bytes:
        """Content that only the process can give. Raises VolumeUnreadable."""
        parts = []
        while length:
            count = min(length, say.READ_BYTES_MAX)
            data = self._ask(say.ReadAsk(volume, ref, offset, count), say.Content, self._name(volume)).data
            if len(data) != count:
                raise VolumeUnreadable(name=self._name(volume), reason="a file is shorter than it says")
            parts.append(data)
            offset += count
            length -= count
        return b"".join(parts)

    def read_disk(self, offset: int, length: int) -> bytes:
        """Bytes of the disk itself. Raises Damaged, OSError."""
        buffer = bytearray(length)
        try:
            self._disk.read_into(offset, buffer)
        except NativeError as error:
            raise Damaged(what="the disk", reason=f"{length} bytes at {offset} cannot be read") from error
        return bytes(buffer)

    @property
    def process_id(self) -> int | None:
        """Of the process, if one is running now."""
        process = self._process
        return None if process is None else process.pid

    def peak_memory_bytes(self) -> int:
        """Most memory that the process had so far; 0 if there is none."""
        with self._lock:
            if self._process is None:
                return 0
            try:
                status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="ascii")
            except OSError:
                return 0
        found = re.search(r"^VmHWM:\s+(\d+) kB$", status, re.MULTILINE)
        return int(found.group(1)) << 10 if found else 0

    def close(self) -> None:
        """End the process."""
        with self._lock:
            self._end()

    def __enter__(self) -> "DiskBrowser":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _name(self, volume: int) -> str:
        volumes = self._volumes or []
        return volumes[volume].name if volume < len(volumes) else str(volume)

    # ---- the process ---------------------------------------------------------------------------------------

    def _ask(self, ask: say.Ask, wanted: type[A], name: str) -> A:
        with self._lock:
            try:
                if self._process is None:
                    self._start()
                answer = self._answer(ask, name)
            except (OSError, EOFError, say.TooLong, msgspec.MsgspecError) as error:
                self._end()
                log.warning("browser process ended volume=%s reason=%s", name, type(error).__name__)
                raise VolumeUnreadable(name=name, reason="its reader gave up on it") from error
            except BaseException:
                # Question and answer would no longer fit together.
                self._end()
                raise
        if isinstance(answer, say.Fault):
            raise VolumeUnreadable(name=name, reason=answer.reason)
        if not isinstance(answer, wanted):
            self.close()
            raise VolumeUnreadable(name=name, reason="its reader gave up on it")
        return answer

    def _answer(self, ask: say.Ask, name: str) -> say.Answer:
        now = time.monotonic()
        until, until_all = now + self._answer_seconds, now + self._total_seconds

        def wait(event: int) -> None:
            # Before every part of a message: the process may stop in the middle of one.
            poll = select.poll()
            poll.register(self._fd, event)
            left = max(0.0, min(until, until_all) - time.monotonic())
            if not poll.poll(left * 1000):
                seconds = self._answer_seconds if until <= until_all else self._total_seconds
                log.warning("browser process stopped volume=%s seconds=%g", name, seconds)
                raise VolumeUnreadable(name=name, reason=f"reading it took more than {seconds:g} seconds")

        def send(message: bytes) -> None:
            say.send(self._fd, message, lambda: wait(select.POLLOUT))

        send(say.encode(ask))
        while True:
            answer: say.Answer = say.decode_answer(say.receive(self._fd, lambda: wait(select.POLLIN)))
            if not isinstance(answer, say.NeedBytes):
                return answer
            end = answer.offset + answer.length
            if answer.offset < 0 or not 0 < answer.length <= _NEED_BYTES_MAX or end > self._disk.size_bytes:
                raise EOFError
            began = time.monotonic()
            data = self.read_disk(answer.offset, answer.length)
            until += time.monotonic() - began
            send(data)

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._fd = ours.detach()
            os.set_blocking(self._fd, False)
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-I",
                    "-m",
                    "vdrd.disk.browser_process",
                    str(theirs.fileno()),
                    str(self._disk.size_bytes),
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env={"LC_ALL": "C.UTF-8"},
                pass_fds=[theirs.fileno()],
            )

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            os.close(self._fd)
            process.kill()
            process.wait()


def checked_runs(runs: list[tuple[int, int]], disk_bytes: int) -> list[tuple[int, int]]:
    """The runs, if they can be read. Raises VolumeUnreadable."""
    for length, place in runs:
        if length <= 0 or (place not in (HOLE, CODED) and not 0 <= place <= disk_bytes - length):
            raise VolumeUnreadable(name="disk", reason="a file beyond the disk's end")
    return runs


def checked_places(places: list[tuple[int, int]], disk_bytes: int) -> list[tuple[int, int]]:
    """Runs of the disk as (offset, length), if they can be read. Raises VolumeUnreadable."""
    for offset, length in places:
        if length <= 0 or not 0 <= offset <= disk_bytes - length:
            raise VolumeUnreadable(name="disk", reason="it goes beyond the disk's end")
    return places


class GuestFile:
    """Content of one regular file, read at any offset. For one thread at a time."""

    def __init__(self, browser: DiskBrowser, volume: int, entry: say.EntryShown) -> None:
        if entry.node.kind != FILE:
            raise NotFound(what="file", name=entry.name.decode("utf-8", "backslashreplace"))
        self.size_bytes = entry.node.size_bytes
        self._browser = browser
        self._volume = volume
        self._ref = entry.node.ref
        self._runs: Iterator[tuple[int, int]] | None = None
        self._run = (0, 0, HOLE)

    def read(self, offset: int, length: int) -> bytes:
        """Up to `length` bytes; fewer only at the end. Reading on in sequence is cheap."""
        parts = []
        end = min(offset + length, self.size_bytes)
        while offset < end:
            at, run_length, place = self._run_at(offset)
            count = min(end, at + run_length) - offset
            if place == HOLE:
                parts.append(bytes(count))
            elif place == CODED:
                parts.append(self._browser.read_coded(self._volume, self._ref, offset, count))
            else:
                parts.append(self._browser.read_disk(place + offset - at, count))
            offset += count
        return b"".join(parts)

    def _run_at(self, offset: int) -> tuple[int, int, int]:
        if self._runs is None or offset < self._run[0]:
            self._runs = self._browser.runs(self._volume, self._ref, self.size_bytes)
            self._run = (0, 0, HOLE)
        while offset >= self._run[0] + self._run[1]:
            length, place = next(self._runs)
            self._run = (self._run[0] + self._run[1], length, place)
        return self._run
