"""The process that reads hostile disks: what it may do, and what its end costs."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from vdrd.disk.browser import DiskBrowser
from vdrd.disk.image import ImageDisk
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


def test_answer_that_takes_too_long_ends_the_process(image: Path) -> None:
    with ImageDisk.open(image) as disk, DiskBrowser(disk, answer_seconds=0.0) as browser:
        with pytest.raises(VolumeUnreadable, match="more than 0 seconds"):
            browser.volumes()
        assert browser.process_id is None
