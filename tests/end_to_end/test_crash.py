"""Kill -9 of each daemon in the middle of a backup: the run ends or goes on, the retry completes and sends
only what lacks."""

import random
import signal
from pathlib import Path

import pytest
import trio

from schemas import api
from schemas.api import ObjectKind, RunState
from vdrd.model.errors import Unreachable

from .conftest import Appliance, linked, same_trees

SLOW = "agent.rate_limit_bytes_per_second=6000000"
"""Makes a backup of 20 MiB last some seconds, so that it can be met in the middle."""


def make_noise(root: Path, seed: int) -> None:
    noise = random.Random(seed)
    root.mkdir()
    for number in range(20):
        (root / f"{number:02}").write_bytes(noise.randbytes(1 << 20))


async def until_half_way(appliance: Appliance, run_id: str) -> None:
    with trio.fail_after(60):
        while True:
            run = await appliance.ask("run.get", api.RunGet(id=run_id))
            assert not run.state.is_final, run.error
            if run.progress.done_bytes > 5 << 20:
                return
            await trio.sleep(0.02)


@pytest.fixture
async def half_way(appliance: Appliance, tmp_path: Path) -> tuple[str, str, Path]:
    """Host, run and source of a backup that is half done."""
    _, host_id = await appliance.enrol(tmp_path / "agent", "--set", SLOW)
    source = tmp_path / "source"
    make_noise(source, hash(tmp_path.name))
    job_id = await appliance.make_job(host_id, ObjectKind.FILES, source)
    started = await appliance.ask("job.run_now", api.JobRunNow(id=job_id))
    await until_half_way(appliance, started.run_ids[0])
    return host_id, started.run_ids[0], source


async def check_complete(appliance: Appliance, run: api.RunInfo, source: Path, target: Path) -> None:
    assert (run.state, run.error) == (RunState.DONE, "")
    (point_id,) = run.point_ids
    started = await appliance.ask("point.verify", api.PointVerify(id=point_id))
    assert (await appliance.wait_run(started.run_ids[0])).state is RunState.DONE
    request = api.RestoreStart(point_id=point_id, target_path=str(target))
    restored = await appliance.wait_run((await appliance.ask("restore.start", request)).run_ids[0])
    assert (restored.state, restored.error) == (RunState.DONE, "")
    assert same_trees(source, target)


async def test_agent_killed_and_back_gets_the_run_again(
    appliance: Appliance, half_way: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, run_id, source = half_way
    (agent,) = appliance.agents
    agent.stop(signal.SIGKILL)
    agent.start()
    run = await appliance.wait_run(run_id)
    assert run.attempt == 2
    assert run.progress.new_bytes < 19 << 20
    await check_complete(appliance, run, source, tmp_path / "restored")


async def test_agent_killed_for_good_fails_the_run_clearly(
    appliance: Appliance, half_way: tuple[str, str, Path]
) -> None:
    _, run_id, _ = half_way
    (agent,) = appliance.agents
    agent.stop(signal.SIGKILL)
    run = await appliance.wait_run(run_id, RunState.QUEUED, attempt=2)
    assert (run.error_code, "did not come back" in run.error) == ("interrupted", True)
    run = await appliance.wait_run(run_id)
    assert (run.state, run.error_code) == (RunState.FAILED, "not-online")


async def test_node_killed_is_started_again_and_the_run_completes(
    appliance: Appliance, half_way: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, run_id, source = half_way
    appliance.kill_part("node")
    run = await appliance.wait_run(run_id)
    assert run.attempt >= 2
    await check_complete(appliance, run, source, tmp_path / "restored")


async def test_server_killed_is_started_again_and_the_run_goes_on(
    appliance: Appliance, half_way: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, run_id, source = half_way
    appliance.kill_part("server")
    with trio.fail_after(120):
        while not appliance.link_is_down:  # noqa: ASYNC110 - another process
            await trio.sleep(0.05)
        while True:
            try:
                async with linked(appliance):
                    run = await appliance.wait_run(run_id)
                    assert run.attempt == 1
                    await check_complete(appliance, run, source, tmp_path / "restored")
                return
            except Unreachable:
                await trio.sleep(0.2)


async def test_appliance_stopped_in_the_middle_resumes_after_its_start(
    appliance: Appliance, half_way: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, run_id, source = half_way
    status = await trio.to_thread.run_sync(appliance.daemon.stop)
    assert status == 0
    assert "Traceback" not in appliance.daemon.text
    appliance.daemon.start()
    async with linked(appliance):
        run = await appliance.wait_run(run_id)
        assert run.attempt >= 2
        await check_complete(appliance, run, source, tmp_path / "restored")


async def test_run_cancelled_in_the_middle_ends_cancelled(
    appliance: Appliance, half_way: tuple[str, str, Path]
) -> None:
    _, run_id, _ = half_way
    await appliance.ask("run.cancel", api.RunCancel(id=run_id))
    run = await appliance.wait_run(run_id)
    assert run.state is RunState.CANCELLED
    assert run.point_ids == []


async def test_full_storage_fails_the_run_and_the_next_works_when_there_is_room(
    appliance: Appliance, tmp_path: Path
) -> None:
    mount = tmp_path / "small"
    mount.mkdir()
    await trio.run_process(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(mount)])
    try:
        request = api.StorageCreate(name=f"small-{tmp_path.name}", path=str(mount / "storage"))
        storage = await appliance.ask("storage.create", request)
        _, host_id = await appliance.enrol(tmp_path / "agent")
        make_noise(tmp_path / "source", 1)
        make_noise(tmp_path / "more", 2)
        job = api.JobCreate(
            name=f"full-{tmp_path.name}",
            kind=ObjectKind.FILES,
            storage_id=storage.id,
            sources=[
                api.JobSource(host_id=host_id, paths=[str(tmp_path / "source"), str(tmp_path / "more")])
            ],
        )
        job_id = (await appliance.ask("job.create", job)).id
        failed = await appliance.run_job(job_id)
        assert (failed.state, failed.error_code) == (RunState.FAILED, "no-space")
        await trio.run_process(["mount", "-o", "remount,size=100m", str(mount)])
        run = await appliance.run_job(job_id)
        assert (run.state, run.error) == (RunState.DONE, "")
        started = await appliance.ask("storage.verify", api.StorageVerify(id=storage.id, read_data=True))
        assert (await appliance.wait_run(started.run_ids[0])).state is RunState.DONE
        await appliance.ask("job.delete", api.JobDelete(id=job_id))
        await appliance.ask("storage.detach", api.StorageDetach(id=storage.id))
    finally:
        await trio.run_process(["umount", "-l", str(mount)])


async def test_host_deleted_in_the_middle_ends_its_run(
    appliance: Appliance, half_way: tuple[str, str, Path]
) -> None:
    host_id, run_id, _ = half_way
    await appliance.ask("host.delete", api.HostDelete(id=host_id, force=True))
    run = await appliance.wait_run(run_id)
    assert run.state is RunState.CANCELLED
