"""The drill: the appliance is gone, its storage is not."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import trio

from schemas import api
from tests.end_to_end.conftest import Appliance, linked, make_tree

PASSPHRASE = "correct horse battery"


async def test_appliance_made_again_from_its_storage_goes_on_where_the_old_one_ended(
    appliance_files: Callable[..., Appliance], tmp_path: Path
) -> None:
    old = appliance_files("lost")
    storage = tmp_path / "storage"
    with (old.config_dir / "test.toml").open("a") as settings:
        settings.write(f'[appliance]\nstorage_directory = "{storage}"\n')
    tree = tmp_path / "tree"
    make_tree(tree)
    old.daemon.start()
    async with linked(old):
        agent, host_id = await old.enrol(tmp_path / "agent")
        job_id = await old.make_job(host_id, api.ObjectKind.FILES, tree)
        first = await old.run_job(job_id, api.BackupType.FULL)
        (kept,) = (await old.ask("storage.list", api.StorageList())).items
        plan = api.MetadataPlanEdit(passphrase=PASSPHRASE, storage_id=kept.id)
        await old.ask("metadata.edit_plan", plan)
        await old.ask("metadata.save", api.MetadataSave())
    assert first.state is api.RunState.DONE
    old.daemon.stop()
    password = old.state / "server" / "administrator-password"
    known = password.read_text()
    shutil.rmtree(old.state)

    secret = tmp_path / "passphrase"
    secret.write_text(PASSPHRASE + "\n")
    secret.chmod(0o600)
    words = ["--state", str(old.state), "--passphrase-file", str(secret), str(storage)]
    done = await trio.run_process(
        [sys.executable, "-m", "vdrd.cli.daemon", "restore-metadata", *words],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert "restored the server" in done.stdout.decode()

    (tree / "folder-1" / "new").write_bytes(b"written after the loss")
    # A metadata backup holds no password in clear; this one is remembered where `linked` looks for it.
    assert not password.exists()
    password.write_text(known)
    old.daemon.start()
    async with linked(old):
        await old.wait_online(host_id)
        second = await old.run_job(job_id)
        points = (await old.ask("point.list", api.PointList())).items
    assert second.state is api.RunState.DONE
    assert second.backup_type is api.BackupType.INCREMENTAL
    assert second.progress.new_bytes < first.progress.new_bytes / 2
    assert {point.id for point in points} == {*first.point_ids, *second.point_ids}
    assert agent.process is not None
    assert agent.process.poll() is None
