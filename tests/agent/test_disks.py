"""Disks of this machine and of a machine made of files; directories page by page."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from agent.browse import browse
from agent.disks import Roots, disks
from schemas.control import HostBrowseAsk
from vdrd.model.errors import NotFound, SourceUnreadable
from vdrd.model.paths import path_of_text


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.fixture
def machine(tmp_path):
    """A disk with two partitions, LVM on the second, a loop device without media, a RAM disk."""
    block = tmp_path / "sys/block"
    write(block / "sda/size", "2048\n")
    write(block / "sda/dev", "8:0\n")
    write(block / "sda/device/vendor", "ACME    \n")
    write(block / "sda/device/model", "Fast Disk\n")
    for number, sectors in ((1, 512), (10, 256), (2, 1024)):
        write(block / f"sda/sda{number}/partition", f"{number}\n")
        write(block / f"sda/sda{number}/size", f"{sectors}\n")
        write(block / f"sda/sda{number}/dev", f"8:{number}\n")
    write(block / "sda/sda1/ro", "1\n")
    write(block / "dm-0/size", "1000\n")
    write(block / "dm-0/dev", "253:0\n")
    write(block / "dm-0/dm/name", "vg-root\n")
    write(block / "dm-0/dm/uuid", "LVM-abc\n")
    write(block / "dm-0/slaves/sda2/size", "1024\n")
    write(block / "loop0/size", "0\n")
    write(block / "ram0/size", "8192\n")
    write(block / "cciss!c0d0/size", "4\n")
    write(block / "cciss!c0d0/dev", "104:0\n")
    write(
        tmp_path / "proc/self/mountinfo",
        "21 1 253:0 / / rw - ext4 /dev/mapper/vg-root rw\n"
        "22 21 8:1 / /boot\\040old rw - ext4 /dev/sda1 rw\n"
        "23 21 253:0 /x /mnt/bind rw - ext4 /dev/mapper/vg-root rw\n"
        "24 21 0:5 / /proc rw - proc proc rw\nshort line\n",
    )
    write(tmp_path / "run/udev/b8:1", "S:x\nE:ID_FS_TYPE=ext4\nE:ID_FS_LABEL=boot\n")
    return Roots(tmp_path / "sys", tmp_path / "proc", Path("/dev"), tmp_path / "run/udev")


def test_disks_of_a_machine_name_kinds_sizes_mounts_parents_first(machine):
    found = disks(machine)
    assert [(disk.path, disk.kind, disk.size_bytes, disk.parent_path) for disk in found] == [
        ("/dev/cciss/c0d0", "disk", 4 * 512, None),
        ("/dev/sda", "disk", 2048 * 512, None),
        ("/dev/sda1", "partition", 512 * 512, "/dev/sda"),
        ("/dev/sda2", "partition", 1024 * 512, "/dev/sda"),
        ("/dev/sda10", "partition", 256 * 512, "/dev/sda"),
        ("/dev/mapper/vg-root", "lvm", 1000 * 512, "/dev/sda2"),
    ]
    by_path = {disk.path: disk for disk in found}
    assert by_path["/dev/sda"].model == "ACME Fast Disk"
    boot = by_path["/dev/sda1"]
    assert (boot.mount_points, boot.file_system, boot.label) == (["/boot old"], "ext4", "boot")
    assert boot.is_read_only
    assert by_path["/dev/mapper/vg-root"].mount_points == ["/", "/mnt/bind"]


def test_disks_of_a_machine_without_any_are_none(tmp_path):
    assert disks(Roots(tmp_path, tmp_path, tmp_path, tmp_path)) == []


def test_loop_device_of_this_machine_is_found_with_its_size(tmp_path):
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(3 << 20)
    made = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True, check=True)
    device = made.stdout.strip()
    try:
        (found,) = [disk for disk in disks() if disk.path == device]
        assert (found.kind, found.size_bytes) == ("loop", 3 << 20)
    finally:
        subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def folder(tmp_path):
    for name in (b"b", b"a", b"caf\xe9", b"back\\slash", "ü".encode()):
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(b"12345")
    (tmp_path / "dir").mkdir(mode=0o750)
    (tmp_path / "link").symlink_to("a")
    os.mkfifo(tmp_path / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
    return tmp_path


def test_browse_pages_give_every_entry_once_in_order(folder):
    names, after = [], None
    for _ in range(20):
        page = browse(HostBrowseAsk(path=str(folder), after=after, limit=2))
        names += [entry.name for entry in page.items]
        if not page.has_more:
            break
        after = page.items[-1].name
    assert [path_of_text(name) for name in names] == sorted(
        os.fsencode(path.name) for path in folder.iterdir()
    )


def test_browse_tells_kind_size_mode_and_target(folder):
    entries = {entry.name: entry for entry in browse(HostBrowseAsk(path=str(folder))).items}
    assert (entries["a"].kind, entries["a"].size_bytes) == ("file", 5)
    assert (entries["dir"].kind, entries["dir"].mode) == ("directory", 0o750)
    assert (entries["link"].kind, entries["link"].link_target) == ("symlink", "a")
    assert entries["fifo"].kind == "fifo"
    assert entries["socket"].kind == "socket"
    assert path_of_text(entries["caf\\xe9"].path) == os.fsencode(folder) + b"/caf\xe9"


def test_browse_directories_only_leaves_out_files_and_links(folder):
    page = browse(HostBrowseAsk(path=str(folder), directories_only=True))
    assert [entry.name for entry in page.items] == ["dir"]


@pytest.mark.parametrize(("name", "error"), [("missing", NotFound), ("a", SourceUnreadable)])
def test_browse_of_what_is_no_directory_names_it(folder, name, error):
    with pytest.raises(error, match=name):
        browse(HostBrowseAsk(path=str(folder / name)))
