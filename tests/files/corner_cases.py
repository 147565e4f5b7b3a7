"""Makes the tree of corner cases, and takes trees with flags away again."""

import array
import fcntl
import os
import random
import shutil
import socket
import struct
from pathlib import Path

FS_IOC_GETFLAGS = 0x80086601
FS_IOC_SETFLAGS = 0x40086602
IMMUTABLE, APPEND, NODUMP = 0x10, 0x20, 0x40


def change_flags(path: Path | str | bytes, *, add: int = 0, remove: int = 0) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        value = array.array("l", [0])
        fcntl.ioctl(fd, FS_IOC_GETFLAGS, value)
        value[0] = (value[0] | add) & ~remove
        fcntl.ioctl(fd, FS_IOC_SETFLAGS, value)
    finally:
        os.close(fd)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """A POSIX ACL as the kernel keeps it: (tag, permissions, id) each."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


NONE = 0xFFFFFFFF
ACCESS = acl((1, 6, NONE), (2, 4, 1234), (4, 4, NONE), (16, 6, NONE), (32, 0, NONE))
DEFAULT = acl((1, 7, NONE), (2, 5, 1234), (4, 5, NONE), (16, 7, NONE), (32, 0, NONE))
CAPABILITY = struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0)


def make_corner_cases(root: Path) -> None:
    """Everything a file system can hold that a careless backup loses. Needs root and ext4 (or alike)."""
    root.mkdir(parents=True, exist_ok=True)
    rng = random.Random(7)
    names = root / "names"
    names.mkdir()
    (names / ("n" * 255)).write_bytes(b"longest name")
    for raw in (
        b"\xff\xfe latin \xe9",
        b"new\nline",
        b"tab\t",
        b" space ",
        b"-rf",
        b"*",
        b"a",
        b"a.b",
        b"a-b",
        b"\x01\x02",
    ):
        (Path(os.fsdecode(os.fsencode(names) + b"/" + raw))).write_bytes(raw)
    order = root / "order"
    for name in ("a", "a.txt", "a-b", "ab", "a b"):
        (order / name).mkdir(parents=True)
        (order / name / "x").write_text(name)
    deep = os.open(root, os.O_RDONLY)
    for depth in range(110):
        part = f"deep-{depth}-" + "d" * 80
        os.mkdir(part, dir_fd=deep)
        below = os.open(part, os.O_RDONLY, dir_fd=deep)
        os.close(deep)
        deep = below
    fd = os.open("bottom", os.O_WRONLY | os.O_CREAT, 0o600, dir_fd=deep)
    os.write(fd, b"reached")
    os.close(fd)
    os.close(deep)
    links = root / "links"
    (links / "other").mkdir(parents=True)
    (links / "z-first").write_bytes(b"three names" * 100)
    os.link(links / "z-first", links / "a-second")
    os.link(links / "z-first", links / "other" / "third")
    (links / "big").write_bytes(rng.randbytes(700_000))
    os.link(links / "big", links / "other" / "big too")
    (links / "outside").write_bytes(b"its other name is not in the tree")
    (links / "symlink").symlink_to("z-first")
    (links / "broken").symlink_to("nowhere/at all")
    (links / "absolute").symlink_to("/etc/passwd")
    (links / "long").symlink_to("x" * 4000)
    (links / "raw target").symlink_to(os.fsdecode(b"\xff\xfe"))
    os.chown(links / "symlink", 12, 34, follow_symlinks=False)
    os.utime(links / "symlink", ns=(5, 1_000_000_000_000_000_123), follow_symlinks=False)
    sparse = root / "sparse"
    sparse.mkdir()
    with (sparse / "1 TiB").open("wb") as file:
        file.write(b"begin" * 1000)
        file.seek(1 << 39)
        file.write(rng.randbytes(300_000))
        file.truncate(1 << 40)
    with (sparse / "all hole").open("wb") as file:
        file.truncate(5_000_000)
    with (sparse / "small").open("wb") as file:
        file.seek(20_000)
        file.write(b"end")
    with (sparse / "many").open("wb") as file:
        for number in range(150):
            file.seek(number * 40_960)
            file.write(b"%d" % number * 100)
    (sparse / "zeros that are not holes").write_bytes(bytes(300_000))
    special = root / "special"
    special.mkdir()
    os.mkfifo(special / "fifo", 0o640)
    os.mknod(special / "null", 0o666 | 0o020000, os.makedev(1, 3))
    os.mknod(special / "disk", 0o660 | 0o060000, os.makedev(240, 517))
    server = socket.socket(socket.AF_UNIX)
    here = os.open(special, os.O_RDONLY)
    server.bind(f"/proc/self/fd/{here}/socket")
    os.close(here)
    server.close()
    os.chown(special / "fifo", 1000, 1001)
    modes = root / "modes"
    modes.mkdir()
    for mode in (0o000, 0o400, 0o755, 0o4755, 0o2755, 0o1777, 0o7777):
        path = modes / f"file {mode:o}"
        path.write_text(oct(mode))
        os.chown(path, 1000, 1001)
        path.chmod(mode)
        folder = modes / f"dir {mode:o}"
        folder.mkdir()
        (folder / "inside").write_text("x")
        os.chown(folder, 65534, 65534)
        folder.chmod(mode)
    attributes = root / "attributes"
    (attributes / "inherits").mkdir(parents=True)
    os.setxattr(attributes / "inherits", "system.posix_acl_default", DEFAULT)
    (attributes / "inherits" / "born with an acl").write_text("x")
    plain = attributes / "inherits" / "lost its acl"
    plain.write_text("x")
    os.removexattr(plain, "system.posix_acl_access")
    full = attributes / "full"
    full.write_text("x")
    os.setxattr(full, "user.plain", b"value")
    os.setxattr(full, "user.empty", b"")
    os.setxattr(full, "user.binary", bytes(range(256)))
    os.setxattr(full, "user.big", rng.randbytes(2000))
    os.setxattr(full, "trusted.only root", b"t")
    os.setxattr(full, "security.note", b"s")
    os.setxattr(full, "system.posix_acl_access", ACCESS)
    program = attributes / "capable"
    program.write_text("x")
    os.chown(program, 3, 4)
    os.setxattr(program, "security.capability", CAPABILITY)
    (attributes / "symlink").symlink_to("full")
    os.setxattr(attributes / "symlink", "trusted.of the link", b"l", follow_symlinks=False)
    os.setxattr(special / "fifo", "trusted.of the fifo", b"f")
    os.setxattr(attributes, "user.of the directory", b"d")
    times = root / "times"
    times.mkdir()
    for name, ns in (
        ("epoch", 0),
        ("before", -1_500_000_000_000_000_001),
        ("far", 9_000_000_000_123_456_789),
    ):
        (times / name).write_text(name)
        os.utime(times / name, ns=(ns, ns))
    sizes = root / "sizes"
    sizes.mkdir()
    for size in (0, 1, 4095, 4096, 65536, 131_071, 131_072, 131_073, 262_144, 1_000_000, 9_000_000):
        (sizes / str(size)).write_bytes(rng.randbytes(size))
    flags = root / "flags"
    (flags / "immutable dir").mkdir(parents=True)
    for name, add in (("immutable", IMMUTABLE), ("append", APPEND), ("nodump", NODUMP)):
        (flags / name).write_text(name)
        change_flags(flags / name, add=add)
    (flags / "immutable and linked").write_text("x")
    os.link(flags / "immutable and linked", flags / "its link")
    change_flags(flags / "its link", add=IMMUTABLE)
    (flags / "immutable dir" / "inside").write_text("x")
    change_flags(flags / "immutable dir", add=IMMUTABLE)
    os.utime(root, ns=(1, 1_111_111_111_111_111_111))


def remove_tree(root: Path) -> None:
    """Remove a tree whatever flags it has."""
    for folder, _, files in os.walk(root):
        for path in [Path(folder), *(Path(folder, name) for name in files)]:
            if not path.is_symlink() and (path.is_file() or path.is_dir()):
                change_flags(path, remove=IMMUTABLE | APPEND)
    shutil.rmtree(root)
