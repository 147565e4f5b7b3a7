"""Who dials whom, who is let in, and what a new server learns from an old storage."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import trio

from schemas import api
from schemas.api import ObjectKind, RunState

from .conftest import Appliance, Daemon, agent_at, free_ports, linked, make_tree, same_trees


async def test_passive_agent_is_dialled_for_control_and_data(appliance: Appliance, tmp_path: Path) -> None:
    (port,) = free_ports(1)
    listen = f'agent.listen=["127.0.0.1:{port}"]'
    enrol_words = ("--mode", "passive", "--address", f"127.0.0.1:{port}")
    _, host_id = await appliance.enrol(tmp_path / "agent", "--set", listen, enrol_words=enrol_words)
    host = await appliance.ask("host.get", api.HostGet(id=host_id))
    assert (host.link_mode, host.address) == (api.LinkMode.PASSIVE, f"127.0.0.1:{port}")
    await check_backup(appliance, host_id, tmp_path)


async def test_passive_agent_that_never_reached_the_server_takes_its_bundle(
    appliance: Appliance, tmp_path: Path
) -> None:
    (port,) = free_ports(1)
    request = api.HostAddPassive(name=f"far-{tmp_path.name}", address="127.0.0.1", port=port)
    made = await appliance.ask("host.add_passive", request)
    listen = f'agent.listen=["127.0.0.1:{port}"]'
    agent = agent_at(tmp_path / "agent", appliance.config_dir, "--set", listen)
    appliance.agents.append(agent)
    enrolment = [*agent.argv[:3], "enrol", *agent.argv[3:], "--bundle", "-"]
    await trio.run_process(enrolment, stdin=made.bundle.encode(), capture_stdout=True)
    agent.start()
    await appliance.wait_online(made.host.id)
    await check_backup(appliance, made.host.id, tmp_path)


async def check_backup(appliance: Appliance, host_id: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    make_tree(source, files=10)
    job_id = await appliance.make_job(host_id, ObjectKind.FILES, source)
    run = await appliance.run_job(job_id)
    assert (run.state, run.error) == (RunState.DONE, "")
    request = api.RestoreStart(point_id=run.point_ids[0], target_path=str(tmp_path / "restored"))
    restored = await appliance.wait_run((await appliance.ask("restore.start", request)).run_ids[0])
    assert (restored.state, restored.error) == (RunState.DONE, "")
    assert same_trees(source, tmp_path / "restored")


async def test_agent_of_another_appliance_is_refused(
    appliance: Appliance, appliance_files: Callable[..., Appliance], tmp_path: Path
) -> None:
    other = appliance_files("other")
    other.daemon.start()
    status = await trio.to_thread.run_sync(other.status)
    agent, host_id = await appliance.enrol(tmp_path / "agent")
    agent.stop()
    moved = Daemon([*agent.argv, "--set", f"agent.server={json.dumps(status['server'])}"], agent.log)
    appliance.agents.append(moved)
    moved.start()
    with trio.fail_after(60):
        while "certificate" not in agent.text:  # noqa: ASYNC110 - another process
            await trio.sleep(0.05)
    async with linked(other):
        assert (await other.ask("host.list", api.HostList())).items == []
    host = await appliance.ask("host.get", api.HostGet(id=host_id))
    assert host.presence is api.Presence.OFFLINE
    await trio.to_thread.run_sync(other.daemon.stop)


async def test_new_appliance_reads_points_back_from_a_storage(
    appliance: Appliance, appliance_files: Callable[..., Appliance], tmp_path: Path
) -> None:
    request = api.StorageCreate(name=f"carried-{tmp_path.name}", path=str(tmp_path / "carried"))
    storage = await appliance.ask("storage.create", request)
    _, host_id = await appliance.enrol(tmp_path / "agent")
    source = tmp_path / "source"
    make_tree(source, files=10)
    job = api.JobCreate(
        name=f"carry-{tmp_path.name}",
        kind=ObjectKind.FILES,
        storage_id=storage.id,
        sources=[api.JobSource(host_id=host_id, paths=[str(source)])],
    )
    job_id = (await appliance.ask("job.create", job)).id
    (point_id,) = (await appliance.run_job(job_id)).point_ids
    await appliance.ask("job.delete", api.JobDelete(id=job_id))
    key_file = tmp_path / "carried.key"
    shutil.copy(appliance.state / "node" / "keys" / f"{storage.id}.key", key_file)
    await appliance.ask("storage.detach", api.StorageDetach(id=storage.id))
    assert (await appliance.ask("point.list", api.PointList(storage_id=storage.id))).items == []

    fresh = appliance_files("fresh")
    fresh.daemon.start()
    async with linked(fresh):
        attach = api.StorageCreate(
            name="carried", path=str(tmp_path / "carried"), key_file=str(key_file), attach=True
        )
        carried = await fresh.ask("storage.create", attach)
        with trio.fail_after(60):
            while True:
                found = (await fresh.ask("point.list", api.PointList(storage_id=carried.id))).items
                if found:
                    break
                await trio.sleep(0.05)
        assert [point.id for point in found] == [point_id]
        assert (found[0].host_id, found[0].source) == (None, str(source))
        _, new_host_id = await fresh.enrol(tmp_path / "new-agent")
        request = api.RestoreStart(
            point_id=point_id, host_id=new_host_id, target_path=str(tmp_path / "restored")
        )
        restored = await fresh.wait_run((await fresh.ask("restore.start", request)).run_ids[0])
        assert (restored.state, restored.error) == (RunState.DONE, "")
    assert same_trees(source, tmp_path / "restored")
    await trio.to_thread.run_sync(fresh.daemon.stop)


async def test_export_is_served_again_after_its_node_was_killed(
    appliance: Appliance, tmp_path: Path, disk_image: Callable[..., Path]
) -> None:
    _, host_id = await appliance.enrol(tmp_path / "agent")
    job_id = await appliance.make_job(host_id, ObjectKind.DISK, disk_image(4))
    (point_id,) = (await appliance.run_job(job_id)).point_ids
    export = await appliance.ask("export.start", api.ExportStart(point_id=point_id))
    appliance.kill_part("node")
    with trio.fail_after(60):
        while appliance.daemon.text.count(f"export begun name={export.id}") < 2:  # noqa: ASYNC110 - another process
            await trio.sleep(0.1)
        while not (await appliance.ask("export.list", api.ExportList())).items[0].is_online:  # noqa: ASYNC110
            await trio.sleep(0.1)
    (again,) = (await appliance.ask("export.list", api.ExportList())).items
    assert (again.id, again.url) == (export.id, export.url)
    await appliance.ask("export.stop", api.ExportStop(id=export.id))
