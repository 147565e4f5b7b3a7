"""The disks of this host for people who make jobs: read from /sys and /proc, nothing opened, nothing
executed."""

import os
import stat
from dataclasses import dataclass
from pathlib import Path

from schemas.api.hosts import DiskInfo

_SECTOR_BYTES = 512
"""The unit of /sys/block/*/size, whatever the device's own sectors are."""
_SKIPPED = ("ram", "zram", "sr", "fd")


@dataclass(frozen=True, slots=True)
class Roots:
    """Where the kernel tells about devices; tests give a directory of their own."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")
    udev: Path = Path("/run/udev/data")


def disks(roots: Roots | None = None) -> list[DiskInfo]:
    """Disks, partitions and volumes with a size, each parent before its children."""
    roots = roots or Roots()
    mounts = _mounts(roots)
    found: list[DiskInfo] = []
    names = sorted(entry.name for entry in _entries(roots.sys / "block"))
    # What lies on other devices (LVM, RAID, crypt) comes after what it lies on.
    names.sort(key=lambda name: bool(_entries(roots.sys / "block" / name / "slaves")))
    for name in names:
        if name.rstrip("0123456789") in _SKIPPED:
            continue
        folder = roots.sys / "block" / name
        kind, parent_path = _kind(folder, name), _parent(roots, folder)
        disk = _disk(roots, folder, name, kind=kind, parent_path=parent_path, mounts=mounts)
        if disk is None:
            continue
        found.append(disk)
        for part in sorted(_entries(folder), key=_natural):
            if (part / "partition").exists():
                partition = _disk(
                    roots, part, part.name, kind="partition", parent_path=disk.path, mounts=mounts
                )
                if partition is not None:
                    found.append(partition)
    return found


def _disk(
    roots: Roots, folder: Path, name: str, *, kind: str, parent_path: str | None, mounts: dict[str, list[str]]
) -> DiskInfo | None:
    size_bytes = int(_text(folder / "size") or 0) * _SECTOR_BYTES
    if size_bytes == 0:
        return None
    mapped = _text(folder / "dm" / "name")
    number = _text(folder / "dev")
    tags = _udev_tags(roots, number)
    return DiskInfo(
        path=str(roots.dev / "mapper" / mapped) if mapped else str(roots.dev / name.replace("!", "/")),
        kind=kind,
        size_bytes=size_bytes,
        model=" ".join(filter(None, (_text(folder / "device/vendor"), _text(folder / "device/model")))),
        parent_path=parent_path,
        file_system=tags.get("ID_FS_TYPE", ""),
        label=tags.get("ID_FS_LABEL", ""),
        mount_points=mounts.get(number, []),
        is_read_only=_text(folder / "ro") == "1",
    )


def _kind(folder: Path, name: str) -> str:
    if name.startswith("loop"):
        return "loop"
    if name.startswith("md"):
        return "raid"
    uuid = _text(folder / "dm/uuid")
    if uuid:
        return {"LVM": "lvm", "CRYPT": "crypt", "MPATH": "multipath"}.get(uuid.split("-")[0], "mapped")
    return "disk"


def _parent(roots: Roots, folder: Path) -> str | None:
    slaves = sorted(entry.name for entry in _entries(folder / "slaves"))
    return str(roots.dev / slaves[0].replace("!", "/")) if slaves else None


def _mounts(roots: Roots) -> dict[str, list[str]]:
    """Mount points by device number `major:minor`, the shortest first."""
    mounts: dict[str, list[str]] = {}
    for line in (_text(roots.proc / "self/mountinfo") or "").splitlines():
        fields = line.split(" ")
        if len(fields) < 5:
            continue
        # btrfs and others mount under a number of their own; their source still names the device.
        number = _number_of_source(fields) or fields[2]
        point = (
            fields[4]
            .replace("\\040", " ")
            .replace("\\011", "\t")
            .replace("\\012", "\n")
            .replace("\\134", "\\")
        )
        mounts.setdefault(number, []).append(point)
    return {
        number: sorted(points, key=lambda point: (len(point), point)) for number, points in mounts.items()
    }


def _number_of_source(fields: list[str]) -> str | None:
    if not fields[2].startswith("0:") or "-" not in fields:
        return None
    source = fields[fields.index("-") + 2]
    try:
        status = Path(source).stat() if source.startswith("/dev/") else None
    except OSError:
        return None
    if status is None or not stat.S_ISBLK(status.st_mode):
        return None
    return f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _udev_tags(roots: Roots, number: str) -> dict[str, str]:
    lines = (_text(roots.udev / f"b{number}") or "").splitlines()
    return dict(line[2:].split("=", 1) for line in lines if line.startswith("E:") and "=" in line)


def _natural(path: Path) -> tuple[int, str]:
    return len(path.name), path.name


def _entries(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
