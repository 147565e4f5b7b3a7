"""The process that reads hostile disks: what it may do, and what its end costs."""

import ctypes
import os
import resource
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vdrd.disk import browse_messages as say
from vdrd.disk import confinement
from vdrd.disk.browser import DiskBrowser
from vdrd.disk.browser_process import Session
from vdrd.disk.image import ImageDisk
from vdrd.disk.volumes.catalog import Volume
from vdrd.disk.volumes.file_system import FileSystem, Node
from vdrd.model.errors import Damaged, VolumeUnreadable

_ATTEMPTS = """
import os, signal, socket, subprocess, sys
from vdrd.disk.confinement import confine
confine()
def refused(work):
    try:
        work()
    except (OSError, MemoryError):
        return True
    return False
attempts = {
    "open": lambda: open("/etc/passwd"),
    "write": lambda: open("/var/tmp/vdr-confined", "w"),
    "socket": lambda: socket.socket(),
    "fork": lambda: os.fork(),
    "run": lambda: os.execv("/bin/true", ["true"]),
    "signal": lambda: os.kill(os.getppid(), 0),
    "memory": lambda: bytearray(900 << 20),
    "list": lambda: os.listdir("/"),
    "mount": lambda: os.chroot("/tmp"),
    "become root": lambda: os.setresuid(0, 0, 0),
}
sys.stdout.write(" ".join(name for name, work in attempts.items() if not refused(work)))
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.raw"
    with path.open("wb") as file:
        file.truncate(64 << 20)
    subprocess.run(["mkfs.ext4", "-q", path], check=True)
    return path


class FailingDisk(ImageDisk):
    """An image whose reads fail as they are told to."""

    error: Exception | None = None

    def read_into(self, offset_bytes: int, buffer: bytearray | memoryview) -> None:
        if self.error is not None:
            raise self.error
        super().read_into(offset_bytes, buffer)


def names(browser: DiskBrowser) -> list[bytes]:
    return [entry.name for entry in browser.entries(0, browser.volumes()[0].root_ref)]


def test_confined_process_can_do_nothing_but_compute() -> None:
    done = subprocess.run([sys.executable, "-c", _ATTEMPTS], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_process_outlives_the_thread_that_started_it(image: Path) -> None:
    with ImageDisk.open(image) as disk, DiskBrowser(disk) as browser:
        first = threading.Thread(target=browser.volumes)
        first.start()
        first.join()
        process = browser.process_id
        assert names(browser) == [b"lost+found"]
        assert browser.process_id == process


def test_process_that_dies_costs_one_answer(image: Path) -> None:
    with ImageDisk.open(image) as disk, DiskBrowser(disk) as browser:
        assert names(browser) == [b"lost+found"]
        assert browser.process_id is not None
        os.kill(browser.process_id, 9)
        with pytest.raises(VolumeUnreadable):
            names(browser)
        assert names(browser) == [b"lost+found"]


@pytest.mark.parametrize("error", [Damaged(what="chunk", reason="gone"), OSError(5, "no"), KeyError("x")])
def test_disk_that_cannot_be_read_costs_one_answer(image: Path, error: Exception) -> None:
    with FailingDisk.open(image) as disk, DiskBrowser(disk) as browser:
        disk.error = error
        with pytest.raises(VolumeUnreadable if isinstance(error, OSError) else type(error)):
            names(browser)
        disk.error = None
        assert names(browser) == [b"lost+found"]


@pytest.mark.parametrize("limits", [{"answer_seconds": 0.0}, {"total_seconds": 0.0}])
def test_answer_that_takes_too_long_ends_the_process(image: Path, limits: dict[str, float]) -> None:
    with ImageDisk.open(image) as disk, DiskBrowser(disk, **limits) as browser:
        with pytest.raises(VolumeUnreadable, match="more than 0 seconds"):
            browser.volumes()
        assert browser.process_id is None


class LongNames(FileSystem):
    """A directory of names that are longer than any is shown, and begin alike."""

    root_ref = 1

    def __init__(self) -> None:
        pass

    def node(self, ref: int) -> Node:
        return Node(ref, 2 if ref == 1 else 1, 0o755, 0, 0, 0, 0, 0)

    def children(self, ref: int) -> Iterator[tuple[bytes, int]]:
        return iter([(b"n" * 1024 + b"%04d" % i, 2 + i) for i in range(1001)] + [(b"z", 2000)])


class AnsweredBrowser(DiskBrowser):
    """A browser whose questions this process answers."""

    def __init__(self, disk: ImageDisk, session: Session) -> None:
        super().__init__(disk)
        self._session = session

    def _ask(self, ask: say.Ask, wanted: type[Any], name: str) -> Any:
        return self._session.answer(ask)


class EndlessSession(Session):
    """Gives one page for ever."""

    def answer(self, ask: say.Ask) -> say.Answer:
        return say.Listed([say.EntryShown(b"a", Node(2, 1, 0, 0, 0, 0, 0, 0))], True)


def test_names_that_begin_alike_are_listed_to_the_end(image: Path) -> None:
    with ImageDisk.open(image) as disk:
        session = Session(None)  # type: ignore[arg-type]  # it reads none
        session._volumes = [Volume("disk", 1, None, files=LongNames())]
        browser = AnsweredBrowser(disk, session)
        browser._volumes = []
        assert [entry.name for entry in browser.entries(0, 1)] == [b"n" * 1024, b"z"]


def test_directory_without_end_is_refused(image: Path) -> None:
    with ImageDisk.open(image) as disk:
        browser = AnsweredBrowser(disk, EndlessSession(None))  # type: ignore[arg-type]  # as above
        with pytest.raises(VolumeUnreadable, match="no end"):
            list(browser.entries(0, 1))


class StoppedBrowser(DiskBrowser):
    """Its process stops after half a header."""

    def _start(self) -> None:
        ours, self.theirs = socket.socketpair()
        self._fd = ours.detach()
        self.theirs.send(b"\1\0")
        self._process = subprocess.Popen(["sleep", "infinity"])


def test_process_that_stops_within_a_message_ends(image: Path) -> None:
    with ImageDisk.open(image) as disk:
        browser = StoppedBrowser(disk, answer_seconds=0.0)
        with pytest.raises(VolumeUnreadable, match="more than 0 seconds"):
            browser.volumes()
        browser.theirs.close()
        assert browser.process_id is None


def test_descriptors_beyond_a_thousand_are_no_obstacle(image: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (4096, limits[1]))
    opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(1100)]
    try:
        with ImageDisk.open(image) as disk, DiskBrowser(disk) as browser:
            assert names(browser) == [b"lost+found"]
    finally:
        for fd in opened:
            os.close(fd)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_machine_without_a_filter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    with pytest.raises(OSError, match="riscv64"):
        confinement._filter_calls(ctypes.CDLL(None))
