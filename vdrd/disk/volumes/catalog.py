"""The volumes of a disk: partitions, logical volumes, or the disk itself, and what each holds."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from vdrd.disk.volumes.btrfs import Btrfs
from vdrd.disk.volumes.exfat import ExFat
from vdrd.disk.volumes.ext import Ext
from vdrd.disk.volumes.fat import Fat
from vdrd.disk.volumes.file_system import FileSystem
from vdrd.disk.volumes.lvm import LogicalVolume, PhysicalVolume, logical_volumes, physical_volume
from vdrd.disk.volumes.ntfs import Ntfs
from vdrd.disk.volumes.partitions import partitions
from vdrd.disk.volumes.ranges import Range, Unreadable
from vdrd.disk.volumes.xfs import Xfs

WHOLE_NAME = "disk"
"""Folder of a file system that fills its disk, without partitions."""
VOLUMES_MAX = 4096
T = TypeVar("T")
_Reader = type[Btrfs] | type[Ext] | type[Xfs] | type[Ntfs] | type[ExFat] | type[Fat]
_READERS: tuple[_Reader, ...] = (Btrfs, Ext, Xfs, Ntfs, ExFat, Fat)
_MARKS = (
    (0, b"LUKS\xba\xbe", "crypto_LUKS", "it is encrypted"),
    (4086, b"SWAPSPACE2", "swap", "it holds swap space"),
    (0x1000, b"\xfc\x4e\x2b\xa9", "linux_raid_member", "it is part of a Linux RAID"),
    (0, b"\xfc\x4e\x2b\xa9", "linux_raid_member", "it is part of a Linux RAID"),
    (3, b"-FVE-FS-", "BitLocker", "it is encrypted"),
    (32, b"NXSB", "apfs", "it holds APFS, which is not read here"),
    (0, b"ReFS", "refs", "it holds ReFS, which is not read here"),
    (0x8001, b"CD001", "iso9660", "it holds ISO 9660, which is not read here"),
)


@dataclass
class Volume:
    """One volume of a disk, and its file system if it can be read."""

    name: str
    """Its folder: `partition-2`, `group/volume` or `disk`."""
    size_bytes: int
    whole: Range | None
    holds: str = ""
    """What it holds, as `blkid` names it; empty if nothing known."""
    label: str = ""
    uuid: str = ""
    problem: str = ""
    """Why its files cannot be shown; empty if they can."""
    files: FileSystem | None = None


def volumes_of(disk: Range) -> list[Volume]:
    """All volumes of a disk, partitions first. Never raises for what the disk holds."""
    found: list[Volume] = []
    members: list[PhysicalVolume] = []
    try:
        table = partitions(disk)
    except Exception as error:  # whatever a parser of damaged bytes trips over
        problem = f"its partition table is damaged ({type(error).__name__})"
        return [Volume(WHOLE_NAME, disk.size_bytes, disk, problem=problem)]
    if table is None:
        found.append(_volume(WHOLE_NAME, disk, members))
    else:
        for part in table:
            volume = _volume(f"partition-{part.number}", part.whole, members)
            volume.label = volume.label or part.label
            volume.uuid = volume.uuid or part.uuid
            found.append(volume)
    taken = {volume.name for volume in found}
    nothing: list[LogicalVolume] = []
    for logical in _guarded(lambda: logical_volumes(members), nothing):
        found.append(_logical(logical, taken))
    return found[:VOLUMES_MAX]


def _volume(name: str, whole: Range, members: list[PhysicalVolume]) -> Volume:
    volume = Volume(name, whole.size_bytes, whole)
    try:
        member = physical_volume(whole)
        if member is not None:
            members.append(member)
            volume.holds, volume.uuid = "LVM2_member", member.uuid
            volume.problem = "it is a physical volume of LVM: its files stand under its volume group"
            return volume
        _open(volume, whole)
    except Unreadable as error:
        volume.problem = str(error)
    except Exception as error:  # whatever a parser of damaged bytes trips over
        volume.problem = f"it is damaged ({type(error).__name__})"
    return volume


def _logical(logical: LogicalVolume, taken: set[str]) -> Volume:
    group = f"{logical.group}-lvm" if logical.group in taken else logical.group
    name = f"{group}/{logical.name}"
    if logical.whole is None:
        return Volume(name, logical.size_bytes, None, uuid=logical.uuid, problem=logical.problem)
    return _volume(name, logical.whole, [])


def _open(volume: Volume, whole: Range) -> None:
    for reader in _READERS:
        if reader.is_here(whole):
            volume.holds = reader.__name__.lower()
            files = reader(whole)
            volume.holds, volume.label, volume.uuid = files.name, files.label, files.uuid
            files.node(files.root_ref)
            volume.files = files
            return
    for at, mark, holds, problem in _MARKS:
        if at + len(mark) <= whole.size_bytes and whole.read(at, len(mark)) == mark:
            volume.holds, volume.problem = holds, problem
            return
    volume.problem = "it holds no file system that is known here"


def _guarded(work: Callable[[], T], default: T) -> T:
    try:
        return work()
    except Exception:  # whatever a parser of damaged bytes trips over
        return default
