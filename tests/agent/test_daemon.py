"""The whole agent against server and node: runs, losses, cancels, stops, renewal, passive mode."""

import os
from datetime import timedelta

import pytest
import trio

import agent.runs
from agent.config import AgentConfig
from agent.daemon import serve
from schemas.api.words import RunKind, RunState
from schemas.control import (
    Ack,
    BackupItem,
    HostBrowseAsk,
    HostDisksAnswer,
    HostDisksAsk,
    ListingAnswer,
    RevocationsPushed,
    RunCancel,
    RunSpec,
)
from vdrd.files.browse import iterate
from vdrd.model.errors import (
    CertificateRefused,
    KeyFileUnusable,
    NotAuthorised,
    NotFound,
    PeerBusy,
    TicketRefused,
)
from vdrd.net.ca import now_utc
from vdrd.net.credentials import Credentials, self_issue
from vdrd.net.dial import dial
from vdrd.net.identity import Expected, Role
from vdrd.net.link import DeafHandler
from vdrd.net.tls13 import Tls13Profile


@pytest.fixture
def tree(tmp_path):
    root = tmp_path / "tree"
    for number in range(20):
        folder = root / f"d{number}"
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(os.urandom(50_000))
    return root


def content(root):
    return {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}


async def turned(condition):
    """Until `condition` is true; it is about files or logs, which wake nobody."""
    with trio.fail_after(60):
        while not condition():  # noqa: ASYNC110
            await trio.sleep(0.02)


async def test_backup_and_restore_of_a_tree_give_the_same_tree(headquarters, tree, tmp_path):
    await headquarters.enrol()
    async with headquarters.running_agent():
        spec = headquarters.files_spec(tree)
        await headquarters.begin(spec)
        ended = await headquarters.end_of(spec)
        assert (ended.state, ended.error, ended.warning_count) == (RunState.DONE, "", 0)
        assert ended.done_bytes == 20 * 50_000
        assert ended.done_files > 20
        (point,) = headquarters.storage.points()
        assert ended.point_ids == [point.point_id]
        again = headquarters.restore_spec(RunKind.RESTORE_FILES, point.point_id, tmp_path / "back")
        await headquarters.begin(again)
        assert (await headquarters.end_of(again)).state is RunState.DONE
    (restored,) = [path.parent for path in (tmp_path / "back").rglob("d0")]
    assert content(restored) == content(tree)
    assert {message.run_id for message in headquarters.progressed} >= {spec.run_id}


async def test_backup_and_restore_of_a_disk_give_the_same_bytes(headquarters, tmp_path):
    disk = tmp_path / "disk.raw"
    with disk.open("wb") as file:
        file.truncate(8 << 20)
        file.seek(1 << 20)
        file.write(os.urandom(1_000_000))
    await headquarters.enrol()
    async with headquarters.running_agent():
        ends = []
        for _ in range(2):
            item = BackupItem(object_name="host:disk", path=str(disk))
            spec = RunSpec(
                run_id=str(len(ends)), attempt=1, kind=RunKind.BACKUP_DISK, storage_id="s", items=[item]
            )
            await headquarters.begin(spec)
            ends.append(await headquarters.end_of(spec))
        assert [ended.state for ended in ends] == [RunState.DONE] * 2
        assert ends[0].new_bytes >= 1_000_000
        assert ends[1].new_bytes == 0
        spec = headquarters.restore_spec(RunKind.RESTORE_DISK, ends[1].point_ids[0], tmp_path / "back.raw")
        await headquarters.begin(spec)
        assert (await headquarters.end_of(spec)).state is RunState.DONE
    assert (tmp_path / "back.raw").read_bytes() == disk.read_bytes()


