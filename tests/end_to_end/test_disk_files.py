"""Files within a disk point through real daemons: looked at, downloaded, brought back to a host."""

from functools import partial
from pathlib import Path

import pytest

from schemas import api
from schemas.api import ObjectKind, RunState
from tests.files.walker import walk
from tests.jobs.guest_disks import MEBIBYTE, fill, loop, make_tree, mounted, partitioned
from vdrd.model.errors import NotFound, VolumeUnreadable

from .conftest import Appliance


async def test_files_of_a_disk_point_are_browsed_read_and_restored(
    appliance: Appliance, tmp_path: Path
) -> None:
    image = tmp_path / "disk.raw"
    first, _ = partitioned(image, [64 * MEBIBYTE, 8 * MEBIBYTE])
    with loop(image, first.offset, first.size) as device:
        fill(device, tmp_path / "mount", "ext4", partial(make_tree, file_count=70, is_unix=True))
        with mounted(device, tmp_path / "mount", "mount", "-o", "ro") as root:
            before = walk(root)
            large = (root / "large").read_bytes()
    _, host_id = await appliance.enrol(tmp_path / "agent")
    done = await appliance.run_job(await appliance.make_job(host_id, ObjectKind.DISK, image))
    assert (done.state, done.error) == (RunState.DONE, "")
    point_id = done.point_ids[0]

    top = await appliance.ask("point.browse", api.PointBrowse(id=point_id))
    assert [(entry.name, entry.kind, entry.note) for entry in top.items] == [
        ("partition-1", "directory", "ext4"),
        ("partition-2", "directory", "it holds no file system that is known here"),
    ]
    page = await appliance.ask("point.browse", api.PointBrowse(id=point_id, path="/partition-1/d1", limit=2))
    names = sorted(path for path in before if path.startswith(b"d1/") and path.count(b"/") == 1)[:2]
    assert [entry.path for entry in page.items] == [f"/partition-1/{name.decode()}" for name in names]
    with pytest.raises(VolumeUnreadable):
        await appliance.ask("point.browse", api.PointBrowse(id=point_id, path="/partition-2"))
    with pytest.raises(NotFound):
        await appliance.ask("point.browse", api.PointBrowse(id=point_id, path="/partition-1/nothing"))

    part = await appliance.ask(
        "point.read", api.PointRead(id=point_id, path="/partition-1/large", offset=1_000_000)
    )
    assert (part.size_bytes, part.data) == (len(large), large[1_000_000 : 1_000_000 + 262_144])
    audit = await appliance.ask("audit.list", api.AuditList())
    assert [entry.target for entry in audit.items if entry.action == "point.read"] == [
        f"id={point_id} path=/partition-1/large offset=1000000"
    ]

    started = await appliance.ask(
        "restore.start",
        api.RestoreStart(
            point_id=point_id,
            target_path=str(tmp_path / "target"),
            paths=["/partition-1/d1", "/partition-1/large"],
        ),
    )
    restored = await appliance.wait_run(started.run_ids[0])
    assert (restored.state, restored.error) == (RunState.DONE, "")
    after = walk(tmp_path / "target" / "partition-1")
    assert after[b"large"].digest == before[b"large"].digest
    assert (after[b"large"].mode, after[b"large"].uid, after[b"large"].xattrs) == (
        before[b"large"].mode,
        before[b"large"].uid,
        before[b"large"].xattrs,
    )
    beneath = {path for path in before if path == b"d1" or path.startswith(b"d1/")}
    assert after.keys() == beneath | {b"", b"large"}
    assert after[b"d1/second name"].links == before[b"d1/second name"].links
