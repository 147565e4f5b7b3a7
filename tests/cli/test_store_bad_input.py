"""`vdr store` with what cannot work: one clear line, the right exit code, and nothing changed."""

import fcntl
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from vdrd.model.errors import ExitCode

Vdr = Callable[..., subprocess.CompletedProcess[str]]


def fingerprint(root: Path) -> dict[str, str]:
    """Every file below `root` and its content, to prove that a refusal changed nothing."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.name.startswith("lock")
    }


def assert_refused(done: subprocess.CompletedProcess[str], code: ExitCode, *words: str) -> None:
    assert done.returncode == code, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("vdr: ")
    assert "Traceback" not in done.stderr
    assert "internal error" not in done.stderr
    for word in words:
        assert word in last


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a plain storage of one disk point of 4 MiB and one file point, and what they protect."""
    folder = tmp_path_factory.mktemp("template")
    folder.joinpath("disk.raw").write_bytes(random.Random(1).randbytes(4 << 20))
    folder.joinpath("tree").mkdir()
    folder.joinpath("tree/file").write_text("content")
    vdr = Path(sys.executable).with_name("vdr")
    for words in (
        ["init", "storage", "--encryption", "none"],
        ["backup", "storage", "disk", "disk.raw", "--object", "disk"],
        ["backup", "storage", "files", "tree", "--object", "tree"],
    ):
        subprocess.run([vdr, "store", *words], cwd=folder, check=True, capture_output=True)
    return folder


@pytest.fixture
def storage(template: Path, tmp_path: Path) -> Path:
    """A copy of the template's storage; `tmp_path` holds its disk and tree."""
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return tmp_path / "storage"


@pytest.mark.parametrize(
    "command",
    [
        ["points"],
        ["verify"],
        ["collect"],
        ["ls", "tree@latest"],
        ["forget", "tree@latest"],
        ["restore", "tree@latest", "/nowhere/target"],
        ["backup", "files", "/etc", "--object", "x"],
    ],
    ids=lambda command: command[0],
)
def test_a_directory_without_storage_is_not_found(vdr: Vdr, tmp_path: Path, command: list[str]) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = vdr("store", command[0], empty, *command[1:])
    assert_refused(done, ExitCode.NOT_FOUND, str(empty), "vdr store init")
    assert list(empty.iterdir()) == []


def test_init_over_a_storage_is_refused_and_changes_nothing(vdr: Vdr, storage: Path) -> None:
    before = fingerprint(storage)
    assert_refused(vdr("store", "init", storage), ExitCode.REFUSED, str(storage))
    assert fingerprint(storage) == before


def test_init_in_a_directory_with_files_is_refused_and_changes_nothing(vdr: Vdr, tmp_path: Path) -> None:
    tmp_path.joinpath("somebody's").write_text("data")
    before = fingerprint(tmp_path)
    assert_refused(vdr("store", "init", tmp_path), ExitCode.REFUSED, str(tmp_path))
    assert fingerprint(tmp_path) == before


@pytest.mark.parametrize("level", ["0", "5", "fast"])
def test_init_with_an_unknown_compression_is_wrong_usage(vdr: Vdr, storage_dir: Path, level: str) -> None:
    done = vdr("store", "init", storage_dir, "--encryption", "none", "--compression", level)
    assert_refused(done, ExitCode.USAGE, "--compression")
    assert not storage_dir.exists()


@pytest.mark.parametrize(
    ("kind", "path", "options", "code", "words"),
    [
        ("disk", "disk.raw", ["--full"], ExitCode.USAGE, "--full"),
        ("files", "tree", [], ExitCode.USAGE, "for a disk"),
        ("disk", "disk.raw", [], ExitCode.USAGE, "from byte 1 on"),
    ],
    ids=["with full", "of files", "of something else"],
)
def test_changed_blocks_that_cannot_be_used_are_wrong_usage_and_add_no_point(
    vdr: Vdr,
    storage: Path,
    tmp_path: Path,
    kind: str,
    path: str,
    options: list[str],
    code: ExitCode,
    words: str,
) -> None:
    before = fingerprint(storage)
    listed = tmp_path / "changed.json"
    listed.write_text('[{"offset": 0, "length": 1}]')
    command = ["store", "backup", storage, kind, tmp_path / path, "--object", kind, *options]
    assert_refused(vdr(*command, "--changed-blocks", listed), code, words)
    assert fingerprint(storage) == before


