"""`vdr store` on trees: the program itself, on a real storage, as a script would call it."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.files.corner_cases import make_corner_cases, remove_tree
from tests.files.walker import differences, walk
from vdrd.model.errors import ExitCode

VDR = Path(sys.executable).with_name("vdr")


class Cli:
    """Runs `vdr store` in a folder that holds a storage and a tree."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.run("init", "storage", "--encryption", "none")

    def run(self, *words: str, code: int = ExitCode.DONE) -> subprocess.CompletedProcess[bytes]:
        done = subprocess.run([VDR, "store", *words], cwd=self.folder, capture_output=True, check=False)
        assert done.returncode == code, done.stderr.decode()
        assert b"Traceback" not in done.stderr
        return done

    def answer(self, *words: str, code: int = ExitCode.DONE) -> Any:
        return json.loads(self.run(*words, "--json", code=code).stdout)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    tree = tmp_path / "tree"
    rng = random.Random(6)
    for number in range(300):
        (tree / f"folder {number % 3}").mkdir(parents=True, exist_ok=True)
        (tree / f"folder {number % 3}" / f"file {number}").write_bytes(rng.randbytes(2000))
    (tree / "large").write_bytes(rng.randbytes(2_000_000))
    return Cli(tmp_path)


def backup(cli: Cli, *words: str, code: int = ExitCode.DONE) -> Any:
    return cli.answer("backup", "storage", "files", "tree", "--object", "tree", *words, code=code)


def test_tree_backed_up_changed_and_restored_from_both_points(cli: Cli) -> None:
    before = walk(cli.folder / "tree")
    first = backup(cli)
    assert first["kind"] == "files"
    (cli.folder / "tree" / "folder 1" / "file 1").write_bytes(b"changed")
    (cli.folder / "tree" / "folder 2" / "file 2").unlink()
    second = backup(cli)
    assert second["parent"] == first["id"]
    assert 0 < second["new_bytes"] < 200_000 < first["new_bytes"]
    assert backup(cli)["new_bytes"] == 0
    assert backup(cli, "--full")["new_bytes"] == 0
    cli.run("restore", "storage", first["id"], "old")
    cli.run("restore", "storage", "tree@latest", "new")
    assert differences(before, walk(cli.folder / "old")) == []
    assert differences(walk(cli.folder / "tree"), walk(cli.folder / "new")) == []
    cli.run("verify", "storage", "--read-data")


def test_corner_cases_through_an_encrypted_storage_are_identical(tmp_path: Path) -> None:
    make_corner_cases(tmp_path / "tree")
    os.link(tmp_path / "tree" / "links" / "outside", tmp_path / "outside")
    try:
        cli = Cli(tmp_path)
        (tmp_path / "key").write_bytes(bytes(range(32)))
        key = ("--key-file", "key")
        cli.run("init", "safe", "--encryption", "aes-256-gcm", *key)
        cli.run("backup", "safe", "files", "tree", "--object", "tree", *key)
        cli.run("restore", "safe", "tree@latest", "restored", *key)
        assert differences(walk(tmp_path / "tree"), walk(tmp_path / "restored")) == []
        cli.run("verify", "safe", "--read-data", *key)
    finally:
        remove_tree(tmp_path)


def test_collection_keeps_what_a_later_point_shares(cli: Cli) -> None:
    first = backup(cli)
    (cli.folder / "tree" / "folder 0" / "file 0").write_bytes(b"changed")
    backup(cli)
    cli.run("forget", "storage", first["id"])
    cli.run("collect", "storage")
    cli.run("verify", "storage", "--read-data")
    cli.run("restore", "storage", "tree@latest", "restored")
    assert differences(walk(cli.folder / "tree"), walk(cli.folder / "restored")) == []


def test_ls_lists_a_directory_a_file_and_refuses_the_rest(cli: Cli) -> None:
    (cli.folder / "tree" / "link").symlink_to("large")
    os.close(os.open(os.fsencode(cli.folder / "tree") + b"/\xff", os.O_CREAT | os.O_WRONLY))
    point = backup(cli)["id"]
    lines = cli.run("ls", "storage", point).stdout.decode().splitlines()
    assert [line.split(" ", 1)[0] for line in lines] == [
        "drwxr-xr-x", "drwxr-xr-x", "drwxr-xr-x", "-rw-r--r--", "lrwxrwxrwx", "-rwxr-xr-x",
    ]  # fmt: skip
    assert "link -> large" in lines[4]
    entries = cli.answer("ls", "storage", point, "/folder 1/")
    assert len(entries) == 100
    assert {entry["type"] for entry in entries} == {"regular"}
    assert entries[0]["user"] == "root"
    [entry] = cli.answer("ls", "storage", point, "large")
    assert (entry["path"], entry["size_bytes"]) == ("large", 2_000_000)
    raw = cli.answer("ls", "storage", point)[-1]
    assert (raw["path"], raw["path_hex"]) == ("\\xff", "ff")
    assert (
        cli.answer("ls", "storage", point, "nothing", code=ExitCode.NOT_FOUND)["error"]["code"] == "not-found"
    )


