"""Kill -9 of each daemon at random moments: every point verifies, every rerun completes, nothing hangs."""

import os
import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
import trio

from schemas import api
from schemas.api import ObjectKind, RunState
from vdrd.model.errors import Unreachable

from .conftest import Appliance, linked, same_trees
from .test_crash import make_noise


async def settle(appliance: Appliance, run_id: str) -> api.RunInfo:
    """The run once it ended, over as many links as it takes."""
    with trio.fail_after(300):
        while True:
            try:
                async with linked(appliance):
                    return await appliance.wait_run(run_id)
            except Unreachable:
                await trio.sleep(0.2)


@pytest.fixture(scope="module")
def running_appliance(appliance_files: Callable[..., Appliance]) -> Appliance:
    """One that waits longer for a part than the supervisor ever pauses."""
    made = appliance_files(wait_online_seconds=60)
    made.daemon.start()
    return made


async def kill(appliance: Appliance, victim: str) -> None:
    if victim == "agent":
        (agent,) = appliance.agents
        await trio.to_thread.run_sync(agent.stop, signal.SIGKILL)
        agent.start()
    else:
        with trio.fail_after(60):
            while (pid := appliance.pid_of(victim)) is None:  # noqa: ASYNC110 - another process
                await trio.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


async def storm(appliance: Appliance, tmp_path: Path, victim: str, rounds: int) -> None:
    chance = random.Random(victim)
    agent = await appliance.enrol(tmp_path / "agent", "--set", "agent.rate_limit_bytes_per_second=30000000")
    source = tmp_path / "source"
    make_noise(source, 7)
    job_id = await appliance.make_job(agent[1], ObjectKind.FILES, source, retry_count=5)
    for number in range(rounds):
        (source / f"{number % 20:02}").write_bytes(random.Random(number).randbytes(2 << 20))
        async with linked(appliance):
            await appliance.wait_online(agent[1])
            started = await appliance.ask("job.run_now", api.JobRunNow(id=job_id))
        await trio.sleep(chance.uniform(0.0, 1.5))
        await kill(appliance, victim)
        run = await settle(appliance, started.run_ids[0])
        assert run.state is RunState.DONE, f"round {number}: {run.error}"
    async with linked(appliance):
        storage_id = (await appliance.ask("storage.list", api.StorageList())).items[0].id
        verify = api.StorageVerify(id=storage_id, read_data=True)
        verified = await appliance.wait_run((await appliance.ask("storage.verify", verify)).run_ids[0])
        assert (verified.state, verified.error) == (RunState.DONE, "")
        (newest, *_) = (await appliance.ask("point.list", api.PointList(job_id=job_id))).items
        request = api.RestoreStart(point_id=newest.id, target_path=str(tmp_path / "restored"))
        restored = await appliance.wait_run((await appliance.ask("restore.start", request)).run_ids[0])
        assert (restored.state, restored.error) == (RunState.DONE, "")
    assert same_trees(source, tmp_path / "restored")


@pytest.mark.parametrize("victim", ["agent", "node", "server"])
async def test_storm_of_a_few_kills(appliance: Appliance, tmp_path: Path, victim: str) -> None:
    await storm(appliance, tmp_path, victim, 3)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("victim", ["agent", "node", "server"])
async def test_storm_of_fifty_kills(appliance: Appliance, tmp_path: Path, victim: str) -> None:
    await storm(appliance, tmp_path, victim, 50)
