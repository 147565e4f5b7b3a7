"""Proof that what came back is what was there: an independent walker and plain SHA-256. Uses nothing of the
product."""

import hashlib
import os
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from report import DemonstrationError

_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Entry:
    """Everything that a restore must bring back of one name."""

    kind: int
    mode: int
    owner: tuple[int, int]
    modified_ns: int
    length_bytes: int
    device: int
    content: str
    attributes: tuple[tuple[str, bytes], ...]
    linked_with: str
    """First path of the group of hard links."""


def sha256_of(path: Path) -> str:
    """SHA-256 of a file or device."""
    with path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def walk(root: Path) -> dict[str, Entry]:
    """Relative path to entry, for everything below `root`."""
    seen: dict[tuple[int, int], str] = {}
    entries: dict[str, Entry] = {}
    for folder, folders, names in os.walk(root):
        folders.sort()
        for name in sorted(folders + names):
            path = Path(folder, name)
            relative = str(path.relative_to(root))
            entries[relative] = _entry(path, relative, seen)
    return entries


def _entry(path: Path, relative: str, seen: dict[tuple[int, int], str]) -> Entry:
    info = path.lstat()
    kind = stat.S_IFMT(info.st_mode)
    content = ""
    if kind == stat.S_IFREG:
        content = sha256_of(path)
    elif kind == stat.S_IFLNK:
        content = str(path.readlink())
    linked_with = ""
    if kind != stat.S_IFDIR and info.st_nlink > 1:
        linked_with = seen.setdefault((info.st_dev, info.st_ino), relative)
    names = sorted(os.listxattr(path, follow_symlinks=False))
    return Entry(
        kind=kind,
        mode=stat.S_IMODE(info.st_mode),
        owner=(info.st_uid, info.st_gid),
        modified_ns=info.st_mtime_ns,
        length_bytes=info.st_size if kind in (stat.S_IFREG, stat.S_IFLNK) else 0,
        device=info.st_rdev if kind in (stat.S_IFBLK, stat.S_IFCHR) else 0,
        content=content,
        attributes=tuple((name, os.getxattr(path, name, follow_symlinks=False)) for name in names),
        linked_with=linked_with,
    )


def compare_trees(expected: dict[str, Entry], found: dict[str, Entry]) -> None:
    """Raise with the first differences unless both walks are the same."""
    problems = [f"missing: {path}" for path in expected.keys() - found.keys()]
    problems += [f"not expected: {path}" for path in found.keys() - expected.keys()]
    for path in expected.keys() & found.keys():
        if expected[path] != found[path]:
            fields = [
                name
                for name in Entry.__dataclass_fields__
                if getattr(expected[path], name) != getattr(found[path], name)
            ]
            problems.append(f"{path}: {', '.join(fields)} differ")
    if problems:
        shown = "\n  ".join(sorted(problems)[:20])
        raise DemonstrationError(f"the restored tree differs in {len(problems)} places:\n  {shown}")


def sha256_over_nfs(address: str) -> tuple[str, int]:
    """SHA-256 and length of a file read by a real NFS client (libnfs)."""
    tool = shutil.which("nfs-cat")
    if tool is None:
        raise DemonstrationError("nfs-cat is missing. Install the package libnfs-utils")
    client = subprocess.Popen([tool, address], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stderr is not None
    digest = hashlib.sha256()
    count = 0
    while block := client.stdout.read(_READ_BYTES):
        digest.update(block)
        count += len(block)
    complaint = client.stderr.read().decode(errors="replace").strip()
    if client.wait() != 0:
        raise DemonstrationError(f"{tool} {address} failed: {complaint}")
    return digest.hexdigest(), count
