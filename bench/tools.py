"""The programs that are compared, each as four command lines: prepare, back up, back up again, restore."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import measure
from measure import Cost

SECRET = "benchmark"
VDR = Path(sys.executable).parent / "vdr"


class Tool:
    """One program with a repository of its own below `place`; `kind` is the input's."""

    name = ""
    environment: dict[str, str] = {}

    def __init__(self, place: Path, kind: str, source: Path) -> None:
        self.place, self.kind, self.source = place, kind, source
        self.repository = place / "repository"
        self.target = place / "restored"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)

    def prepare(self) -> None:
        """Make an empty repository."""

    def backup(self) -> Cost:
        """Back the source up; the first time in full."""
        raise NotImplementedError

    def restore(self) -> Cost:
        """Restore the newest state to `self.target`."""
        raise NotImplementedError

    def restored(self) -> Path:
        """Where `restore` put what `source` is."""
        return self.target / self.source.relative_to("/")

    def verify(self) -> Cost | None:
        """Read and check everything stored, where that is to be compared."""
        return None

    def backup_changed(self, ranges: list[tuple[int, int]]) -> Cost | None:
        """Back up again, told which (offset, length) have changed, where the tool takes such a list."""
        return None

    def run(self, *command: str | Path, directory: Path | None = None) -> Cost:
        return measure.run(list(command), environment=self.environment, directory=directory or self.place)


class Vdr(Tool):
    """This project, directly on a storage, encrypted."""

    name = "vdr"

    def prepare(self) -> None:
        self.environment = {"VDR_KEY_FILE": str(self.place / "key")}  # made by init
        self.run(VDR, "store", "init", self.repository, "--encryption", "aes-256-gcm")

    def backup(self) -> Cost:
        return self.run(*self._backup_words())

    def backup_changed(self, ranges: list[tuple[int, int]]) -> Cost | None:
        listed = self.place / "changed.json"
        listed.write_text(json.dumps(ranges))
        return self.run(*self._backup_words(), "--changed-blocks", listed)

    def _backup_words(self) -> list[str | Path]:
        what = "disk" if self.kind == "image" else "files"
        return [VDR, "store", "backup", self.repository, what, self._path(), "--object", "bench"]

    def restore(self) -> Cost:
        points = subprocess.run(
            [VDR, "store", "points", self.repository, "--json"],
            capture_output=True,
            check=True,
            env={"PATH": "/usr/bin:/bin", **self.environment},
        )
        newest = max(json.loads(points.stdout), key=lambda point: point["time"])
        return self.run(VDR, "store", "restore", self.repository, newest["id"], self.target)

    def restored(self) -> Path:
        return self.target / "file" if self.kind == "repeats" else self.target

    def verify(self) -> Cost:
        return self.run(VDR, "store", "verify", self.repository, "--read-data")

    def _path(self) -> Path:
        """A file is backed up as the directory that holds it."""
        return self.source.parent if self.kind == "repeats" else self.source


class Restic(Tool):
    """restic with its defaults: content-defined chunks of about 1 MiB, zstd, AES-256-CTR with Poly1305."""

    name = "restic"

    def prepare(self) -> None:
        self.environment = {"RESTIC_PASSWORD": SECRET, "RESTIC_CACHE_DIR": str(self.place / "cache")}
        self._restic("init")

    def backup(self) -> Cost:
        return self._restic("backup", self.source)

    def restore(self) -> Cost:
        return self._restic("restore", "latest", "--target", self.target)

    def _restic(self, *words: str | Path) -> Cost:
        return self.run("restic", "--quiet", "--repo", self.repository, *words)


class Borg(Tool):
    """borg with zstd level 1; images in fixed blocks of 1 MiB, which is what its manual advises for disks."""

    name = "borg"
    encryption = "repokey-blake2"

    def prepare(self) -> None:
        self.environment = {"BORG_PASSPHRASE": SECRET, "BORG_BASE_DIR": str(self.place / "base")}
        self._count = 0
        self.run("borg", "init", "--encryption", self.encryption, self.repository)

    def backup(self) -> Cost:
        self._count += 1
        fixed = ["--chunker-params", "fixed,1048576", "--sparse"] if self.kind == "image" else []
        archive = f"{self.repository}::{self._count}"
        return self.run("borg", "create", "--compression", "zstd,1", *fixed, archive, self.source)

    def restore(self) -> Cost:
        self.target.mkdir()
        sparse = ["--sparse"] if self.kind == "image" else []
        archive = f"{self.repository}::{self._count}"
        return self.run("borg", "extract", *sparse, archive, directory=self.target)


class Tar(Tool):
    """GNU tar through zstd level 1, with a snapshot file for increments; not encrypted."""

    name = "tar"

    def prepare(self) -> None:
        self.repository.mkdir()
        self._count = 0

    def backup(self) -> Cost:
        self._count += 1
        archive, snapshot = self.repository / f"{self._count}.tar.zst", self.place / "snapshot"
        source = self.source.relative_to("/")
        line = f"tar -C / -S -g '{snapshot}' -cf - '{source}' | zstd -q -1 -o '{archive}'"
        return self.run("bash", "-o", "pipefail", "-c", line)

    def restore(self) -> Cost:
        self.target.mkdir()
        lines = [
            f"zstd -dcq '{self.repository}/{number}.tar.zst' | tar -C '{self.target}' -g /dev/null -xSf -"
            for number in range(1, self._count + 1)
        ]
        return self.run("bash", "-o", "pipefail", "-c", " && ".join(lines))


TOOLS: dict[str, type[Tool]] = {tool.name: tool for tool in (Vdr, Restic, Borg, Tar)}
