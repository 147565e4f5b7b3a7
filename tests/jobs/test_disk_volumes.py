"""Partition tables and LVM as real tools write them; volumes that cannot be read; single volumes restored."""

import hashlib
import json
import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from tests.jobs.guest_disks import MEBIBYTE, fill, loop, make_tree, partitioned, run
from vdrd.disk.browse_messages import VolumeShown
from vdrd.disk.image import ImageDisk
from vdrd.disk.volume_restore import restore_volume
from vdrd.jobs.disk_files import DiskFiles
from vdrd.model.errors import NotFound, TargetOccupied, TargetRefused, VolumeUnreadable
from vdrd.model.progress import Cancel


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return tmp_path / "disk.raw"


def volumes(image: Path) -> list[VolumeShown]:
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        return files.volumes()


def small_file_system(image: Path, offset: int, size: int, text: bytes, place: Path) -> None:
    with loop(image, offset, size) as device:
        fill(device, place, "ext4", lambda root: (root / "name").write_bytes(text))


def content(image: Path, path: str) -> bytes:
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        reader = files.open_file(path)
        return reader.read(0, reader.size_bytes)


@pytest.mark.parametrize("damage", ["none", "first header", "first entries"])
def test_partitions_of_a_gpt_are_found_by_its_backup_too(image: Path, tmp_path: Path, damage: str) -> None:
    parts = partitioned(image, [9 * MEBIBYTE, 12 * MEBIBYTE])
    for number, part in enumerate(parts, 1):
        small_file_system(image, *part, b"partition %d" % number, tmp_path / "mount")
    with image.open("r+b") as file:
        file.seek({"none": 1 << 19, "first header": 512, "first entries": 1024}[damage])
        file.write(b"\xff" * 100)
    assert [(one.name, one.holds, one.places) for one in volumes(image)] == [
        ("partition-1", "ext4", [tuple(parts[0])]),
        ("partition-2", "ext4", [tuple(parts[1])]),
    ]
    assert content(image, "/partition-2/name") == b"partition 2"


def test_logical_partitions_of_an_mbr_have_the_numbers_of_linux(image: Path, tmp_path: Path) -> None:
    with image.open("wb") as file:
        file.truncate(64 * MEBIBYTE)
    table = "label: dos\n2048,20480,L\n22528,,E\n24576,20480,L\n47104,20480,L\n"
    run("sfdisk", "--quiet", image, text=table)
    small_file_system(image, 47104 * 512, 20480 * 512, b"the sixth", tmp_path / "mount")
    assert [one.name for one in volumes(image)] == ["partition-1", "partition-5", "partition-6"]
    assert content(image, "/partition-6/name") == b"the sixth"


def test_volumes_that_hold_no_files_say_what_they_hold(image: Path) -> None:
    parts = partitioned(image, [8 * MEBIBYTE] * 3)
    with loop(image, *parts[0]) as device:
        run("mkswap", device)
    with image.open("r+b") as file:
        file.seek(parts[1].offset)
        file.write(b"LUKS\xba\xbe\0\2")
    assert [(one.holds, one.problem) for one in volumes(image)] == [
        ("swap", "it holds swap space"),
        ("crypto_LUKS", "it is encrypted"),
        ("", "it holds no file system that is known here"),
    ]
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        assert [entry.path for entry in files.entries("/")] == [
            b"partition-1",
            b"partition-2",
            b"partition-3",
        ]
        with pytest.raises(VolumeUnreadable):
            files.find("/partition-2/etc")
        with pytest.raises(NotFound):
            files.find("/partition-9")
        assert files.as_point([], Cancel()).warnings.count == 3


# ---- LVM -----------------------------------------------------------------------------------------------


class Lvm:
    """lvm2 itself, without device-mapper: it writes its metadata, and this test puts content where it
    says."""

    def __init__(self, folder: Path, devices: list[Path]) -> None:
        folder.mkdir()
        accepted = ", ".join(f'"a|^{device}$|"' for device in devices)
        (folder / "lvm.conf").write_text(
            f'devices {{ filter=[{accepted}, "r|.*|"] use_devicesfile=0 obtain_device_list_from_udev=0 }}\n'
            "activation { udev_sync=0 udev_rules=0 monitoring=0 }\n"
            f'backup {{ backup=0 archive=0 }}\nglobal {{ use_lvmpolld=0 locking_dir="{folder}" }}\n'
        )
        self._environment = [f"LVM_SYSTEM_DIR={folder}", "LVM_SUPPRESS_FD_WARNINGS=1"]

    def run(self, *words: object) -> str:
        return run("env", *self._environment, "lvm", *words, "--driverloaded", "n")

    def make(self, name: str, *words: object) -> None:
        self.run("lvcreate", "-y", "-an", "-Zn", "-Wn", "-n", name, *words)

    def segments(self, group: str, name: str) -> Iterator[tuple[int, int, int, list[tuple[Path, int]]]]:
        """Start, length and stripe length in bytes, and the devices with the bytes at which each begins."""
        fields = "seg_start,seg_size,stripe_size,devices,vg_extent_size"
        answer = self.run(
            "lvs", "--segments", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", fields,
            f"{group}/{name}",
        )  # fmt: skip
        for one in json.loads(answer)["report"][0]["seg"]:
            places = []
            for text in one["devices"].split(","):
                device, _, extent = text.rstrip(")").partition("(")
                places.append((Path(device), MEBIBYTE + int(extent) * int(one["vg_extent_size"])))
            yield int(one["seg_start"]), int(one["seg_size"]), int(one["stripe_size"]), places