@pytest.mark.parametrize("kind", ["disk", "files"])
def test_backup_of_a_missing_path_names_it_and_adds_no_point(vdr: Vdr, storage: Path, kind: str) -> None:
    before = fingerprint(storage)
    done = vdr("store", "backup", storage, kind, "/nowhere/at/all", "--object", "x")
    assert_refused(done, ExitCode.NOT_FOUND, "/nowhere/at/all")
    assert fingerprint(storage) == before


def test_backup_of_a_directory_as_a_disk_is_refused(vdr: Vdr, storage: Path) -> None:
    done = vdr("store", "backup", storage, "disk", "/etc", "--object", "x")
    assert done.returncode in (ExitCode.FAILED, ExitCode.USAGE)
    assert_refused(done, ExitCode(done.returncode), "/etc")


@pytest.mark.parametrize(
    "command", [["ls"], ["verify"], ["forget"], ["restore"]], ids=lambda command: command[0]
)
@pytest.mark.parametrize("point", ["0123456789abcdef0123456789abcdef", "nobody@latest"], ids=["id", "latest"])
def test_an_unknown_point_is_not_found(
    vdr: Vdr, storage: Path, tmp_path: Path, command: list[str], point: str
) -> None:
    before = fingerprint(storage)
    target = [tmp_path / "target"] if command == ["restore"] else []
    done = vdr("store", *command, storage, point, *target)
    assert_refused(done, ExitCode.NOT_FOUND, point.split("@", maxsplit=1)[0])
    assert fingerprint(storage) == before
    assert not tmp_path.joinpath("target").exists()


def test_a_path_outside_the_point_is_not_found(vdr: Vdr, storage: Path, tmp_path: Path) -> None:
    assert_refused(vdr("store", "ls", storage, "tree@latest", "/no/such"), ExitCode.NOT_FOUND, "no/such")
    done = vdr("store", "restore", storage, "tree@latest", tmp_path / "target", "--path", "/no/such")
    assert_refused(done, ExitCode.NOT_FOUND, "no/such")


