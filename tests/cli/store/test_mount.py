"""`vdr store mount` with real points, seen by the kernel and its programs."""

import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

Vdr = Callable[..., subprocess.CompletedProcess[str]]
Mount = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def mountpoint(tmp_path: Path) -> Path:
    path = tmp_path / "mnt"
    path.mkdir()
    return path


@pytest.fixture
def mount(mountpoint: Path) -> Iterator[Mount]:
    """`mount(storage, point)`: the running command, mounted."""
    with ExitStack() as stack:

        def start(*arguments: object) -> subprocess.Popen[str]:
            command = [
                Path(sys.executable).with_name("vdr"),
                "store",
                "mount",
                *map(str, arguments),
                mountpoint,
            ]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            stack.callback(process.communicate)
            stack.callback(process.kill)
            stack.callback(subprocess.run, ["umount", "-l", mountpoint], stderr=subprocess.DEVNULL)
            assert process.stdout is not None
            assert process.stdout.readline().startswith("mounted ")
            return process

        yield start


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Every kind of entry that a tree may have."""
    root = tmp_path / "tree"
    (root / "many").mkdir(parents=True)
    for number in range(300):
        (root / "many" / f"file {number}").write_bytes(os.urandom(number * 13))
    (root / os.fsdecode(b"not utf-8 \xff")).write_text("name")
    (root / "large").write_bytes(os.urandom(3 << 20))
    with (root / "sparse").open("wb") as sparse:
        sparse.truncate(1 << 40)
        sparse.seek(1 << 39)
        sparse.write(b"middle")
    (root / "link").symlink_to("many/file 7")
    os.link(root / "large", root / "many" / "large again")
    os.mkfifo(root / "fifo", 0o640)
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.setxattr(root / "large", b"user.note", b"kept \x00 bytes")
    os.chown(root / "many" / "file 3", 1234, 4321)
    (root / "many" / "file 3").chmod(0o4751)
    os.utime(root / "many", ns=(1, 1_600_000_000_987_654_321))
    return root


def described(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything of a tree that a mount must show, by relative path."""
    found: dict[str, tuple[object, ...]] = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            path = Path(folder, name)
            status = path.lstat()
            kind = stat.S_IFMT(status.st_mode)
            content: object = None
            if kind == stat.S_IFREG and status.st_size < 1 << 30:
                content = path.read_bytes()
            elif kind == stat.S_IFLNK:
                content = path.readlink()
            attributes = tuple((n, os.getxattr(path, n)) for n in os.listxattr(path, follow_symlinks=False))
            size = status.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0
            owner = (status.st_uid, status.st_gid, status.st_mode, status.st_rdev)
            links = 0 if kind == stat.S_IFDIR else status.st_nlink
            found[str(path.relative_to(root))] = (
                *owner,
                links,
                size,
                status.st_mtime_ns,
                content,
                attributes,
            )
    return found


def is_mounted(path: Path) -> bool:
    return f" {path} fuse" in Path("/proc/mounts").read_text()


def test_mount_of_a_disk_shows_its_bytes(
    vdr: Vdr, mount: Mount, mountpoint: Path, storage_dir: Path, disk_image: Callable[..., Path]
) -> None:
    image = disk_image(12)
    vdr("store", "init", storage_dir)
    assert vdr("store", "backup", storage_dir, "disk", image, "--object", "d").returncode == 0
    process = mount(storage_dir, "d@latest")
    assert os.listdir(mountpoint) == ["disk.raw"]  # noqa: PTH208
    assert (mountpoint / "disk.raw").read_bytes() == image.read_bytes()
    space = os.statvfs(mountpoint)
    assert (space.f_blocks * space.f_frsize, space.f_bavail) == (12 << 20, 0)
    with pytest.raises(OSError, match="Read-only"):
        (mountpoint / "disk.raw").open("r+b")
    with pytest.raises(OSError, match="Read-only"):
        (mountpoint / "new").mkdir()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    assert not is_mounted(mountpoint)


def test_mount_of_files_shows_the_tree_as_it_was(
    vdr: Vdr, mount: Mount, mountpoint: Path, storage_dir: Path, tree: Path
) -> None:
    vdr("store", "init", storage_dir)
    assert vdr("store", "backup", storage_dir, "files", tree, "--object", "t").returncode == 0
    process = mount(storage_dir, "t@latest")
    assert described(mountpoint) == described(tree)
    assert (mountpoint / "large").stat().st_ino == (mountpoint / "many/large again").stat().st_ino
    with (mountpoint / "sparse").open("rb") as sparse:
        assert sparse.seek((1 << 39) - 10) and sparse.read(20) == bytes(10) + b"middle" + bytes(4)  # noqa: PT018
    with pytest.raises(FileNotFoundError):
        (mountpoint / "many/nothing").stat()
    subprocess.run(["umount", mountpoint], check=True)
    assert process.wait(60) == 0


def test_mount_stopped_while_in_use_leaves_no_mount(
    vdr: Vdr, mount: Mount, mountpoint: Path, storage_dir: Path, disk_image: Callable[..., Path]
) -> None:
    vdr("store", "init", storage_dir)
    vdr("store", "backup", storage_dir, "disk", disk_image(4), "--object", "d")
    process = mount(storage_dir, "d@latest")
    fd = os.open(mountpoint / "disk.raw", os.O_RDONLY)
    assert os.read(fd, 10)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0
    with pytest.raises(OSError, match="not connected"):
        os.close(fd)
    assert not is_mounted(mountpoint)


def test_mount_where_it_cannot_be_is_refused(
    vdr: Vdr, storage_dir: Path, tmp_path: Path, disk_image: Callable[..., Path]
) -> None:
    vdr("store", "init", storage_dir)
    vdr("store", "backup", storage_dir, "disk", disk_image(4), "--object", "d")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    codes = {
        name: vdr("store", "mount", storage_dir, "d@latest", tmp_path / name).returncode
        for name in ("missing", "full", "full/file")
    }
    assert codes == {"missing": 4, "full": 5, "full/file": 5}
