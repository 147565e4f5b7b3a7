"""The main job through real daemons: enrol, back up, change, back up again, restore, compare."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from schemas import api
from schemas.api import BackupType, ObjectKind, RunState
from vdrd.model.errors import Conflict, PointLocked

from .conftest import Appliance, agent_at, make_tree, same_trees


async def restore(appliance: Appliance, **request: object) -> api.RunInfo:
    started = await appliance.ask("restore.start", api.RestoreStart(**request))  # type: ignore[arg-type]
    return await appliance.wait_run(started.run_ids[0])


async def test_tree_backed_up_twice_and_restored_is_the_same(appliance: Appliance, tmp_path: Path) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    source = tmp_path / "source"
    make_tree(source)
    job_id = await appliance.make_job(host_id, ObjectKind.FILES, source)
    first = await appliance.run_job(job_id)
    assert (first.state, first.error) == (RunState.DONE, "")
    (source / "folder-1" / "new").write_bytes(b"new" * 10_000)
    shutil.rmtree(source / "folder-3")
    second = await appliance.run_job(job_id)
    assert second.state is RunState.DONE
    points = (await appliance.ask("point.list", api.PointList(job_id=job_id))).items
    assert [point.id for point in points] == [*second.point_ids, *first.point_ids]
    newest = points[0]
    assert (newest.parent_id, newest.backup_type) == (points[1].id, BackupType.INCREMENTAL)
    assert newest.new_bytes < points[1].new_bytes / 4
    assert (newest.host_id, newest.source) == (host_id, str(source))

    done = await restore(appliance, point_id=newest.id, target_path=str(tmp_path / "restored"))
    assert (done.state, done.error) == (RunState.DONE, "")
    assert same_trees(source, tmp_path / "restored")
    one = await restore(
        appliance, point_id=points[1].id, target_path=str(tmp_path / "one"), paths=["/folder-3/file-3"]
    )
    assert one.state is RunState.DONE
    assert (tmp_path / "one" / "folder-3" / "file-3").stat().st_size > 0


async def test_image_backed_up_twice_and_restored_is_the_same(
    appliance: Appliance, tmp_path: Path, disk_image: Callable[..., Path]
) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    image = disk_image(32)
    job_id = await appliance.make_job(host_id, ObjectKind.DISK, image)
    first = await appliance.run_job(job_id, BackupType.FULL)
    assert (first.state, first.error) == (RunState.DONE, "")
    with image.open("r+b") as file:
        file.seek(5 << 20)
        file.write(os.urandom(100_000))
    second = await appliance.run_job(job_id)
    assert second.state is RunState.DONE
    point = await appliance.ask("point.get", api.PointGet(id=second.point_ids[0]))
    assert point.parent_id == first.point_ids[0]
    assert 100_000 <= point.new_bytes < 600_000
    target = tmp_path / "restored.raw"
    done = await restore(appliance, point_id=point.id, target_path=str(target))
    assert (done.state, done.error) == (RunState.DONE, "")
    assert target.read_bytes() == image.read_bytes()
    refused = await restore(appliance, point_id=point.id, target_path=str(target))
    assert (refused.state, refused.error_code) == (RunState.FAILED, "target-occupied")
    again = await restore(appliance, point_id=point.id, target_path=str(target), overwrite=True)
    assert again.state is RunState.DONE


async def test_points_are_browsed_verified_and_forgotten(appliance: Appliance, tmp_path: Path) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    source = tmp_path / "source"
    make_tree(source)
    job_id = await appliance.make_job(host_id, ObjectKind.FILES, source)
    (point_id,) = (await appliance.run_job(job_id)).point_ids
    seen, cursor = [], None
    while True:
        page = await appliance.ask("point.browse", api.PointBrowse(id=point_id, limit=4, cursor=cursor))
        seen += [entry.name for entry in page.items]
        cursor = page.next_cursor
        if cursor is None:
            break
    expected = sorted(os.fsencode(path.name) for path in source.iterdir())
    assert seen == [name.replace(b"\xff", b"\\xff").replace(b"\xfe", b"\\xfe").decode() for name in expected]
    inner = await appliance.ask("point.browse", api.PointBrowse(id=point_id, path="/folder-1"))
    assert {entry.path for entry in inner.items} == {
        f"/folder-1/{path.name}" for path in (source / "folder-1").iterdir()
    }

    started = await appliance.ask("point.verify", api.PointVerify(id=point_id))
    assert (await appliance.wait_run(started.run_ids[0])).state is RunState.DONE
    assert (await appliance.ask("point.get", api.PointGet(id=point_id))).verified_ok is True
    storage = (await appliance.ask("storage.list", api.StorageList())).items[0]
    # Before the point goes: the node may collect what it leaves by itself.
    before = await appliance.ask("storage.statistics", api.StorageStatistics(id=storage.id))
    await appliance.ask("point.forget", api.PointForget(ids=[point_id]))
    assert (await appliance.ask("point.list", api.PointList(job_id=job_id))).items == []
    started = await appliance.ask("storage.collect", api.StorageCollect(id=storage.id))
    assert (await appliance.wait_run(started.run_ids[0])).state is RunState.DONE
    after = await appliance.ask("storage.statistics", api.StorageStatistics(id=storage.id))
    assert after.stored_bytes < before.stored_bytes


async def test_retention_of_a_job_forgets_old_points(appliance: Appliance, tmp_path: Path) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    source = tmp_path / "source"
    make_tree(source, files=5)
    job_id = await appliance.make_job(host_id, ObjectKind.FILES, source, keep_last=1, keep_yearly=1)
    held = (await appliance.run_job(job_id)).point_ids[0]
    point = await appliance.ask("point.lock", api.PointLock(id=held, is_held=True))
    assert (point.is_held, point.locked_until) == (True, None)
    with pytest.raises(PointLocked, match="legal hold"):
        await appliance.ask("point.forget", api.PointForget(ids=[held]))
    gone, last = [(await appliance.run_job(job_id)).point_ids[0] for _ in range(2)]
    with trio.fail_after(60):
        while {p.id for p in await _points(appliance, job_id)} != {held, last}:  # noqa: ASYNC110 - another process
            await trio.sleep(0.1)
    assert [p.is_held for p in await _points(appliance, job_id)] == [False, True]
    assert gone not in {held, last}


async def _points(appliance: Appliance, job_id: str) -> list[api.PointInfo]:
    """Of a job, newest first."""
    found: list[api.PointInfo] = (await appliance.ask("point.list", api.PointList(job_id=job_id))).items
    return found


async def test_unreadable_source_fails_clearly_and_unreadable_file_warns(
    appliance: Appliance, tmp_path: Path
) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    job_id = await appliance.make_job(host_id, ObjectKind.FILES, tmp_path / "nowhere")
    run = await appliance.run_job(job_id)
    assert run.state is RunState.FAILED
    assert str(tmp_path / "nowhere") in run.error
    log = await appliance.ask("run.log", api.RunLog(id=run.id))
    assert any(line.level is api.LogLevel.ERROR for line in log.items)


async def test_host_shows_its_disks_and_directories(appliance: Appliance, tmp_path: Path) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    (tmp_path / "seen").mkdir()
    page = await appliance.ask("host.browse", api.HostBrowse(id=host_id, path=str(tmp_path)))
    assert "seen" in {entry.name for entry in page.items}
    assert (await appliance.ask("host.disks", api.HostDisks(id=host_id))).items


async def test_deleted_host_is_cut_off_and_refused(appliance: Appliance, tmp_path: Path) -> None:
    agent, host_id = await appliance.enrol(tmp_path / "agent")
    await appliance.ask("host.delete", api.HostDelete(id=host_id))
    agent.stop()
    agent.start()
    with trio.fail_after(60):
        while "it was revoked" not in appliance.daemon.text:  # noqa: ASYNC110 - another process
            await trio.sleep(0.05)
    hosts = (await appliance.ask("host.list", api.HostList())).items
    assert host_id not in {host.id for host in hosts}


async def test_token_is_good_once(appliance: Appliance, tmp_path: Path) -> None:
    token = (await appliance.ask("host.create_token", api.EnrolmentTokenCreate())).token
    results = []
    for name in ("one", "two"):
        agent = agent_at(tmp_path / name, appliance.config_dir)
        done = await trio.run_process(
            [*agent.argv[:3], "enrol", *agent.argv[3:], token],
            capture_stderr=True,
            check=False,
            capture_stdout=True,
        )
        results.append((done.returncode, done.stderr.decode()))
    assert results[0][0] == 0
    assert results[1][0] == 6
    assert "used" in results[1][1]


async def test_export_serves_a_point_as_a_disk(
    appliance: Appliance, tmp_path: Path, disk_image: Callable[..., Path]
) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    image = disk_image(8)
    job_id = await appliance.make_job(host_id, ObjectKind.DISK, image)
    (point_id,) = (await appliance.run_job(job_id)).point_ids
    export = await appliance.ask("export.start", api.ExportStart(point_id=point_id))
    assert export.is_online
    assert export.url.startswith("nfs://127.0.0.1/")
    assert export.url.endswith("/disk.raw")
    with pytest.raises(Conflict, match="exported"):
        await appliance.ask("point.forget", api.PointForget(ids=[point_id]))
    await appliance.ask("export.stop", api.ExportStop(id=export.id))
    assert (await appliance.ask("export.list", api.ExportList())).items == []