def test_restore_of_files_into_a_full_directory_is_refused_and_changes_nothing(
    vdr: Vdr, storage: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target"
    target.mkdir()
    target.joinpath("file").write_text("precious")
    done = vdr("store", "restore", storage, "tree@latest", target)
    assert_refused(done, ExitCode.REFUSED, str(target), "--overwrite")
    assert fingerprint(target).keys() == {"file"}
    assert target.joinpath("file").read_text() == "precious"


def test_restore_of_a_disk_over_a_file_is_refused_and_changes_nothing(
    vdr: Vdr, storage: Path, tmp_path: Path
) -> None:
    target = tmp_path / "target.raw"
    target.write_bytes(b"precious" * 1024)
    done = vdr("store", "restore", storage, "disk@latest", target)
    assert_refused(done, ExitCode.REFUSED, str(target), "--overwrite")
    assert target.read_bytes() == b"precious" * 1024


def test_restore_to_a_smaller_device_is_refused_and_changes_nothing(
    vdr: Vdr, storage: Path, tmp_path: Path, loop_device: Callable[[Path], Path]
) -> None:
    image = tmp_path / "small.raw"
    image.write_bytes(b"precious" * (1 << 17))
    device = loop_device(image)
    done = vdr("store", "restore", storage, "disk@latest", device, "--overwrite")
    assert_refused(done, ExitCode.REFUSED, str(device))
    assert image.read_bytes() == b"precious" * (1 << 17)


def test_restore_to_a_device_in_use_is_refused_and_changes_nothing(
    vdr: Vdr, storage: Path, tmp_path: Path, loop_device: Callable[[Path], Path]
) -> None:
    image = tmp_path / "other.raw"
    with image.open("wb") as file:
        file.truncate(8 << 20)
        file.seek((8 << 20) - 4096)
        file.write(b"a RAID superblock")
    device = loop_device(image)
    before = image.read_bytes()
    done = vdr("store", "restore", storage, "disk@latest", device)
    assert_refused(done, ExitCode.REFUSED, str(device), "--overwrite")
    assert image.read_bytes() == before
    assert vdr("store", "restore", storage, "disk@latest", device, "--overwrite").returncode == ExitCode.DONE
    assert image.read_bytes()[: 4 << 20] == tmp_path.joinpath("disk.raw").read_bytes()


def test_restore_to_a_blank_device_needs_no_leave(
    vdr: Vdr, storage: Path, tmp_path: Path, loop_device: Callable[[Path], Path]
) -> None:
    image = tmp_path / "blank.raw"
    with image.open("wb") as file:
        file.truncate(4 << 20)
    done = vdr("store", "restore", storage, "disk@latest", loop_device(image))
    assert done.returncode == ExitCode.DONE, done.stderr
    assert image.read_bytes() == tmp_path.joinpath("disk.raw").read_bytes()


def test_a_newer_format_is_refused_and_left_alone(vdr: Vdr, storage: Path, tmp_path: Path) -> None:
    path = storage / "storage.json"
    document = json.loads(path.read_text())
    document["format"] += 1
    path.write_text(json.dumps(document))
    before = fingerprint(storage)
    for command in (["points", storage], ["backup", storage, "files", "/etc/apt", "--object", "x"]):
        assert_refused(vdr("store", *command), ExitCode.REFUSED, str(storage), "newer version")
    assert fingerprint(storage) == before


def test_a_locked_storage_is_refused_for_writing_and_names_the_holder(vdr: Vdr, storage: Path) -> None:
    with storage.joinpath("lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(f"{os.getpid()} this-host\n")
        lock.flush()
        done = vdr("store", "backup", storage, "files", "/etc/apt", "--object", "x")
        assert_refused(done, ExitCode.REFUSED, str(storage), str(os.getpid()))
        assert vdr("store", "points", storage).returncode == ExitCode.DONE
    assert vdr("store", "backup", storage, "files", "/etc/apt", "--object", "x").returncode == ExitCode.DONE


class TestKeys:
    """An encrypted storage without its key, or with another one."""

    @pytest.fixture
    def encrypted(self, vdr: Vdr, storage_dir: Path, tmp_path: Path) -> Path:
        tmp_path.joinpath("key").write_bytes(random.Random(2).randbytes(32))
        done = vdr(
            "store", "init", storage_dir, "--encryption", "aes-256-gcm", "--key-file", tmp_path / "key"
        )
        assert done.returncode == ExitCode.DONE, done.stderr
        return storage_dir

    def test_no_key_is_refused_with_the_remedy(self, vdr: Vdr, encrypted: Path) -> None:
        assert_refused(vdr("store", "points", encrypted), ExitCode.UNAUTHORISED, "--key-file", "VDR_KEY_FILE")

    def test_a_wrong_key_is_refused(self, vdr: Vdr, encrypted: Path, tmp_path: Path) -> None:
        tmp_path.joinpath("other").write_bytes(random.Random(3).randbytes(32))
        done = vdr("store", "points", encrypted, "--key-file", tmp_path / "other")
        assert_refused(done, ExitCode.UNAUTHORISED, str(encrypted))

    def test_the_key_may_come_from_the_environment(self, vdr: Vdr, encrypted: Path, tmp_path: Path) -> None:
        done = vdr(
            "store", "points", encrypted, "--json", environment={"VDR_KEY_FILE": str(tmp_path / "key")}
        )
        assert (done.returncode, json.loads(done.stdout)) == (ExitCode.DONE, [])

    def test_a_missing_key_file_is_named(self, vdr: Vdr, encrypted: Path, tmp_path: Path) -> None:
        done = vdr("store", "points", encrypted, "--key-file", tmp_path / "gone")
        assert done.returncode in (ExitCode.NOT_FOUND, ExitCode.USAGE)
        assert_refused(done, ExitCode(done.returncode), str(tmp_path / "gone"))

    def test_init_with_encryption_and_no_key_is_wrong_usage(self, vdr: Vdr, tmp_path: Path) -> None:
        done = vdr("store", "init", tmp_path / "new", "--encryption", "sm4-gcm")
        assert done.returncode in (ExitCode.USAGE, ExitCode.UNAUTHORISED)
        assert_refused(done, ExitCode(done.returncode), "--key-file")
        assert not tmp_path.joinpath("new").exists()


def test_a_full_storage_fails_cleanly_and_the_next_run_goes_on(
    vdr: Vdr, tmp_path: Path, tiny_filesystem: Callable[[int], Path]
) -> None:
    storage = tiny_filesystem(24) / "storage"
    small, large = tmp_path / "small.raw", tmp_path / "large.raw"
    small.write_bytes(random.Random(4).randbytes(4 << 20))
    large.write_bytes(random.Random(5).randbytes(40 << 20))
    assert vdr("store", "init", storage, "--encryption", "none").returncode == ExitCode.DONE
    assert vdr("store", "backup", storage, "disk", small, "--object", "small").returncode == ExitCode.DONE
    done = vdr("store", "backup", storage, "disk", large, "--object", "large")
    assert_refused(done, ExitCode.NO_SPACE, str(storage))
    points = json.loads(vdr("store", "points", storage, "--json").stdout)
    assert [point["object"] for point in points] == ["small"]
    assert vdr("store", "verify", storage, "--read-data").returncode == ExitCode.DONE
    assert subprocess.run(["mount", "-o", "remount,size=96m", storage.parent], check=False).returncode == 0
    assert vdr("store", "backup", storage, "disk", large, "--object", "large").returncode == ExitCode.DONE
    assert vdr("store", "verify", storage, "--read-data").returncode == ExitCode.DONE
    assert vdr("store", "restore", storage, "large@latest", tmp_path / "back.raw").returncode == ExitCode.DONE
    assert tmp_path.joinpath("back.raw").read_bytes() == large.read_bytes()


def test_a_full_target_fails_cleanly(
    vdr: Vdr, storage: Path, tmp_path: Path, tiny_filesystem: Callable[[int], Path]
) -> None:
    target = tiny_filesystem(2) / "target.raw"
    assert_refused(
        vdr("store", "restore", storage, "disk@latest", target), ExitCode.NO_SPACE, str(target.parent)
    )


@pytest.mark.parametrize(
    ("point", "target"),
    [("disk", "storage"), ("disk", "storage/storage.json"), ("tree", "storage/points"), ("tree", "link")],
)
def test_restore_into_the_storage_itself_is_refused_and_changes_nothing(
    vdr: Vdr, storage: Path, point: str, target: str
) -> None:
    (storage.parent / "link").symlink_to(storage)
    before = fingerprint(storage)
    done = vdr("store", "restore", storage, f"{point}@latest", storage.parent / target, "--overwrite")
    assert_refused(done, ExitCode.REFUSED, "storage itself")
    assert fingerprint(storage) == before


@pytest.mark.parametrize(
    "words",
    [
        ["backup", "storage", "files", "", "--object", "x"],
        ["restore", "storage", "disk@latest", ""],
        ["restore", "storage", "tree@latest", "out", "--path", ""],
        ["points", ""],
        ["init", ""],
    ],
    ids=lambda words: words[0],
)
def test_an_empty_path_is_wrong_usage_not_the_current_directory(
    vdr: Vdr, tmp_path: Path, words: list[str]
) -> None:
    done = vdr("store", *words)
    assert_refused(done, ExitCode.USAGE, "must not be empty")


@pytest.mark.parametrize(
    ("kind", "name"), [("disk", "tree"), ("files", "disk.raw")], ids=["directory-as-disk", "file-as-files"]
)
def test_backup_of_the_other_kind_is_wrong_usage_and_says_what_to_type(
    vdr: Vdr, storage: Path, tmp_path: Path, kind: str, name: str
) -> None:
    before = fingerprint(storage)
    done = vdr("store", "backup", storage, kind, tmp_path / name, "--object", "x")
    assert_refused(done, ExitCode.USAGE, name, "back ")
    assert fingerprint(storage) == before


def test_object_name_without_measure_is_refused(vdr: Vdr, storage: Path, tmp_path: Path) -> None:
    before = fingerprint(storage)
    done = vdr("store", "backup", storage, "disk", tmp_path / "disk.raw", "--object", "x" * 20_001)
    assert_refused(done, ExitCode.USAGE, "at most 20000 characters")
    assert fingerprint(storage) == before


@pytest.mark.parametrize("name", ["", " ", "a@b", "two\nlines", "\x1b[2J", "\udcff"], ids=ascii)
def test_an_object_name_that_cannot_be_printed_is_wrong_usage(vdr: Vdr, storage: Path, name: str) -> None:
    before = fingerprint(storage)
    done = vdr("store", "backup", storage, "files", storage.parent / "tree", "--object", name)
    assert_refused(done, ExitCode.USAGE, "object's name")
    assert fingerprint(storage) == before


def test_json_about_a_name_that_is_not_utf8_is_valid(vdr: Vdr, storage: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    done = vdr("store", "restore", storage, name, storage.parent / "out", "--json")
    assert_refused(done, ExitCode.NOT_FOUND)
    assert json.loads(done.stdout)["error"]["message"] == f"point not found: {name}"


def test_restore_of_latest_tells_that_a_newer_point_is_damaged(vdr: Vdr, storage: Path) -> None:
    newest = max((storage / "points").glob("*.point"))  # the tree's: whose it was cannot be read any more
    newest.write_bytes(newest.read_bytes()[:-1])
    target = storage.parent / "out.raw"
    done = vdr("store", "restore", storage, "disk@latest", target, "--json")
    assert done.returncode == ExitCode.WARNINGS
    assert target.read_bytes() == (storage.parent / "disk.raw").read_bytes()
    answer = json.loads(done.stdout)
    assert answer["warning_count"] == 1
    assert newest.stem in answer["warnings"][0]
