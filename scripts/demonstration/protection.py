"""The steps of the demonstration that go through the product: each proves what it did before it counts as
done."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from appliance import Appliance
from proof import Entry, compare_trees, sha256_of, sha256_over_nfs, walk
from report import DemonstrationError, Report

STORAGE = "local"
DISK_JOB = "demonstration-disk"
TREE_JOB = "demonstration-files"


@dataclass(frozen=True)
class DiskPoint:
    """A point of the disk, and what the disk was when it was made."""

    point_id: str
    sha256: str
    size_bytes: int


@dataclass(frozen=True)
class TreePoint:
    """A point of the tree, and what the tree was when it was made."""

    point_id: str
    entries: dict[str, Entry]


class Protection:
    """Backs up and brings back, on one host, through `vdr`."""

    def __init__(self, appliance: Appliance, report: Report, folder: Path) -> None:
        self._client = appliance.client
        self._host = appliance.host
        self._nfs_options = appliance.nfs_options
        self._report = report
        self._folder = folder

    def prepare(self, device: Path, tree: Path) -> None:
        """Make the storage, if an earlier demonstration did not, and the two jobs anew."""
        names = {row["name"] for row in self._client.rows("storage", "list")}
        if STORAGE not in names:
            self._client.do("storage", "create", STORAGE, self._folder.parent / "storage")
        jobs = {row["name"] for row in self._client.rows("job", "list")}
        for name, kind, path in ((DISK_JOB, "disk", device), (TREE_JOB, "files", tree)):
            if name in jobs:
                self._client.do("job", "delete", name)
            self._client.do(
                *["job", "create", name, kind, "--host", self._host, "--path", path, "--storage", STORAGE]
            )

    def back_up_disk(self, backup_type: str, device: Path) -> DiskPoint:
        """Run the disk's job; returns its point."""
        with self._report.step(f"disk, {backup_type} backup") as step:
            point = self._run_job(DISK_JOB, backup_type)
            step.data_bytes, step.new_bytes, step.stored_bytes = _sizes(point)
        return DiskPoint(point["id"], sha256_of(device), point["logical_bytes"])

    def back_up_tree(self, backup_type: str, tree: Path) -> TreePoint:
        """Run the tree's job; returns its point."""
        with self._report.step(f"files, {backup_type} backup") as step:
            point = self._run_job(TREE_JOB, backup_type)
            step.data_bytes, step.new_bytes, step.stored_bytes = _sizes(point)
        return TreePoint(point["id"], walk(tree))

    def restore_one_file(self, point: TreePoint, tree: Path) -> None:
        """Bring one changed file back, alone, to another place."""
        files = [name for name, entry in sorted(point.entries.items()) if 500 < entry.length_bytes < 10**6]
        chosen = next(name for name in ["etc/passwd", *files] if name in files)
        target = self._folder / "one-file"
        with self._report.step(f"restore one file ({Path(chosen).name})") as step:
            self._restore(point.point_id, target, "--path", f"/{chosen}")
            (restored,) = [path for path in target.rglob(Path(chosen).name) if path.is_file()]
            if restored.read_bytes() != tree.joinpath(chosen).read_bytes():
                raise DemonstrationError(f"{restored} is not what {tree / chosen} is")
            step.data_bytes = restored.stat().st_size
            step.result = "equal"
        shutil.rmtree(target)

    def restore_tree(self, point: TreePoint, tree: Path) -> None:
        """Bring the whole directory back beside the original and compare every entry."""
        target = self._folder / "tree-restored"
        with self._report.step("restore the directory") as step:
            self._restore(point.point_id, target)
            compare_trees(point.entries, walk(target))
            step.data_bytes = sum(entry.length_bytes for entry in point.entries.values())
            step.result = f"{len(point.entries)} entries equal in content and attributes"
        shutil.rmtree(target)

    def restore_disk(self, point: DiskPoint, which: str) -> None:
        """Bring a whole disk back into an image and compare it byte by byte."""
        target = self._folder / "disk-restored.raw"
        with self._report.step(f"restore the disk, {which} point") as step:
            self._restore(point.point_id, target)
            if sha256_of(target) != point.sha256:
                raise DemonstrationError(f"{target} is not what the disk was")
            step.data_bytes = target.stat().st_size
            step.result = f"SHA-256 equal, {point.sha256[:16]}..."
        target.unlink()

    def read_over_nfs(self, point: DiskPoint, which: str) -> None:
        """Serve a point's disk over NFS and read it with a client that is not ours."""
        with self._report.step(f"serve the disk over NFS, {which} point") as step:
            export = self._client.do("export", "start", point.point_id, "--read-only")
            try:
                digest, count = sha256_over_nfs(f"{export['url']}?{self._nfs_options}")
            finally:
                self._client.do("export", "stop", export["id"])
            if (digest, count) != (point.sha256, point.size_bytes):
                raise DemonstrationError(f"{export['url']} gave {count} bytes that are not what the disk was")
            step.data_bytes = count
            step.result = "SHA-256 equal, read by libnfs"

    def _run_job(self, job: str, backup_type: str) -> dict[str, Any]:
        before = {row["id"] for row in self._points()}
        self._client.do("job", "run", job, "--type", backup_type, "--wait")
        new = [row for row in self._points() if row["id"] not in before]
        if len(new) != 1:
            raise DemonstrationError(f"{job} made {len(new)} points, not one")
        return new[0]

    def _points(self) -> list[dict[str, Any]]:
        return self._client.rows("point", "list", "--storage", STORAGE, "--limit", "500")

    def _restore(self, point_id: str, target: Path, *more: str) -> None:
        self._client.do(
            *["restore", "start", point_id, "--host", self._host, "--target", target, *more, "--wait"]
        )


def _sizes(point: dict[str, Any]) -> tuple[int, int, int]:
    return point["logical_bytes"], point["new_bytes"], point["stored_bytes"]
