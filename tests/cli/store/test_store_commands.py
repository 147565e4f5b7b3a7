"""The commands on a storage, end to end through the real program."""

import json
import random
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Vdr = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key"


def done(result: subprocess.CompletedProcess[str]) -> str:
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_disk_goes_the_whole_way_encrypted(
    vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path], key_file: Path, tmp_path: Path
) -> None:
    key = {"VDR_KEY_FILE": str(key_file)}
    made = vdr("store", "init", storage_dir, "--key-file", key_file)
    assert "aes-256-gcm" in done(made)
    assert str(key_file) in made.stderr
    assert key_file.stat().st_mode & 0o777 == 0o600
    assert len(bytes.fromhex(key_file.read_text())) == 32

    image = disk_image(12)
    first = json.loads(
        done(vdr("store", "backup", storage_dir, "disk", image, "--object", "vm", "--json", environment=key))
    )
    assert first["logical_bytes"] == 12 << 20
    assert first["read_bytes"] == 9 << 20
    assert first["warnings"] == []
    assert first["seconds"] > 0
    with image.open("r+b") as file:
        file.write(b"changed")
    second = json.loads(
        done(vdr("store", "backup", storage_dir, "disk", image, "--object", "vm", "--json", environment=key))
    )
    assert second["parent"] == first["id"]
    assert 0 < second["new_bytes"] < 80_000

    points = json.loads(done(vdr("store", "points", storage_dir, "--json", environment=key)))
    assert [point["id"] for point in points] == [first["id"], second["id"]]
    assert set(points[0]) >= {
        "id", "object", "kind", "time", "logical_bytes", "new_bytes", "stored_bytes", "parent"
    }  # fmt: skip
    assert points[0]["time"].endswith("Z")
    assert "vm" in done(vdr("store", "points", storage_dir, "--object", "vm", environment=key))
    assert (
        json.loads(done(vdr("store", "points", storage_dir, "--object", "no", "--json", environment=key)))
        == []
    )

    report = json.loads(done(vdr("store", "verify", storage_dir, "--read-data", "--json", environment=key)))
    assert report["damages"] == []
    assert report["points"] == 2
    assert done(vdr("store", "verify", storage_dir, "vm@latest", environment=key))

    (tmp_path / "folder").mkdir()
    restored = json.loads(
        done(
            vdr("store", "restore", storage_dir, "vm@latest", tmp_path / "folder", "--json", environment=key)
        )
    )
    assert restored["target"] == str(tmp_path / "folder" / "disk.raw")
    assert (tmp_path / "folder" / "disk.raw").read_bytes() == image.read_bytes()

    stats = ("store", "stats", storage_dir, "--json", "--object", "vm")
    figures = json.loads(done(vdr(*stats, environment=key)))
    assert [row["id"] for row in figures["points"]] == [point["id"] for point in points]
    assert figures["dead_bytes"] == 0
    assert "vm" in done(vdr("store", "stats", storage_dir, environment=key))

    assert first["id"] in done(vdr("store", "forget", storage_dir, first["id"], environment=key))
    freed = json.loads(done(vdr("store", "collect", storage_dir, "--json", environment=key)))
    assert freed["freed_bytes"] >= 0
    done(vdr("store", "verify", storage_dir, "--read-data", environment=key))


def test_backup_with_full_names_no_parent(
    vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path]
) -> None:
    done(vdr("store", "init", storage_dir))
    image = disk_image(1)
    done(vdr("store", "backup", storage_dir, "disk", image, "--object", "a"))
    done(vdr("store", "backup", storage_dir, "disk", image, "--object", "a", "--full"))
    points = json.loads(done(vdr("store", "points", storage_dir, "--json")))
    assert [(point["type"], point["parent"]) for point in points] == [("full", None), ("full", None)]


def test_backup_with_changed_blocks_reads_only_those(
    vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path], tmp_path: Path
) -> None:
    done(vdr("store", "init", storage_dir, "--encryption", "none"))
    image, listed, target = disk_image(12), tmp_path / "changed.json", tmp_path / "target.raw"
    words = ["store", "backup", storage_dir, "disk", image, "--object", "vm", "--json"]
    listed.write_text("[[0, 7], [3145728, 65536]]")
    first = vdr(*words, "--changed-blocks", listed)
    assert "no point" in first.stderr
    assert json.loads(done(first))["notes"]
    with image.open("r+b") as file:
        file.write(b"changed")
        file.seek(3 << 20)
        file.write(b"changed")
    second = json.loads(done(vdr(*words, "--changed-blocks", listed)))
    assert second["read_bytes"] == 2 * 65536
    assert second["notes"] == []
    done(vdr("store", "restore", storage_dir, "vm@latest", target))
    assert target.read_bytes() == image.read_bytes()


