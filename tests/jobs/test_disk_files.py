"""Files within disks compare with what the kernel, or the system's own driver, shows of the same disk."""

import hashlib
import os
import stat
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from tests.files.walker import Seen, walk
from tests.jobs.guest_disks import KINDS, MEBIBYTE, fill, loop, make_tree, mounted
from vdrd.disk.image import ImageDisk
from vdrd.files.restore import restore_files
from vdrd.jobs.disk_files import DiskFiles
from vdrd.model.progress import Cancel


def seen_by_driver(root: Path) -> dict[bytes, Seen]:
    """All that a restore brings back: without flags, and without where holes are, which the target
    decides."""
    return {
        path: replace(
            seen,
            holes=(),
            flags=(),
            digest=digest(os.fsencode(root) + b"/" + path, seen),
            # XFS shows an ACL a second time, in a form of its own.
            xattrs=tuple(pair for pair in seen.xattrs if not pair[0].startswith("trusted.SGI_ACL")),
        )
        for path, seen in walk(root).items()
    }


def digest(path: bytes, seen: Seen) -> str:
    """Of the content alone."""
    if not stat.S_ISREG(seen.type):
        return ""
    with open(path, "rb") as file:  # noqa: PTH123 (names that are no text)
        return hashlib.file_digest(file, "sha256").hexdigest()


def restored(image: Path, paths: list[str], target: Path) -> tuple[dict[bytes, Seen], list[str]]:
    """What a restore of these paths makes, and its warnings."""
    with ImageDisk.open(image) as disk, DiskFiles(disk) as files:
        made = files.as_point(paths, Cancel())
        report = restore_files(made.root, made.source, target, paths=paths)
    return seen_by_driver(target), [*made.warnings.first, *report.warnings]


@pytest.mark.parametrize("kind", list(KINDS))
def test_file_system_restored_is_what_the_kernel_shows(kind: str, tmp_path: Path) -> None:
    image = tmp_path / "disk.raw"
    with image.open("wb") as file:
        file.truncate(320 * MEBIBYTE)
    with loop(image) as device:
        fill(device, tmp_path / "mount", kind, partial(make_tree, file_count=300, is_unix=True))
        with mounted(device, tmp_path / "mount", "mount", "-o", "ro") as root:
            before = seen_by_driver(root)
    after, warnings = restored(image, ["/disk"], tmp_path / "target")
    assert warnings == []
    found = {path[5:]: seen for path, seen in after.items() if path.startswith(b"disk")}
    links = {path: tuple(name[5:] for name in seen.links) for path, seen in found.items()}
    assert {path: replace(seen, links=links[path]) for path, seen in found.items()} == before