def test_restore_of_paths_overwrite_and_refusal(cli: Cli) -> None:
    backup(cli)
    path = cli.folder / "tree" / "folder 1" / "file 4"
    good = path.read_bytes()
    path.write_bytes(b"bad")
    before = walk(cli.folder / "tree")
    cli.run("restore", "storage", "tree@latest", "tree", "--path", "folder 1/file 4", code=ExitCode.REFUSED)
    assert walk(cli.folder / "tree") == before
    cli.run("restore", "storage", "tree@latest", "tree", "--path", "folder 1/file 4", "--overwrite")
    assert path.read_bytes() == good
    answer = cli.answer("restore", "storage", "tree@latest", "two", "--path", "large", "--path", "/folder 2")
    assert answer["files"] == 101
    cli.run("restore", "storage", "tree@latest", "three", "--path", "nothing", code=ExitCode.NOT_FOUND)
    assert not (cli.folder / "three").exists()


def test_include_and_exclude_narrow_the_point(cli: Cli) -> None:
    backup(cli, "--include", "folder 1", "--include", "/large", "--exclude", "file 1*")
    names = {entry["path"] for entry in cli.answer("ls", "storage", "tree@latest")}
    assert names == {"folder 1", "large"}
    inside = {entry["path"] for entry in cli.answer("ls", "storage", "tree@latest", "folder 1")}
    assert inside
    assert not any(path.startswith("folder 1/file 1") for path in inside)


def test_storage_inside_the_tree_is_left_out(cli: Cli) -> None:
    cli.run("init", "tree/safe", "--encryption", "none")
    cli.run("backup", "tree/safe", "files", "tree", "--object", "tree")
    cli.run("backup", "tree/safe", "files", "tree", "--object", "tree")
    names = {entry["path"] for entry in cli.answer("ls", "tree/safe", "tree@latest")}
    assert names == {"folder 0", "folder 1", "folder 2", "large"}
    cli.run("backup", "tree/safe", "files", "tree/safe", "--object", "self", code=ExitCode.USAGE)


def test_mount_point_in_the_tree_is_a_warning(cli: Cli) -> None:
    mounted = cli.folder / "tree" / "mounted"
    mounted.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", mounted], check=True)
    try:
        answer = backup(cli, code=ExitCode.WARNINGS)
        assert answer["warnings"] == ["mounted is another file system and was not entered"]
        assert backup(cli, "--one-file-system")["warnings"] == []
        assert backup(cli, "--cross-file-systems")["warnings"] == []
    finally:
        subprocess.run(["umount", mounted], check=True)


@pytest.mark.parametrize(
    ("path", "code"),
    [("nowhere", ExitCode.NOT_FOUND), ("tree/large", ExitCode.USAGE), ("/proc", ExitCode.USAGE)],
)
def test_source_that_is_no_directory_is_refused(cli: Cli, path: str, code: ExitCode) -> None:
    cli.run("backup", "storage", "files", path, "--object", "tree", code=code)
    assert cli.answer("points", "storage") == []


def test_killed_backup_leaves_points_whole_and_the_rerun_completes(cli: Cli) -> None:
    backup(cli)
    rng = random.Random(12)
    for number in range(3000):
        folder = cli.folder / "tree" / f"new {number % 40}"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}").write_bytes(rng.randbytes(9000))
    words = [VDR, "store", "backup", "storage", "files", "tree", "--object", "tree"]
    for moment_seconds in (0.3, 0.6, 0.9, 1.2):
        process = subprocess.Popen(
            words, cwd=cli.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moment_seconds)
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
        cli.run("verify", "storage", "--read-data")
    backup(cli)
    cli.run("restore", "storage", "tree@latest", "restored")
    assert differences(walk(cli.folder / "tree"), walk(cli.folder / "restored")) == []
