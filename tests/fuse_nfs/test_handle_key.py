"""The key of file handles: made once, found again, never half there."""

import stat
from pathlib import Path

import pytest

from fuse_nfs import handle_key as module
from fuse_nfs.handle_key import KEY_NAME, handle_key
from vdrd.model.errors import Damaged, StorageUnwritable


def test_key_is_made_once_and_for_nobody_else(tmp_path: Path) -> None:
    key = handle_key(tmp_path)
    assert len(key) == 16
    assert handle_key(tmp_path) == key
    assert [path.name for path in tmp_path.iterdir()] == [KEY_NAME]
    assert stat.S_IMODE((tmp_path / KEY_NAME).stat().st_mode) == 0o600
    (tmp_path / "other").mkdir()
    assert handle_key(tmp_path / "other") != key


def test_key_that_was_cut_is_damaged_and_kept(tmp_path: Path) -> None:
    (tmp_path / KEY_NAME).write_bytes(b"short")
    with pytest.raises(Damaged, match="5 bytes"):
        handle_key(tmp_path)
    assert (tmp_path / KEY_NAME).read_bytes() == b"short"


def test_key_that_cannot_be_made_says_where(tmp_path: Path) -> None:
    with pytest.raises(StorageUnwritable, match="absent"):
        handle_key(tmp_path / "absent")


@pytest.mark.parametrize(
    ("identity", "is_same"), [(b"0123456789abcdef\n", True), (b"", False), (None, False)]
)
def test_key_without_a_directory_is_the_machines_own_if_it_has_an_identity(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, identity: bytes | None, is_same: bool
) -> None:
    path = tmp_path / "machine-id"
    if identity is not None:
        path.write_bytes(identity)
    monkeypatch.setattr(module, "_MACHINE_ID", path)
    first, second = handle_key(None), handle_key(None)
    assert (first == second) == is_same
    assert identity is None or identity not in (first, second)
