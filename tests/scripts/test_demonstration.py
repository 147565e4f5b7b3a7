"""The demonstration's own proof can fail: its walker sees every kind of difference. Its daemons are found
again."""

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

FOLDER = Path(__file__).parents[2] / "scripts/demonstration"


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a module of the demonstration by name."""
    monkeypatch.syspath_prepend(FOLDER)

    def load(name: str) -> ModuleType:
        return __import__(name)

    return load


def make_tree(root: Path) -> Path:
    root.mkdir()
    root.joinpath("folder").mkdir()
    root.joinpath("file").write_text("content")
    root.joinpath("file").chmod(0o640)
    os.setxattr(root / "file", "user.note", b"one")
    root.joinpath("link").symlink_to("file")
    os.link(root / "file", root / "folder/second-name")
    os.mkfifo(root / "pipe")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(10**18, 10**18), follow_symlinks=False)
    return root


def replace_link(root: Path) -> None:
    root.joinpath("link").unlink()
    root.joinpath("link").symlink_to("folder")
    os.utime(root / "link", ns=(10**18, 10**18), follow_symlinks=False)


def split_hard_link(root: Path) -> None:
    second = root / "folder/second-name"
    content, info = second.read_bytes(), second.stat()
    second.unlink()
    second.write_bytes(content)
    second.chmod(info.st_mode & 0o7777)
    os.setxattr(second, "user.note", b"one")
    os.utime(second, ns=(10**18, 10**18))
    os.utime(second.parent, ns=(10**18, 10**18))


def rewrite(root: Path) -> None:
    root.joinpath("file").write_text("CONTENT")
    os.utime(root / "file", ns=(10**18, 10**18))


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (rewrite, "file: content differ"),
        (lambda root: root.joinpath("file").chmod(0o600), "file: mode differ"),
        (lambda root: os.chown(root / "link", 1, 1, follow_symlinks=False), "link: owner differ"),
        (lambda root: os.utime(root / "pipe", ns=(10**18, 10**18 + 1)), "pipe: modified_ns differ"),
        (lambda root: os.setxattr(root / "file", "user.note", b"two"), "file: attributes differ"),
        (replace_link, "link: "),
        (split_hard_link, "folder/second-name: linked_with differ"),
        (lambda root: root.joinpath("pipe").unlink(), "missing: pipe"),
        (lambda root: root.joinpath("more").touch(), "not expected: more"),
    ],
    ids=["content", "mode", "owner", "time", "xattr", "symlink", "hardlink", "missing", "extra"],
)
def test_the_walker_sees_a_difference(
    module: Callable[[str], ModuleType], tmp_path: Path, change: Callable[[Path], None], complaint: str
) -> None:
    proof = module("proof")
    before = proof.walk(make_tree(tmp_path / "tree"))
    proof.compare_trees(before, proof.walk(tmp_path / "tree"))
    change(tmp_path / "tree")
    with pytest.raises(module("report").DemonstrationError) as caught:
        proof.compare_trees(before, proof.walk(tmp_path / "tree"))
    assert complaint in str(caught.value)


def test_a_daemon_is_found_again_and_stopped(module: Callable[[str], ModuleType], tmp_path: Path) -> None:
    daemons = module("daemons")
    command = [sys.executable, "-c", "print('ready', flush=True); import signal; signal.pause()"]
    daemon = daemons.Program("sleeper", command, tmp_path)
    assert daemon.process_id() is None
    assert daemon.stop() is False
    daemon.start()
    daemon.wait_until(lambda: daemon.log.read_text() == "ready\n", "not ready")
    again = daemons.Program("sleeper", command, tmp_path)
    assert again.process_id() == daemon.process_id() is not None
    again.start()
    assert again.process_id() == daemon.process_id()
    assert again.stop() is True
    assert daemon.process_id() is None


def test_a_process_id_left_by_a_reboot_does_not_count(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    daemon = module("daemons").Program("sleeper", ["true"], tmp_path)
    tmp_path.joinpath("sleeper.pid").write_text(f"{os.getpid()} 1\n")
    assert daemon.process_id() is None


def test_a_daemon_that_ends_while_starting_is_reported_with_its_words(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    daemon = module("daemons").Program(
        "failing", [sys.executable, "-c", "raise SystemExit('no way')"], tmp_path
    )
    daemon.start()
    with pytest.raises(module("report").DemonstrationError, match="no way"):
        daemon.wait_until(lambda: False, "not ready")


def test_ports_taken_by_others_are_passed_over_and_none_is_chosen_twice(
    module: Callable[[str], ModuleType],
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        chosen = module("daemons").free_ports({"server": taken, "node": taken + 1, "agent": taken})
    assert taken not in chosen.values()
    assert len(set(chosen.values())) == 3


def test_a_killed_demonstration_is_cleared_away_with_its_mount(
    module: Callable[[str], ModuleType], tmp_path: Path
) -> None:
    content = module("content")
    folder = tmp_path / "demonstration"
    folder.mkdir()
    disk = content.make_disk(folder, 1 << 20)
    folder.joinpath("mnt").mkdir(exist_ok=True)
    content.run("mount", disk.device, folder / "mnt")
    content.clear(folder)
    assert not folder.exists()
    assert content.run("losetup", "--list", "--noheadings", "--output", "BACK-FILE").count(str(tmp_path)) == 0
