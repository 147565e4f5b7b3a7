"""Metadata backups: made beside the running server, sent to a storage's node, and a server made again from
them."""

import io
import sqlite3
import tarfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import zstandard

from schemas import api
from vdrd.formats import metadata as sealed
from vdrd.formats.metadata import MetadataDamaged, PassphraseWrong, Sealer
from vdrd.model.errors import BadInput, NotFound, NotOnline, TargetRefused, VdrError
from vdrd.server import metadata
from vdrd.server.metadata_keeper import NoPassphrase, Plan
from vdrd.server.setup import lay

from .conftest import Client

PASSPHRASE = "correct horse battery"
NOW = datetime(2026, 11, 23, 3, 30, tzinfo=UTC)


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Passphrases cost little: what is tested is not their strength."""
    monkeypatch.setattr(sealed, "SCRYPT", (4, 8, 1))
    monkeypatch.setattr(Sealer.__init__, "__defaults__", ((4, 8, 1),))


def saved(tmp_path: Path, fast_hashing: None) -> tuple[Path, Path]:
    """The state of an appliance, and a backup of it."""
    state = tmp_path / "state"
    foundation = lay(state / "server")
    catalog = foundation.catalog
    keys = state / "node" / "keys"
    keys.mkdir(parents=True)
    (keys / "main.key").write_text("ab" * 32)

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nodes (node_id, name, enrolled_at_ms) VALUES ('n', 'vault', 1)")
        connection.execute(
            "INSERT INTO storages (storage_id, tenant_id, node_id, name, path, key_file, encryption,"
            " created_at_ms)"
            " VALUES ('s', 'default', 'n', 'main', '/srv', ?, 'aes-256-gcm', 1)",
            [str(keys / "main.key")],
        )

    catalog.write_now(work)
    backup = tmp_path / "backup.vdrmeta"
    with backup.open("wb") as out:
        metadata.save(
            out,
            PASSPHRASE,
            server_state=state / "server",
            server_id=foundation.server_id,
            beside={"node/keys": keys},
            now=NOW,
        )
    catalog.close()
    return state, backup


def test_restored_state_is_the_server_again_with_its_keys_at_their_new_place(
    tmp_path: Path, fast_hashing: None
) -> None:
    state, backup = saved(tmp_path, fast_hashing)
    fresh = tmp_path / "fresh"
    note = metadata.restore(backup, PASSPHRASE, fresh)
    assert note["created"] == "2026-11-23T03:30:00+00:00"
    again = lay(fresh / "server")
    try:
        assert (again.server_id, again.new_password) == (note["server_id"], None)
        assert again.authority.certificate_pem == (state / "server/authority/authority.pem").read_text()
        (row,) = again.catalog.write_now(lambda c: c.execute("SELECT key_file FROM storages").fetchall())
    finally:
        again.catalog.close()
    assert row["key_file"] == str(fresh / "node/keys/main.key")
    assert Path(row["key_file"]).read_text() == "ab" * 32
    for path in fresh.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path


def test_backup_leaves_no_snapshot_behind(tmp_path: Path, fast_hashing: None) -> None:
    state, _ = saved(tmp_path, fast_hashing)
    assert not (state / "server" / "catalog.snapshot").exists()


def test_wrong_passphrase_makes_nothing(tmp_path: Path, fast_hashing: None) -> None:
    _, backup = saved(tmp_path, fast_hashing)
    with pytest.raises(PassphraseWrong):
        metadata.restore(backup, "wrong horse battery", tmp_path / "fresh")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["backup.vdrmeta", "state"]


def test_backup_cut_short_makes_nothing(tmp_path: Path, fast_hashing: None) -> None:
    _, backup = saved(tmp_path, fast_hashing)
    backup.write_bytes(backup.read_bytes()[:-20])
    with pytest.raises(MetadataDamaged):
        metadata.restore(backup, PASSPHRASE, tmp_path / "fresh")
    assert not (tmp_path / "fresh").exists()
    assert not list(tmp_path.glob(".fresh*"))


def test_state_that_is_there_is_not_touched(tmp_path: Path, fast_hashing: None) -> None:
    state, backup = saved(tmp_path, fast_hashing)
    before = sorted(path for path in state.rglob("*"))
    with pytest.raises(TargetRefused):
        metadata.restore(backup, PASSPHRASE, state)
    assert sorted(path for path in state.rglob("*")) == before


@pytest.mark.parametrize("name", ["../evil", "/evil", "server/../../evil", "link"])
def test_hostile_names_never_leave_the_state(tmp_path: Path, name: str) -> None:
    backup = tmp_path / "backup.vdrmeta"
    with backup.open("wb") as out:
        sealer = Sealer(out, PASSPHRASE)
        packer = zstandard.ZstdCompressor().stream_writer(cast(Any, sealer), closefd=False)
        with packer, tarfile.open(fileobj=packer, mode="w|") as archive:
            for member, data in (("metadata.json", b'{"format": 1, "places": {}}'), (name, b"evil")):
                info = tarfile.TarInfo(member)
                if member == "link":
                    info.type, info.linkname, data = tarfile.SYMTYPE, "/etc", b""
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
        sealer.finish()
    with pytest.raises(MetadataDamaged):
        metadata.restore(backup, PASSPHRASE, tmp_path / "deep" / "fresh")
    assert not list(tmp_path.rglob("evil"))


@pytest.mark.parametrize("word", ["node", "node=relative", "../node=/a", "=/a"])
def test_place_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(BadInput):
        metadata.places([word])


# ---- through the server ------------------------------------------------------------------------------------


async def test_nothing_is_saved_before_a_passphrase_was_chosen(client: Client) -> None:
    await client.login()
    plan = await client.ask("metadata.plan", api.MetadataPlan())
    assert not plan.has_passphrase
    with pytest.raises(NoPassphrase):
        await client.ask("metadata.save", api.MetadataSave())


async def test_saved_metadata_is_listed_downloaded_and_opens(client: Client, tmp_path: Path) -> None:
    await client.login()
    await client.ask("metadata.edit_plan", api.MetadataPlanEdit(passphrase=PASSPHRASE, keep=2))
    made = [await client.ask("metadata.save", api.MetadataSave())]
    for _ in range(2):
        client.clock.added_ms += 1000
        made.append(await client.ask("metadata.save", api.MetadataSave()))
    listed = (await client.ask("metadata.list", api.MetadataList())).items
    assert listed[0].name == made[-1].name
    assert len(listed) == 2
    data = b""
    while True:
        part = await client.ask("metadata.read", api.MetadataRead(name=listed[0].name, offset=len(data)))
        if not part.data:
            break
        data += part.data
    assert len(data) == part.size_bytes == listed[0].size_bytes
    backup = tmp_path / "downloaded"
    backup.write_bytes(data)
    assert (
        metadata.restore(backup, PASSPHRASE, tmp_path / "fresh")["server_id"] == client.foundation.server_id
    )
    audit = await client.ask("audit.list", api.AuditList(action="metadata.read"))
    assert [entry.target for entry in audit.items] == [f"name={listed[0].name}"]


@pytest.mark.parametrize("name", ["../catalog.sqlite", "x", "20261123T033000Z-00000000.vdrmeta"])
async def test_download_of_what_is_no_backup_is_refused(client: Client, name: str) -> None:
    await client.login()
    with pytest.raises(NotFound):
        await client.ask("metadata.read", api.MetadataRead(name=name))


async def test_passphrase_is_kept_sealed(client: Client) -> None:
    await client.login()
    await client.ask("metadata.edit_plan", api.MetadataPlanEdit(passphrase=PASSPHRASE))
    (row,) = await client.foundation.catalog.read(
        lambda c: c.execute("SELECT value FROM settings WHERE name = 'metadata_plan'").fetchall()
    )
    assert PASSPHRASE not in row["value"]


def test_plan_is_due_daily_at_once_after_a_passphrase_and_again_soon_after_a_failure() -> None:
    day = 86_400_000
    saved_ms = int(NOW.timestamp() * 1000)
    now_ms = saved_ms + 2 * day
    assert Plan().next_ms(now_ms) is None
    assert Plan(passphrase="x").next_ms(now_ms) == now_ms
    assert Plan(passphrase="x", saved_ms=saved_ms).next_ms(now_ms) == saved_ms + day
    failed = Plan(passphrase="x", saved_ms=saved_ms, tried_ms=saved_ms + day, error="full")
    assert failed.next_ms(now_ms) == saved_ms + day + 900_000


def test_plan_noted_by_a_clock_that_was_ahead_is_due_at_once() -> None:
    ahead = int(NOW.timestamp() * 1000) + 86_400_000
    now_ms = int(NOW.timestamp() * 1000)
    assert Plan(passphrase="x", saved_ms=ahead).next_ms(now_ms) == now_ms
    assert Plan(passphrase="x", tried_ms=ahead, error="full").next_ms(now_ms) == now_ms


async def test_retries_of_what_reaches_no_storage_do_not_push_out_the_older_ones(client: Client) -> None:
    await client.login()
    await client.ask("metadata.edit_plan", api.MetadataPlanEdit(passphrase=PASSPHRASE, keep=10))
    kept = (await client.ask("metadata.save", api.MetadataSave())).name

    def work(connection: sqlite3.Connection) -> None:
        connection.execute("INSERT INTO nodes (node_id, name, enrolled_at_ms) VALUES ('n', 'vault', 1)")
        connection.execute(
            "INSERT INTO storages (storage_id, tenant_id, node_id, name, path, encryption, created_at_ms)"
            " VALUES ('s', 'default', 'n', 'main', '/srv', 'none', 1)"
        )

    await client.foundation.catalog.write(work)
    await client.ask("metadata.edit_plan", api.MetadataPlanEdit(storage_id="s"))
    before = {file.name for file in (await client.ask("metadata.list", api.MetadataList())).items}
    assert kept in before
    for _ in range(6):
        client.clock.added_ms += 1000
        with pytest.raises(NotOnline):
            await client.ask("metadata.save", api.MetadataSave())
    names = {file.name for file in (await client.ask("metadata.list", api.MetadataList())).items}
    assert before < names
    assert len(names) == len(before) + 1


async def test_backup_that_cannot_be_written_is_told_and_leaves_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    await client.login()
    await client.ask("metadata.edit_plan", api.MetadataPlanEdit(passphrase=PASSPHRASE))
    await client.ask("metadata.save", api.MetadataSave())
    before = (await client.ask("metadata.list", api.MetadataList())).items

    def broken(*_: object) -> None:
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(metadata, "_snapshot", broken)
    with pytest.raises(VdrError, match="disk I/O error"):
        await client.ask("metadata.save", api.MetadataSave())
    assert "disk I/O error" in (await client.ask("metadata.plan", api.MetadataPlan())).last_error
    assert (await client.ask("metadata.list", api.MetadataList())).items == before