def test_backup_with_changed_blocks_after_a_damaged_point_reads_everything(
    vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path], tmp_path: Path
) -> None:
    done(vdr("store", "init", storage_dir, "--encryption", "none"))
    image, listed, target = disk_image(12), tmp_path / "changed.json", tmp_path / "target.raw"
    words = ["store", "backup", storage_dir, "disk", image, "--object", "vm", "--json"]
    done(vdr(*words))
    with image.open("r+b") as file:
        file.write(b"changed")
    newer = json.loads(done(vdr(*words)))["id"]
    point = storage_dir / "points" / f"{newer}.point"
    point.write_bytes(point.read_bytes()[:-1])
    listed.write_text("[]")
    answer = json.loads(done(vdr(*words, "--changed-blocks", listed)))
    assert "damaged" in answer["notes"][0]
    done(vdr("store", "restore", storage_dir, answer["id"], target))
    assert target.read_bytes() == image.read_bytes()


def test_backup_into_another_key_domain_shares_nothing_and_restores(
    vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path], tmp_path: Path
) -> None:
    done(vdr("store", "init", storage_dir))
    image = disk_image(4)
    found = []
    for domain in ("0", "7", "7"):
        made = vdr(
            "store", "backup", storage_dir, "disk", image, "--object", "a", "--domain", domain, "--json"
        )
        found.append(json.loads(done(made)))
    assert [point["domain"] for point in found] == [0, 7, 7]
    assert [point["parent"] for point in found] == [None, None, found[1]["id"]]
    assert found[1]["new_bytes"] == found[0]["new_bytes"] > 0 == found[2]["new_bytes"]
    done(vdr("store", "restore", storage_dir, found[2]["id"], tmp_path / "out.raw"))
    assert (tmp_path / "out.raw").read_bytes() == image.read_bytes()
    refused = vdr("store", "backup", storage_dir, "disk", image, "--object", "a", "--domain", "-1")
    assert refused.returncode == 2


def test_verify_of_a_damaged_pack_ends_with_code_7_and_names_it(
    vdr: Vdr, storage_dir: Path, tmp_path: Path
) -> None:
    done(vdr("store", "init", storage_dir))
    image = tmp_path / "disk.img"
    image.write_bytes(random.Random(1).randbytes(200_000))
    done(vdr("store", "backup", storage_dir, "disk", image, "--object", "a"))
    pack = next(storage_dir.glob("packs/*/*.pack"))
    data = bytearray(pack.read_bytes())
    data[1000] ^= 1
    pack.write_bytes(data)
    assert vdr("store", "verify", storage_dir).returncode == 0
    result = vdr("store", "verify", storage_dir, "--read-data", "--json")
    assert result.returncode == 7
    report = json.loads(result.stdout)
    assert pack.stem in report["damages"][0]["reason"]
    assert len(report["affected_points"]) == 1
    refused = vdr("store", "restore", storage_dir, "a@latest", tmp_path / "out.raw")
    assert refused.returncode == 7
    assert not (tmp_path / "out.raw").exists()


def test_init_keeps_an_existing_key_file_and_removes_one_it_made_for_nothing(
    vdr: Vdr, storage_dir: Path, key_file: Path
) -> None:
    key_file.write_text("ab" * 32)
    done(vdr("store", "init", storage_dir, "--key-file", key_file, "--encryption", "sm4-gcm"))
    assert key_file.read_text() == "ab" * 32
    other = key_file.with_name("other")
    assert vdr("store", "init", storage_dir, "--key-file", other).returncode == 5
    assert not other.exists()


def test_init_encrypted_without_a_key_is_wrong_usage(vdr: Vdr, storage_dir: Path) -> None:
    result = vdr("store", "init", storage_dir, "--encryption", "aes-256-gcm")
    assert result.returncode == 2
    assert "--key-file" in result.stderr
    assert not storage_dir.exists()


def test_forget_of_one_unknown_point_forgets_none(
    vdr: Vdr, storage_dir: Path, disk_image: Callable[..., Path]
) -> None:
    done(vdr("store", "init", storage_dir))
    done(vdr("store", "backup", storage_dir, "disk", disk_image(1), "--object", "a"))
    assert vdr("store", "forget", storage_dir, "a@latest", "ffff").returncode == 4
    assert len(json.loads(done(vdr("store", "points", storage_dir, "--json")))) == 1