def put(content: bytes, segments: Iterator[tuple[int, int, int, list[tuple[Path, int]]]]) -> None:
    """Write the content of a logical volume where its segments stand."""
    for start, length, stripe, places in segments:
        step = stripe or length
        for number, at in enumerate(range(0, length, step)):
            device, begin = places[number % len(places)]
            fd = os.open(device, os.O_WRONLY)
            os.pwrite(fd, content[start + at : start + at + step], begin + number // len(places) * step)
            os.close(fd)


def test_logical_volumes_in_pieces_and_stripes_are_put_together(image: Path, tmp_path: Path) -> None:
    parts = partitioned(image, [64 * MEBIBYTE, 64 * MEBIBYTE])
    contents = {}
    for name, mebibytes in (("root", 40), ("data", 32)):
        made = tmp_path / f"{name}.raw"
        with made.open("wb") as file:
            file.truncate(mebibytes * MEBIBYTE)
        with loop(made) as device:
            fill(device, tmp_path / "mount", "ext4", partial(make_tree, file_count=20, is_unix=False))
        contents[name] = made.read_bytes()
    with ExitStack() as stack:
        devices = [stack.enter_context(loop(image, *part)) for part in parts]
        lvm = Lvm(tmp_path / "lvm", devices)
        lvm.run("pvcreate", "-ff", "-y", *devices)
        lvm.run("vgcreate", "vg-name", *devices)
        lvm.make("root", "-l", "6", "vg-name", devices[0])
        lvm.make("data", "-l", "8", "--stripes", "2", "--stripesize", "64k", "vg-name")
        lvm.run("lvextend", "-l", "+4", "vg-name/root", devices[0])
        for name, one in contents.items():
            put(one, lvm.segments("vg-name", name))
        assert len(list(lvm.segments("vg-name", "root"))) == 2
    found = {one.name: one for one in volumes(image)}
    assert {name: one.holds for name, one in found.items()} == {
        "partition-1": "LVM2_member",
        "partition-2": "LVM2_member",
        "vg-name/data": "ext4",
        "vg-name/root": "ext4",
    }
    for name, one in contents.items():
        target = tmp_path / f"{name}.restored"
        restored(image, f"vg-name/{name}", target)
        assert target.read_bytes() == one
        assert content(image, f"/vg-name/{name}/Größe 中文 🎉") == b"unicode"
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        assert [entry.path for entry in files.entries("/")] == [b"partition-1", b"partition-2", b"vg-name"]
        assert [entry.path for entry in files.entries("/vg-name")] == [b"vg-name/data", b"vg-name/root"]


def test_group_with_a_disk_missing_says_so(image: Path, tmp_path: Path) -> None:
    parts = partitioned(image, [16 * MEBIBYTE, 16 * MEBIBYTE])
    with ExitStack() as stack:
        devices = [stack.enter_context(loop(image, *part)) for part in parts]
        lvm = Lvm(tmp_path / "lvm", devices)
        lvm.run("pvcreate", "-ff", "-y", *devices)
        lvm.run("vgcreate", "group", *devices)
        lvm.make("both", "-l", "5", "group")
    with image.open("r+b") as file:
        file.seek(parts[1].offset)
        file.write(bytes(MEBIBYTE))
    (found,) = [one for one in volumes(image) if one.name == "group/both"]
    assert found.problem == "the physical volume pv1 of its group is not on this disk"


# ---- single volumes ------------------------------------------------------------------------------------


def restored(image: Path, name: str, target: Path, *, overwrite: bool = False) -> int:
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        report = restore_volume(
            disk,
            files.volume_places(name),
            target,
            overwrite=overwrite,
            progress=lambda _: None,
            cancel=Cancel(),
        )
    return report.written_bytes


def test_partition_restored_to_file_and_device_is_the_same_with_its_holes(
    image: Path, tmp_path: Path
) -> None:
    (part,) = partitioned(image, [24 * MEBIBYTE])
    noise = random.Random(1).randbytes(MEBIBYTE)
    with image.open("r+b") as file:
        file.seek(part.offset + 5 * MEBIBYTE)
        file.write(noise)
    with image.open("rb") as file:
        file.seek(part.offset)
        wanted = hashlib.sha256(file.read(part.size)).hexdigest()
    target = tmp_path / "partition.raw"
    assert restored(image, "/partition-1", target) == MEBIBYTE
    assert hashlib.sha256(target.read_bytes()).hexdigest() == wanted
    assert target.stat().st_blocks * 512 < 2 * MEBIBYTE
    with pytest.raises(TargetOccupied):
        restored(image, "partition-1", target)
    with pytest.raises(NotFound):
        restored(image, "partition-2", tmp_path / "none")
    assert not (tmp_path / "none").exists()

    backing = tmp_path / "backing.raw"
    backing.write_bytes(b"\xaa" * part.size)
    with loop(backing) as device:
        with pytest.raises(TargetOccupied):
            restored(image, "partition-1", device)
        restored(image, "partition-1", device, overwrite=True)
    assert hashlib.sha256(backing.read_bytes()).hexdigest() == wanted
    backing.write_bytes(bytes(MEBIBYTE))
    with loop(backing) as device, pytest.raises(TargetRefused):
        restored(image, "partition-1", device)
