"""`vdr store key` and the ways to give a key, through the real program."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Vdr = Callable[..., subprocess.CompletedProcess[str]]


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def key_file(tmp_path: Path, vdr: Vdr, storage_dir: Path) -> Path:
    """Of a storage that was made with it."""
    path = tmp_path / "key"
    done(vdr("store", "init", storage_dir, "--key-file", path))
    return path


@pytest.fixture
def passphrase_file(tmp_path: Path) -> Path:
    path = tmp_path / "words"
    path.write_text("correct horse battery\n")
    return path


def listed(vdr: Vdr, storage: Path) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(done(vdr("store", "key", "list", storage, "--json")))
    return answer


def test_keys_are_listed_added_rotated_and_removed(
    vdr: Vdr, storage_dir: Path, key_file: Path, passphrase_file: Path, tmp_path: Path
) -> None:
    (first,) = listed(vdr, storage_dir)["slots"]
    assert (first["kind"], first["epochs"], first["is_current"]) == ("key-file", 1, True)
    assert first["created"].endswith("Z")
    key = ("--key-file", key_file)
    words = json.loads(
        done(
            vdr("store", "key", "add", storage_dir, *key, "--new-passphrase-file", passphrase_file, "--json")
        )
    )
    assert words["recovery_key"] is None
    made = vdr("store", "key", "add", storage_dir, *key, "--recovery")
    recovery = next(line.split()[-1] for line in done(made).splitlines() if "recovery key:" in line)
    assert "not shown again" in made.stderr

    refused = vdr("store", "key", "rotate", storage_dir, *key)
    assert refused.returncode == 5
    assert words["id"] in refused.stderr
    recovery_file = tmp_path / "recovery"
    recovery_file.write_text(recovery.lower())
    rotated = vdr(
        "store", "key", "rotate", storage_dir, *key, "--json",
        "--also-passphrase-file", passphrase_file, "--also-passphrase-file", recovery_file,
    )  # fmt: skip
    answer = json.loads(done(rotated))
    assert (answer["epochs"], len(answer["slots"]), answer["dropped"]) == (2, 3, [])
    assert all(slot["epochs"] == 2 and slot["is_current"] for slot in listed(vdr, storage_dir)["slots"])

    renewed = vdr(
        "store", "key", "rotate", storage_dir, *key, "--new-recovery", "--drop", words["id"], "--json"
    )
    assert json.loads(done(renewed))["recovery_key"] != recovery
    assert vdr("store", "points", storage_dir, "--passphrase-file", passphrase_file).returncode == 6
    table = done(vdr("store", "key", "list", storage_dir))
    assert "key epochs: 3" in table
    assert "behind" not in table
    own = vdr("store", "key", "remove", storage_dir, first["id"], *key)
    assert own.returncode == 5
    assert "only one that this key opens" in own.stderr


def test_wrong_key_ends_with_code_6_and_a_mistyped_recovery_key_is_named(
    vdr: Vdr, storage_dir: Path, key_file: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong"
    wrong.write_text("ab" * 32)
    for act in (("rotate",), ("remove",), ("add", "--recovery")):
        slot = ("00000000",) if act == ("remove",) else ()
        result = vdr("store", "key", act[0], storage_dir, *slot, *act[1:], "--key-file", wrong)
        assert result.returncode == 6, result.stderr
    text = json.loads(
        done(vdr("store", "key", "add", storage_dir, "--key-file", key_file, "--recovery", "--json"))
    )["recovery_key"]
    typed = tmp_path / "typed"
    typed.write_text(text.replace(text[17], "0" if text[17] != "0" else "1", 1))
    result = vdr("store", "points", storage_dir, "--passphrase-file", typed)
    assert result.returncode == 2
    assert "is mistyped" in result.stderr
    typed.write_text(text)
    done(vdr("store", "points", storage_dir, environment={"VDR_PASSPHRASE_FILE": str(typed)}))


def test_storage_made_with_a_passphrase_opens_from_file_and_prompt(
    vdr: Vdr, storage_dir: Path, passphrase_file: Path, tmp_path: Path
) -> None:
    done(vdr("store", "init", storage_dir, "--passphrase-file", passphrase_file))
    assert vdr("store", "points", storage_dir).returncode == 6
    done(vdr("store", "points", storage_dir, "--passphrase-file", passphrase_file))
    both = {"VDR_KEY_FILE": str(passphrase_file), "VDR_PASSPHRASE_FILE": str(passphrase_file)}
    result = vdr("store", "points", storage_dir, environment=both)
    assert result.returncode == 2
    assert "both set" in result.stderr

    # A person at a terminal is asked.
    inside, outside = pty.openpty()
    clean = {name: value for name, value in os.environ.items() if not name.startswith("VDR_")}
    with subprocess.Popen(
        [Path(sys.executable).with_name("vdr"), "store", "points", storage_dir, "--json"],
        stdin=outside,
        stdout=subprocess.PIPE,
        stderr=outside,
        env=clean,
        start_new_session=True,
    ) as process:
        os.close(outside)
        asked = b""
        while b"recovery key of" not in asked:
            asked += os.read(inside, 1000)
        os.write(inside, b"correct horse battery\n")
        assert process.stdout is not None
        assert json.loads(process.stdout.read()) == []
        assert process.wait(60) == 0
    os.close(inside)
