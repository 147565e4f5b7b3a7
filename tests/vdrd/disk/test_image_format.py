"""Images for hypervisors: what `qemu-img` itself says of them."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from vdrd.disk.image import ImageDisk
from vdrd.disk.image_format import FORMATS, ConversionFailed, write_image
from vdrd.model.errors import Cancelled, TargetOccupied
from vdrd.model.progress import Cancel, Progress


def qemu_img(*words: object) -> str:
    done = subprocess.run(["qemu-img", *map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize("name", FORMATS)
def test_image_holds_the_disk_and_no_more(name: str, disk_image: Callable[..., Path], tmp_path: Path) -> None:
    source = disk_image(24)
    with source.open("r+b") as file:
        file.truncate((600 << 20) + 512)
    target = tmp_path / "image.bin"
    seen: list[Progress] = []
    image_format = FORMATS[name]
    with ImageDisk.open(source) as disk:
        write_image(disk, target, image_format, overwrite=False, progress=seen.append, cancel=Cancel())
        with pytest.raises(TargetOccupied):
            write_image(disk, target, image_format, overwrite=False, progress=seen.append, cancel=Cancel())
    about = json.loads(qemu_img("info", "--output=json", target))
    assert about["format"] == image_format.driver
    if image_format.driver in ("qcow2", "vhdx", "vmdk") and name != "vmdk-flat":
        qemu_img("check", target)
    qemu_img("compare", "-f", "raw", source, "-F", image_format.driver, target)
    files = [path for path in tmp_path.iterdir() if path != source]
    assert len(files) == (2 if name == "vmdk-flat" else 1)
    assert sum(path.stat().st_blocks * 512 for path in files) < 40 << 20
    assert seen[-1].done_bytes <= (600 << 20) + 512


def test_image_given_up_or_failed_leaves_nothing(disk_image: Callable[..., Path], tmp_path: Path) -> None:
    source = disk_image(8)
    folder = tmp_path / "folder"
    folder.mkdir()
    cancel = Cancel()
    cancel.request()
    with ImageDisk.open(source) as disk:
        with pytest.raises(Cancelled):
            write_image(
                disk,
                folder / "image",
                FORMATS["qcow2"],
                overwrite=False,
                progress=lambda _: None,
                cancel=cancel,
            )
        assert list(folder.iterdir()) == []
        (folder / "image").write_bytes(b"old")
        with pytest.raises(ConversionFailed):
            write_image(
                disk,
                folder / ("i" * 253),  # the name of a second file beside it would be too long
                FORMATS["vmdk-flat"],
                overwrite=True,
                progress=lambda _: None,
                cancel=Cancel(),
            )
    assert [path.name for path in folder.iterdir()] == ["image"]
