"""Real content to protect: a tree and an ext4 disk, both filled from this machine's own /etc and /usr.

The copies are what is protected and changed; the machine's own files are only read.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from report import DemonstrationError

DISK_BYTES = 512 << 20
_SOURCES = [Path("/etc"), Path("/usr/bin"), Path("/usr/lib"), Path("/usr/share")]


def run(*command: str | Path) -> str:
    """Run a tool; its stderr is the error if it fails."""
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        raise DemonstrationError(f"{words} failed: {done.stderr.strip() or done.returncode}")
    return done.stdout.strip()


def _regular_files(source: Path) -> Iterator[tuple[Path, list[str], list[str]]]:
    for folder, folders, names in os.walk(source):
        folders.sort()
        yield Path(folder), folders, sorted(names)


def copy_tree(target: Path, budget_bytes: int, start: int = 0) -> int:
    """Copy /etc and a share of /usr below `target`, with owners, modes and times, until the budget is used.

    `start` skips that many files of each source, so that two calls bring different files. Returns bytes
    copied.
    """
    total = 0
    share = budget_bytes // len(_SOURCES)
    for source in _SOURCES:
        used = seen = 0
        for folder, _, names in _regular_files(source):
            place = target / folder.relative_to("/")
            for name in names:
                origin = folder / name
                seen += 1
                if seen <= start:
                    continue
                info = origin.lstat()
                if used + info.st_size > share:
                    continue
                place.mkdir(parents=True, exist_ok=True)
                copy = place / name
                if copy.is_symlink() or copy.exists():
                    continue
                try:
                    shutil.copy2(origin, copy, follow_symlinks=False)
                    os.chown(copy, info.st_uid, info.st_gid, follow_symlinks=False)
                except (OSError, shutil.SpecialFileError):
                    continue
                used += 0 if copy.is_symlink() else info.st_size
            if used > share * 0.97:
                break
        total += used
    return total


def change_tree(root: Path) -> int:
    """Change a tree as a day's work would: edit, delete, rename, add, re-permission. Returns how many
    entries."""
    files = sorted(path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    if len(files) < 200:
        raise DemonstrationError(
            f"{root} holds only {len(files)} files; at least 200 are needed to show changes"
        )
    changed = 0
    for path in files[5::100]:
        with path.open("ab") as file:
            file.write(b"a line that was not there before\n")
        changed += 1
    for path in files[7::150]:
        path.unlink()
        changed += 1
    for path in files[11::200]:
        path.rename(path.with_name(path.name + ".renamed"))
        changed += 1
    for path in files[13::250]:
        path.chmod(0o600)
        changed += 1
    added = root / "added"
    added.mkdir(exist_ok=True)
    for number in range(20):
        added.joinpath(f"new-{number}.bin").write_bytes(os.urandom(50_000))
        changed += 1
    os.link(added / "new-0.bin", added / "hard-link.bin")
    added.joinpath("link").symlink_to("new-1.bin")
    with added.joinpath("sparse.img").open("wb") as sparse:
        sparse.truncate(64 << 20)
        sparse.seek(32 << 20)
        sparse.write(b"in the middle of a hole")
    return changed + 3


@dataclass(frozen=True)
class Disk:
    """The disk to protect: a sparse image with an ext4 file system. `device` is the loop device, or the image
    itself where this machine has none."""

    image: Path
    device: Path
    is_loop: bool

    def change(self, mount_point: Path) -> int:
        """Change files on the disk through its file system; durable on return. Returns how many."""
        if not self.is_loop:
            return self._change_without_mount()
        with mounted(self.device, mount_point):
            changed = change_tree(mount_point)
            copy_tree(mount_point / "second", 8 << 20, start=400)
        return changed

    def _change_without_mount(self) -> int:
        """The same kind of change by debugfs, for a machine without loop devices."""
        script = "".join(f"write /etc/passwd new-{number}\n" for number in range(20))
        subprocess.run(
            ["debugfs", "-w", "-f", "-", self.image], input=script, text=True, capture_output=True, check=True
        )
        return 20

    def detach(self) -> None:
        """Give the loop device back."""
        if self.is_loop:
            subprocess.run(["losetup", "--detach", self.device], capture_output=True, check=False)


class mounted:  # noqa: N801 (reads as a word in a with statement)
    """Mounts a device while the block runs; unmounted, and so flushed, at its end."""

    def __init__(self, device: Path, mount_point: Path) -> None:
        self._device = device
        self._mount_point = mount_point

    def __enter__(self) -> Path:
        self._mount_point.mkdir(parents=True, exist_ok=True)
        run("mount", self._device, self._mount_point)
        return self._mount_point

    def __exit__(self, *_: object) -> None:
        run("umount", self._mount_point)


def clear(folder: Path) -> None:
    """Remove what an earlier demonstration left, even one that was killed with its disk mounted."""
    listing = ["losetup", "--list", "--noheadings", "--output", "NAME,BACK-FILE"]
    done = subprocess.run(listing, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        device, _, image = line.strip().partition(" ")
        if image.strip().startswith(f"{folder}/"):
            subprocess.run(["umount", device], capture_output=True, check=False)
            subprocess.run(["losetup", "--detach", device], capture_output=True, check=False)
    shutil.rmtree(folder, ignore_errors=True)


def make_disk(folder: Path, budget_bytes: int) -> Disk:
    """A sparse ext4 image filled with `budget_bytes` of real files, attached by loop if there is loop."""
    image = folder / "disk.raw"
    image.unlink(missing_ok=True)
    with image.open("wb") as file:
        file.truncate(DISK_BYTES)
    attached = subprocess.run(
        ["losetup", "--find", "--show", image], capture_output=True, text=True, check=False
    )
    if attached.returncode == 0:
        device = Path(attached.stdout.strip())
        disk = Disk(image, device, is_loop=True)
        try:
            run("mkfs.ext4", "-q", "-F", device)
            with mounted(device, folder / "mnt") as mount_point:
                copy_tree(mount_point, budget_bytes)
        except BaseException:
            disk.detach()
            raise
        return disk
    reason = attached.stderr.strip() or "losetup failed"
    print(f"   no loop device here ({reason}): the image file itself is protected instead of a block device")
    fill = folder / "fill"
    shutil.rmtree(fill, ignore_errors=True)
    copy_tree(fill, budget_bytes)
    run("mkfs.ext4", "-q", "-F", "-d", fill, image)
    shutil.rmtree(fill)
    return Disk(image, image, is_loop=False)