async def test_second_backup_of_a_tree_names_its_parent_and_sends_only_changes(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent():
        first = headquarters.files_spec(tree)
        await headquarters.begin(first)
        point_id = (await headquarters.end_of(first)).point_ids[0]
        (tree / "d3" / "file").write_bytes(os.urandom(60_000))
        item = BackupItem(object_name=f"host:{tree}", path=str(tree), parent_id=point_id)
        second = RunSpec(run_id="two", attempt=1, kind=RunKind.BACKUP_FILES, storage_id="s", items=[item])
        await headquarters.begin(second)
        ended = await headquarters.end_of(second)
        assert 60_000 <= ended.new_bytes < 400_000
        assert headquarters.storage.point(ended.point_ids[0]).draft.parent_id == point_id


async def test_backup_of_a_tree_around_the_storage_leaves_the_storage_out(headquarters):
    await headquarters.enrol()
    async with headquarters.running_agent():
        (headquarters.storage.path.parent / "beside").write_bytes(b"kept")
        spec = headquarters.files_spec(headquarters.storage.path.parent)
        await headquarters.begin(spec)
        point_id = (await headquarters.end_of(spec)).point_ids[0]
    root = headquarters.storage.point(point_id).draft.root
    names = {entry.path.split(b"/")[0] for entry in iterate(root, headquarters.storage.reader)}
    assert b"beside" in names
    assert headquarters.storage.path.name.encode() not in names


async def test_run_of_several_items_makes_a_point_of_each(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent():
        items = [BackupItem(object_name=f"d{number}", path=str(tree / f"d{number}")) for number in range(5)]
        spec = RunSpec(
            run_id="r", attempt=1, kind=RunKind.BACKUP_FILES, storage_id="s", items=items, channel_count=1
        )
        await headquarters.begin(spec)
        ended = await headquarters.end_of(spec)
    assert (ended.state, ended.error) == (RunState.DONE, "")
    assert [headquarters.storage.point(one).draft.object_name for one in ended.point_ids] == [
        item.object_name for item in items
    ]
    assert ended.done_bytes == 5 * 50_000


async def test_run_of_several_items_keeps_the_points_before_the_one_that_failed(headquarters, tree, tmp_path):
    await headquarters.enrol()
    async with headquarters.running_agent():
        items = [
            BackupItem(object_name="a", path=str(tree)),
            BackupItem(object_name="b", path=str(tmp_path / "missing")),
        ]
        spec = RunSpec(run_id="r", attempt=1, kind=RunKind.BACKUP_FILES, storage_id="s", items=items)
        await headquarters.begin(spec)
        ended = await headquarters.end_of(spec)
    assert ended.state is RunState.FAILED
    assert not ended.is_retryable
    assert "missing" in ended.error
    assert ended.lines[-1].text == ended.error
    assert ended.point_ids == [point.point_id for point in headquarters.storage.points()]
    assert len(ended.point_ids) == 1


async def test_same_attempt_started_twice_runs_once_and_too_many_runs_are_refused(
    headquarters, tree, monkeypatch
):
    monkeypatch.setattr(agent.runs, "CANCEL_SECONDS", 0.2)
    await headquarters.enrol()
    async with headquarters.running_agent(rate_limit_bytes_per_second=1000, runs_max=1) as running:
        spec = headquarters.files_spec(tree)
        start = await headquarters.begin(spec)
        assert await headquarters.link.request(start, Ack)
        assert running.runs.statistics()["runs"] == 1
        with pytest.raises(PeerBusy):
            await headquarters.begin(headquarters.files_spec(tree))
        await headquarters.link.request(RunCancel(run_id=spec.run_id), Ack)
        assert (await headquarters.end_of(spec)).state is RunState.CANCELLED


async def test_stop_during_a_run_ends_it_as_interrupted_to_be_tried_again(headquarters, tree, monkeypatch):
    monkeypatch.setattr(agent.runs, "CANCEL_SECONDS", 0.2)
    await headquarters.enrol()
    async with headquarters.running_agent(rate_limit_bytes_per_second=1000) as running:
        spec = headquarters.files_spec(tree)
        await headquarters.begin(spec)
        await headquarters.until(lambda: headquarters.progressed)
        running.stop_now()
        ended = await headquarters.end_of(spec)
    assert (ended.state, ended.error_code, ended.is_retryable) == (RunState.FAILED, "interrupted", True)
    assert headquarters.storage.points() == []
    async with headquarters.running_agent():
        await headquarters.until(lambda: len(headquarters.registers) == 2)
        assert headquarters.registers[-1].held_runs == []
        retry = headquarters.files_spec(tree)
        await headquarters.begin(retry)
        assert (await headquarters.end_of(retry)).state is RunState.DONE


async def test_node_lost_during_a_run_fails_it_at_once_as_retryable(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent(rate_limit_bytes_per_second=1000):
        spec = headquarters.files_spec(tree)
        await headquarters.begin(spec)
        await headquarters.until(lambda: headquarters.progressed)
        headquarters.channels.close_run(spec.run_id)
        ended = await headquarters.end_of(spec)
    assert (ended.state, ended.error_code, ended.is_retryable) == (RunState.FAILED, "unreachable", True)


async def test_ticket_voided_meanwhile_fails_the_run_as_retryable(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent():
        spec = headquarters.files_spec(tree)
        original = headquarters.tickets.redeem

        def redeem(ticket, peer):
            headquarters.tickets.void(spec.run_id)
            return original(ticket, peer)

        headquarters.tickets.redeem = redeem
        await headquarters.begin(spec)
        ended = await headquarters.end_of(spec)
    assert (ended.state, ended.error_code, ended.is_retryable) == (RunState.FAILED, TicketRefused.code, True)


async def test_node_with_another_certificate_gets_nothing(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent():
        spec = headquarters.files_spec(tree)
        headquarters.node_profile.credentials.replace_identity(
            headquarters.profile(Role.NODE).credentials.identity_path.read_bytes(), ""
        )
        await headquarters.begin(spec)
        ended = await headquarters.end_of(spec)
    assert (ended.state, ended.error_code) == (RunState.FAILED, CertificateRefused.code)
    assert headquarters.storage.points() == []


async def test_link_lost_during_a_run_the_end_is_reported_after_the_next_registration(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent():
        headquarters.ends_refused = True
        spec = headquarters.files_spec(tree)
        await headquarters.begin(spec)
        await headquarters.until(lambda: headquarters.unanswered)
        headquarters.ends_refused = False
        headquarters.link.close("server restarts")
        ended = await headquarters.end_of(spec)
        assert ended.state is RunState.DONE
        assert len(headquarters.registers) == 2


async def test_passive_agent_is_dialled_by_server_and_node(headquarters, tree):
    await headquarters.enrol("passive")
    async with headquarters.running_agent(listen=("127.0.0.1:0",)) as running:
        (address,) = running.addresses
        expected = Expected(Role.AGENT, running.credentials.identity().ident)
        async with dial(
            address, headquarters.server_profile, expected=expected, handler=headquarters
        ) as link:
            await headquarters.until(lambda: headquarters.registers)
            spec = headquarters.files_spec(tree)
            await headquarters.begin(spec, passive=True)
            with pytest.raises(NotFound):
                await headquarters.dial_channels(address, "another run", 1)
            with pytest.raises(NotAuthorised, match="another node"):
                await headquarters.dial_channels(address, spec.run_id, 1, headquarters.profile(Role.NODE))
            await headquarters.dial_channels(address, spec.run_id, spec.channel_count)
            assert (await headquarters.end_of(spec)).state is RunState.DONE
            assert link.is_open


async def test_passive_agent_is_directed_by_the_server_only(headquarters):
    await headquarters.enrol("passive")
    async with headquarters.running_agent(listen=("127.0.0.1:0",)) as running:
        (address,) = running.addresses
        for role in (Role.NODE, Role.AGENT, Role.CONSOLE):
            with pytest.raises(NotAuthorised, match="only the server"):
                async with dial(
                    address, headquarters.profile(role), expected=Expected(Role.AGENT), handler=DeafHandler()
                ):
                    pass


async def test_passive_agent_the_node_never_dials_fails_the_run(headquarters, tree, monkeypatch):
    monkeypatch.setattr(agent.runs, "CONNECT_SECONDS", 0.2)
    await headquarters.enrol("passive")
    async with headquarters.running_agent(listen=("127.0.0.1:0",)) as running:
        (address,) = running.addresses
        async with dial(
            address, headquarters.server_profile, expected=Expected(Role.AGENT), handler=headquarters
        ):
            await headquarters.until(lambda: headquarters.registers)
            spec = headquarters.files_spec(tree)
            await headquarters.begin(spec, passive=True)
            ended = await headquarters.end_of(spec)
    assert ended.is_retryable
    assert "0 of 2 data channels" in ended.error


async def test_certificate_in_its_last_third_is_renewed_over_the_link(headquarters):
    state = await headquarters.enrol()
    ident = state.credentials.identity().ident
    headquarters.authority._clock = lambda: now_utc() - timedelta(days=300)
    old = self_issue(headquarters.authority, state.credentials.directory, Role.AGENT, ident).identity()
    headquarters.authority._clock = now_utc
    async with headquarters.running_agent() as running:
        await turned(lambda: state.credentials.identity() != old)
        new = state.credentials.identity()
        assert (new.ident, new.role) == (old.ident, old.role)
        assert new.not_after > old.not_after
        headquarters.link.close()
        await headquarters.until(lambda: len(headquarters.registers) == 2)
        assert headquarters.link.peer.serial == new.serial
        assert running.profile.credentials == state.credentials


async def test_revocations_pushed_are_kept_and_count_at_once(headquarters, tree):
    state = await headquarters.enrol()
    async with headquarters.running_agent() as running:
        node = headquarters.node_profile.credentials.identity()
        revoked_pem = headquarters.authority.revoke(node.serial)
        await headquarters.link.notify(RevocationsPushed(revoked_pem=revoked_pem))
        await turned(lambda: running.profile.is_revoked(node))
        assert node.serial in state.credentials.revoked()
        spec = headquarters.files_spec(tree)
        await headquarters.begin(spec)
        ended = await headquarters.end_of(spec)
    assert ended.error_code == CertificateRefused.code
    assert "revoked" in ended.error


async def test_server_looks_at_disks_and_directories(headquarters, tree):
    await headquarters.enrol()
    async with headquarters.running_agent():
        answer = await headquarters.link.request(HostDisksAsk(), HostDisksAnswer)
        assert all(disk.size_bytes > 0 and disk.path.startswith("/dev/") for disk in answer.items)
        listing = await headquarters.link.request(HostBrowseAsk(path=str(tree), limit=3), ListingAnswer)
        assert [entry.name for entry in listing.items] == ["d0", "d1", "d10"]
        assert listing.has_more
        with pytest.raises(NotFound, match="directory not found"):
            await headquarters.link.request(HostBrowseAsk(path="/no/such"), ListingAnswer)


async def test_agent_of_a_deleted_host_keeps_trying_and_says_why(headquarters, caplog):
    await headquarters.enrol()

    async def admit(_peer, _hello):
        raise NotAuthorised(reason="this host was deleted")

    headquarters.admit = admit
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(
            lambda: serve(AgentConfig(state_directory=headquarters.directory / "agent"), stop_asked=stop.wait)
        )
        await turned(lambda: "this host was deleted" in caplog.text)
        stop.set()


def test_profile_needs_credentials(tmp_path):
    with pytest.raises(KeyFileUnusable):
        Tls13Profile(Credentials(tmp_path))
