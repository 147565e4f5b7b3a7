"""A server of the console's tests: the same calls, kept in memory. Both ends go through msgpack with the
registry's types, so that nothing passes here that would not pass the real link."""

import asyncio
import hashlib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from console.link import call_of
from schemas import api
from tests.console.fake_alerts import FakeAlerts
from tests.console.fake_metadata import FakeMetadata
from vdrd.model.errors import (
    BadInput,
    Conflict,
    LoginFailed,
    NotAuthorised,
    NotFound,
    SessionEnded,
    Unreachable,
    VdrError,
)

PASSWORD = "correct horse battery"
NOW = datetime(2026, 11, 23, 6, 30, tzinfo=UTC)

OPERATOR_PERMISSIONS = [
    permission
    for permission in api.Permission
    if permission.endswith((".read", ".browse"))
    or permission in (api.Permission.JOBS_RUN, api.Permission.POINTS_RESTORE)
]


def _id(text: str) -> str:
    digest = hashlib.sha256(text.encode()).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-{digest[12:16]}-{digest[16:20]}-{digest[20:32]}"


class FakeServer(FakeAlerts, FakeMetadata):
    """Implements the console's `ServerCalls`."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        FakeAlerts.__init__(self)
        FakeMetadata.__init__(self)
        self.now = now
        self.is_connected = True
        self.is_reachable = True
        self.calls: list[tuple[str, api.Message]] = []
        self.refusals: dict[str, VdrError] = {}
        """Name of a call to the error it answers with."""
        self.sessions: dict[str, str] = {}
        self.users = {
            "admin": self._user("admin", "Administrator", ["super-administrator"]),
            "operator": self._user("operator", "Olivia Operator", ["operator"]),
        }
        self.hosts: dict[str, api.HostInfo] = {}
        self.nodes: dict[str, api.NodeInfo] = {}
        self.storages: dict[str, api.StorageInfo] = {}
        self.jobs: dict[str, api.JobInfo] = {}
        self.runs: dict[str, api.RunInfo] = {}
        self.logs: dict[str, list[api.LogLine]] = {}
        self.points: dict[str, api.PointInfo] = {}
        self.exports: dict[str, api.ExportInfo] = {}
        self.events: list[api.Event] = []
        self.changed = asyncio.Event()

    def _user(self, name: str, display_name: str, roles: list[str]) -> api.UserInfo:
        return api.UserInfo(
            id=_id(name),
            name=name,
            display_name=display_name,
            roles=roles,
            is_enabled=True,
            is_locked_out=False,
            created_at=NOW,
            last_login_at=None,
        )

    # The link

    async def call(self, request: api.Message, *, session_token: str, address: str) -> api.Message:
        if not self.is_reachable:
            raise Unreachable(peer="127.0.0.1:4510", reason="connection refused")
        kind = call_of(request)
        arrived = msgspec.msgpack.decode(msgspec.msgpack.encode(request), type=kind.request)
        user = self.sessions.get(session_token)
        if not kind.is_open and user is None:
            raise SessionEnded
        permissions = self.permissions_of(user) if user else []
        if kind.permission is not None and kind.permission not in permissions:
            raise NotAuthorised(reason=f"{user} lacks {kind.permission}")
        self.calls.append((kind.name, arrived))
        if kind.name in self.refusals:
            raise self.refusals[kind.name]
        handler: Any = getattr(self, "on_" + kind.name.replace(".", "_"))
        reply = handler(arrived, session_token)
        if asyncio.iscoroutine(reply):
            reply = await reply
        return msgspec.msgpack.decode(msgspec.msgpack.encode(reply), type=kind.response)

    def permissions_of(self, user: str) -> list[api.Permission]:
        if "super-administrator" in self.users[user].roles:
            return list(api.Permission)
        return OPERATOR_PERMISSIONS if "operator" in self.users[user].roles else []

    def happen(self, topic: str, ident: str) -> None:
        """Tell whoever polls."""
        run = self.runs.get(ident)
        self.events.append(
            api.Event(sequence=len(self.events) + 1, time=self.now(), topic=topic, id=ident, run=run)
        )
        self.changed.set()
        self.changed = asyncio.Event()

    # Sessions

    def on_session_login(self, request: api.Login, _: str) -> api.LoginReply:
        if request.user_name not in self.users or request.password != PASSWORD:
            raise LoginFailed
        token = _id(f"session {len(self.sessions)}")
        self.sessions[token] = request.user_name
        return api.LoginReply(
            session_token=token, expires_at=self.now() + timedelta(hours=8), user=self._who(request.user_name)
        )

    def _who(self, name: str) -> api.WhoAmIReply:
        user = self.users[name]
        return api.WhoAmIReply(
            user_id=user.id,
            user_name=name,
            display_name=user.display_name,
            tenant_id="default",
            roles=user.roles,
            permissions=self.permissions_of(name),
        )

    def on_session_logout(self, _request: api.Logout, token: str) -> api.Done:
        del self.sessions[token]
        return api.Done()

    def on_session_who_am_i(self, _request: api.WhoAmI, token: str) -> api.WhoAmIReply:
        return self._who(self.sessions[token])

    def on_session_change_password(self, request: api.PasswordChange, _: str) -> api.Done:
        if request.old_password != PASSWORD:
            raise LoginFailed
        return api.Done()

    def on_system_status(self, _request: api.SystemStatus, _: str) -> api.SystemStatusReply:
        states = [run.state for run in self.runs.values()]
        return api.SystemStatusReply(
            version="0.1.0",
            server_id=_id("server"),
            started_at=NOW,
            now=self.now(),
            hosts_online=sum(host.presence == api.Presence.ONLINE for host in self.hosts.values()),
            hosts_total=len(self.hosts),
            nodes_online=len(self.nodes),
            nodes_total=len(self.nodes),
            storages_total=len(self.storages),
            jobs_total=len(self.jobs),
            points_total=len(self.points),
            runs_by_state={state: states.count(state) for state in set(states)},
            stored_bytes=sum(storage.stored_bytes for storage in self.storages.values()),
            capacity_bytes=sum(storage.capacity_bytes for storage in self.storages.values()),
            free_bytes=sum(storage.free_bytes for storage in self.storages.values()),
            problems=[],
        )

    async def on_events_poll(self, request: api.EventsPoll, _: str) -> api.EventsReply:
        after = request.after_sequence or len(self.events)
        if len(self.events) <= after:
            changed = self.changed
            try:
                async with asyncio.timeout(min(request.wait_seconds, 2.0)):
                    await changed.wait()
            except TimeoutError:
                pass
        items = [e for e in self.events[after:] if request.run_id in (None, e.id)]
        return api.EventsReply(items=items[: request.limit], next_sequence=max(len(self.events), after))

    # Hosts and nodes

    def on_host_list(self, request: api.HostList, _: str) -> api.HostPage:
        found = sorted(self.hosts.values(), key=lambda host: host.name)
        if request.search:
            found = [host for host in found if request.search.lower() in host.name.lower()]
        if request.presence:
            found = [host for host in found if host.presence == request.presence]
        items, cursor = _page(found, request)
        return api.HostPage(items=items, next_cursor=cursor)

    def on_host_get(self, request: api.HostGet, _: str) -> api.HostInfo:
        return _one(self.hosts, request.id, "host")

    def on_host_rename(self, request: api.HostRename, _: str) -> api.HostInfo:
        self.hosts[request.id] = msgspec.structs.replace(
            _one(self.hosts, request.id, "host"), name=request.name
        )
        return self.hosts[request.id]

    def on_host_delete(self, request: api.HostDelete, _: str) -> api.Done:
        _one(self.hosts, request.id, "host")
        if not request.force and any(
            s.host_id == request.id for job in self.jobs.values() for s in job.sources
        ):
            raise Conflict(
                what="a job still names this host", remedy="edit the job first, or delete by force"
            )
        del self.hosts[request.id]
        return api.Done()

    def on_host_create_token(self, request: api.EnrolmentTokenCreate, _: str) -> api.EnrolmentToken:
        return api.EnrolmentToken(
            token="VDR1-secret",
            command="vdr-agent enrol VDR1-secret",
            server_address="192.0.2.10:4510",
            authority_fingerprint="ab" * 32,
            expires_at=self.now() + timedelta(seconds=request.valid_seconds),
        )

    def on_host_add_passive(self, request: api.HostAddPassive, _: str) -> api.PassiveEnrolment:
        if any(host.name == request.name for host in self.hosts.values()):
            raise Conflict(what=f"there is a host named {request.name} already", remedy="choose another name")
        host = self.add_host(request.name, link_mode=api.LinkMode.PASSIVE, presence=api.Presence.NEVER_SEEN)
        return api.PassiveEnrolment(
            host=host, bundle="-----BEGIN PRIVATE KEY-----\nMC4C\n", command="vdr-agent admit < bundle.pem"
        )

    def on_host_disks(self, request: api.HostDisks, _: str) -> api.HostDisksReply:
        host = _one(self.hosts, request.id, "host")
        if host.presence != api.Presence.ONLINE:
            raise Unreachable(peer=host.name, reason="it is offline")
        return api.HostDisksReply(
            items=[
                api.DiskInfo(path="/dev/vda", kind="disk", size_bytes=64 << 30, model="Virtio disk"),
                api.DiskInfo(
                    path="/dev/vda1",
                    kind="partition",
                    size_bytes=63 << 30,
                    parent_path="/dev/vda",
                    file_system="ext4",
                    mount_points=["/"],
                ),
                api.DiskInfo(path="/dev/vdb", kind="disk", size_bytes=512 << 30, model="Virtio disk"),
            ]
        )

    def on_host_browse(self, request: api.HostBrowse, _: str) -> api.FilePage:
        _one(self.hosts, request.id, "host")
        return api.FilePage(path=request.path, items=_entries(request.path))

    def on_node_list(self, request: api.NodeList, _: str) -> api.NodePage:
        items, cursor = _page(list(self.nodes.values()), request)
        return api.NodePage(items=items, next_cursor=cursor)

    def on_node_get(self, request: api.NodeGet, _: str) -> api.NodeInfo:
        return _one(self.nodes, request.id, "node")

    def on_node_drain(self, request: api.NodeDrain, _: str) -> api.NodeInfo:
        node = _one(self.nodes, request.id, "node")
        self.nodes[request.id] = msgspec.structs.replace(node, is_draining=request.is_draining)
        return self.nodes[request.id]

    # Storages

    def on_storage_list(self, request: api.StorageList, _: str) -> api.StoragePage:
        items, cursor = _page(list(self.storages.values()), request)
        return api.StoragePage(items=items, next_cursor=cursor)

    def on_storage_get(self, request: api.StorageGet, _: str) -> api.StorageInfo:
        return _one(self.storages, request.id, "storage")

    def on_storage_create(self, request: api.StorageCreate, _: str) -> api.StorageInfo:
        if request.path == "/full":
            raise Conflict(
                what="/full is not empty", remedy="name an empty directory, or attach the storage in it"
            )
        return self.add_storage(request.name, request.path, encryption=request.encryption)

    def on_storage_detach(self, request: api.StorageDetach, _: str) -> api.Done:
        del self.storages[request.id]
        return api.Done()

    def on_storage_statistics(self, request: api.StorageStatistics, _: str) -> api.StorageStatisticsReply:
        storage = _one(self.storages, request.id, "storage")
        return api.StorageStatisticsReply(
            point_count=storage.point_count,
            object_count=4,
            logical_bytes=storage.stored_bytes * 9,
            added_bytes=storage.stored_bytes * 2,
            stored_bytes=storage.stored_bytes,
            capacity_bytes=storage.capacity_bytes,
            free_bytes=storage.free_bytes,
        )

    def on_storage_verify(self, request: api.StorageVerify, _: str) -> api.RunsStarted:
        return self._started(self.add_run(api.RunKind.VERIFY, storage=self.storages[request.id]))

    def on_storage_rotate_key(self, request: api.StorageRotateKey, _: str) -> api.StorageKeyRotated:
        _one(self.storages, request.id, "storage")
        return api.StorageKeyRotated(epoch_count=2, slots=["0badcafe"], dropped_slots=request.drop_slots)

    def on_storage_collect(self, request: api.StorageCollect, _: str) -> api.RunsStarted:
        return self._started(self.add_run(api.RunKind.COLLECT, storage=self.storages[request.id]))

    # Jobs

    def on_job_list(self, request: api.JobList, _: str) -> api.JobPage:
        found = sorted(self.jobs.values(), key=lambda job: job.name)
        if request.search:
            found = [job for job in found if request.search.lower() in job.name.lower()]
        if request.kind:
            found = [job for job in found if job.kind == request.kind]
        if request.host_id:
            found = [job for job in found if any(source.host_id == request.host_id for source in job.sources)]
        items, cursor = _page(found, request)
        return api.JobPage(items=items, next_cursor=cursor)

    def on_job_get(self, request: api.JobGet, _: str) -> api.JobInfo:
        return _one(self.jobs, request.id, "job")

    def on_job_create(self, request: api.JobCreate, token: str) -> api.JobInfo:
        if any(job.name == request.name for job in self.jobs.values()):
            raise Conflict(what=f"there is a job named {request.name} already", remedy="choose another name")
        storage = _one(self.storages, request.storage_id or next(iter(self.storages), ""), "storage")
        for source in request.sources:
            _one(self.hosts, source.host_id, "host")
        job = api.JobInfo(
            id=_id(f"job {request.name}"),
            name=request.name,
            kind=request.kind,
            storage_id=storage.id,
            storage_name=storage.name,
            sources=request.sources,
            schedules=request.schedules,
            options=request.options,
            is_enabled=request.is_enabled,
            created_at=self.now(),
            created_by=self.sessions.get(token, "admin"),
            revision=1,
            next_run_at=self.now() + timedelta(hours=5) if request.schedules else None,
        )
        self.jobs[job.id] = job
        return job

    def on_job_edit(self, request: api.JobEdit, _: str) -> api.JobInfo:
        job = _one(self.jobs, request.id, "job")
        if request.revision is not None and request.revision != job.revision:
            raise Conflict(
                what="somebody else changed this job meanwhile",
                remedy="look at it again and repeat your change",
            )
        changes = {
            name: value
            for name in ("name", "storage_id", "sources", "schedules", "options")
            if (value := getattr(request, name)) is not msgspec.UNSET
        }
        self.jobs[job.id] = msgspec.structs.replace(job, revision=job.revision + 1, **changes)
        return self.jobs[job.id]

    def on_job_clone(self, request: api.JobClone, _: str) -> api.JobInfo:
        job = _one(self.jobs, request.id, "job")
        copy = msgspec.structs.replace(job, id=_id(request.name), name=request.name, is_enabled=False)
        self.jobs[copy.id] = copy
        return copy

    def _enabled(self, ident: str, is_enabled: bool) -> api.JobInfo:
        self.jobs[ident] = msgspec.structs.replace(_one(self.jobs, ident, "job"), is_enabled=is_enabled)
        return self.jobs[ident]

    def on_job_enable(self, request: api.JobEnable, _: str) -> api.JobInfo:
        return self._enabled(request.id, True)

    def on_job_disable(self, request: api.JobDisable, _: str) -> api.JobInfo:
        return self._enabled(request.id, False)

    def on_job_delete(self, request: api.JobDelete, _: str) -> api.Done:
        _one(self.jobs, request.id, "job")
        del self.jobs[request.id]
        return api.Done()

    def on_job_run_now(self, request: api.JobRunNow, _: str) -> api.RunsStarted:
        job = _one(self.jobs, request.id, "job")
        kind = api.RunKind.BACKUP_DISK if job.kind == api.ObjectKind.DISK else api.RunKind.BACKUP_FILES
        runs = [
            self.add_run(kind, job=job, host=self.hosts.get(source.host_id), backup_type=request.backup_type)
            for source in job.sources
        ]
        return self._started(*runs)

    def _started(self, *runs: api.RunInfo) -> api.RunsStarted:
        return api.RunsStarted(batch_id=_id("batch"), run_ids=[run.id for run in runs])

    # Runs

    def on_run_list(self, request: api.RunList, _: str) -> api.RunPage:
        found = sorted(self.runs.values(), key=lambda run: run.created_at, reverse=True)
        if request.states:
            found = [run for run in found if run.state in request.states]
        if request.kinds:
            found = [run for run in found if run.kind in request.kinds]
        if request.job_id:
            found = [run for run in found if run.job_id == request.job_id]
        if request.host_id:
            found = [run for run in found if run.host_id == request.host_id]
        if request.since:
            found = [run for run in found if run.created_at >= request.since]
        items, cursor = _page(found, request)
        return api.RunPage(items=items, next_cursor=cursor)

    def on_run_get(self, request: api.RunGet, _: str) -> api.RunInfo:
        return _one(self.runs, request.id, "run")

    def on_run_log(self, request: api.RunLog, _: str) -> api.RunLogPage:
        lines = [line for line in self.logs.get(request.id, []) if line.sequence > request.after_sequence]
        return api.RunLogPage(items=lines[: request.limit], is_complete=len(lines) <= request.limit)

    def on_run_cancel(self, request: api.RunCancel, _: str) -> api.RunInfo:
        run = _one(self.runs, request.id, "run")
        if run.state not in api.OPEN_STATES:
            raise Conflict(what="the run has ended already", remedy="there is nothing to stop")
        return self.change_run(run.id, state=api.RunState.CANCELLED, ended_at=self.now())

    # Points

    def on_point_list(self, request: api.PointList, _: str) -> api.PointPage:
        found = sorted(self.points.values(), key=lambda point: point.time, reverse=True)
        for name in ("host_id", "job_id", "storage_id", "object_name", "kind"):
            wanted = getattr(request, name)
            if wanted:
                found = [point for point in found if getattr(point, name) == wanted]
        items, cursor = _page(found, request)
        return api.PointPage(items=items, next_cursor=cursor)

    def on_point_get(self, request: api.PointGet, _: str) -> api.PointInfo:
        return _one(self.points, request.id, "point")

    def on_point_browse(self, request: api.PointBrowse, _: str) -> api.FilePage:
        _one(self.points, request.id, "point")
        return api.FilePage(path=request.path, items=_entries(request.path))

    def on_point_read(self, request: api.PointRead, _: str) -> api.FilePart:
        _one(self.points, request.id, "point")
        found = [
            entry for entry in _entries(request.path.rpartition("/")[0] or "/") if entry.path == request.path
        ]
        if not found or found[0].kind != "file":
            raise NotFound(what="path", name=request.path)
        entry = found[0]
        content = file_content(entry.size_bytes)
        return api.FilePart(
            data=content[request.offset : request.offset + request.length],
            size_bytes=entry.size_bytes,
            name=entry.name,
            modified_at=entry.modified_at,
        )

    def on_point_verify(self, request: api.PointVerify, _: str) -> api.RunsStarted:
        return self._started(self.add_run(api.RunKind.VERIFY))

    def on_point_forget(self, request: api.PointForget, _: str) -> api.PointForgetReply:
        for ident in request.ids:
            _one(self.points, ident, "point")
            del self.points[ident]
        return api.PointForgetReply(forgotten_ids=request.ids)

    def on_point_lock(self, request: api.PointLock, _: str) -> api.PointInfo:
        point = _one(self.points, request.id, "point")
        if request.until is not None and request.until <= self.now():
            raise BadInput(what="that time has passed")
        self.points[point.id] = msgspec.structs.replace(
            point,
            locked_until=request.until or point.locked_until,
            is_held=point.is_held if request.is_held is None else request.is_held,
        )
        return self.points[point.id]

    def on_restore_start(self, request: api.RestoreStart, _: str) -> api.RunsStarted:
        point = _one(self.points, request.point_id, "point")
        kind = api.RunKind.RESTORE_DISK if point.kind == api.ObjectKind.DISK else api.RunKind.RESTORE_FILES
        return self._started(self.add_run(kind, host=self.hosts.get(request.host_id or point.host_id or "")))

    def on_export_list(self, request: api.ExportList, _: str) -> api.ExportPage:
        items, cursor = _page(list(self.exports.values()), request)
        return api.ExportPage(items=items, next_cursor=cursor)

    def on_export_start(self, request: api.ExportStart, token: str) -> api.ExportInfo:
        point = _one(self.points, request.point_id, "point")
        export = api.ExportInfo(
            id=_id(f"export {point.id}"),
            point_id=point.id,
            object_name=point.object_name,
            node_id=_id("node"),
            url=f"nfs://192.0.2.10/{point.id}/disk.raw",
            mount_command=f"mount -t nfs -o vers=3,nolock 192.0.2.10:/{point.id} /mnt",
            is_writable=request.is_writable,
            is_online=True,
            cache_bytes=0,
            started_at=self.now(),
            started_by=self.sessions.get(token, "admin"),
        )
        self.exports[export.id] = export
        return export

    def on_export_stop(self, request: api.ExportStop, _: str) -> api.Done:
        _one(self.exports, request.id, "export")
        del self.exports[request.id]
        return api.Done()

    # Users and log

    def on_user_list(self, request: api.UserList, _: str) -> api.UserPage:
        items, cursor = _page(list(self.users.values()), request)
        return api.UserPage(items=items, next_cursor=cursor)

    def on_user_create(self, request: api.UserCreate, _: str) -> api.UserInfo:
        if request.name in self.users:
            raise Conflict(what=f"there is a user {request.name} already", remedy="choose another name")
        self.users[request.name] = self._user(
            request.name, request.display_name or request.name, request.roles
        )
        return self.users[request.name]

    def on_user_edit(self, request: api.UserEdit, _: str) -> api.UserInfo:
        user = next(user for user in self.users.values() if user.id == request.id)
        changes = {
            name: value
            for name in ("display_name", "roles", "is_enabled")
            if (value := getattr(request, name)) is not msgspec.UNSET
        }
        self.users[user.name] = msgspec.structs.replace(user, **changes)
        return self.users[user.name]

    def on_user_delete(self, request: api.UserDelete, _: str) -> api.Done:
        name = next(user.name for user in self.users.values() if user.id == request.id)
        del self.users[name]
        return api.Done()

    def on_role_list(self, _request: api.RoleList, _: str) -> api.RoleListReply:
        return api.RoleListReply(
            items=[
                api.RoleInfo(
                    name="super-administrator",
                    description="May do everything",
                    permissions=list(api.Permission),
                ),
                api.RoleInfo(
                    name="operator", description="Runs and restores", permissions=list(OPERATOR_PERMISSIONS)
                ),
            ]
        )

    def on_audit_list(self, request: api.AuditList, _: str) -> api.AuditPage:
        entries = [
            api.AuditEntry(
                sequence=n,
                time=self.now() - timedelta(minutes=n * 7),
                user_name="admin",
                address="192.0.2.77",
                action=name,
                target=target,
                state=state,
                text=text,
            )
            for n, (name, target, state, text) in enumerate(
                [
                    ("job.run_now", "Files of web-01", "ok", "1 run queued"),
                    ("point.forget", "web-01 /srv/www", "refused", "lacks points.delete"),
                    ("session.login", "", "failed", "wrong user name or password"),
                    ("storage.create", "main", "ok", ""),
                ],
                1,
            )
        ]
        found = [
            e
            for e in entries
            if request.state in (None, e.state) and e.action.startswith(request.action or "")
        ]
        items, cursor = _page(found, request)
        return api.AuditPage(items=items, next_cursor=cursor)

    # Content

    def add_host(self, name: str, **fields: Any) -> api.HostInfo:
        values: dict[str, Any] = {
            "id": _id(f"host {name}"),
            "name": name,
            "host_name": name,
            "link_mode": api.LinkMode.ACTIVE,
            "presence": api.Presence.ONLINE,
            "address": "192.0.2.21:40312",
            "agent_version": "0.1.0",
            "operating_system": "Debian GNU/Linux 12",
            "capabilities": ["disk", "files"],
            "enrolled_at": self.now() - timedelta(days=40),
            "last_seen_at": self.now(),
            "last_success_at": None,
        }
        host = api.HostInfo(**{**values, **fields})
        self.hosts[host.id] = host
        return host

    def add_storage(self, name: str, path: str = "/srv/vdr", **fields: Any) -> api.StorageInfo:
        values: dict[str, Any] = {
            "id": _id(f"storage {name}"),
            "name": name,
            "node_id": _id("node"),
            "node_name": "appliance",
            "path": path,
            "encryption": api.Encryption.AES_256_GCM,
            "compression": 1,
            "is_online": True,
            "created_at": NOW,
            "point_count": 96,
            "stored_bytes": 184 << 30,
            "capacity_bytes": 2 << 40,
            "free_bytes": 1340 << 30,
            "measured_at": self.now(),
        }
        storage = api.StorageInfo(**{**values, **fields})
        self.storages[storage.id] = storage
        self.nodes[storage.node_id] = api.NodeInfo(
            id=storage.node_id,
            name="appliance",
            presence=api.Presence.ONLINE,
            data_address="192.0.2.10:4511",
            version="0.1.0",
            is_draining=False,
            storage_count=len(self.storages),
            running_count=1,
            last_seen_at=self.now(),
        )
        return storage

    def add_job(
        self, name: str, kind: api.ObjectKind, hosts: list[api.HostInfo], paths: list[str], **fields: Any
    ) -> api.JobInfo:
        made = self.on_job_create(
            api.JobCreate(
                name=name,
                kind=kind,
                sources=[api.JobSource(host_id=host.id, paths=paths) for host in hosts],
                schedules=[api.DailySchedule(at="01:00", zone="Asia/Shanghai")],
                options=api.JobOptions(keep_days=30),
            ),
            "",
        )
        self.jobs[made.id] = msgspec.structs.replace(made, **fields)
        return self.jobs[made.id]

    def add_run(
        self,
        kind: api.RunKind,
        *,
        job: api.JobInfo | None = None,
        host: api.HostInfo | None = None,
        storage: api.StorageInfo | None = None,
        **fields: Any,
    ) -> api.RunInfo:
        now = self.now()
        progress = api.RunProgress(step="reading")
        values: dict[str, Any] = {
            "id": _id(f"run {len(self.runs)}"),
            "kind": kind,
            "state": api.RunState.QUEUED,
            "job_id": job.id if job else None,
            "job_name": job.name if job else "",
            "host_id": host.id if host else None,
            "host_name": host.name if host else "",
            "node_id": _id("node"),
            "storage_id": job.storage_id if job else storage.id if storage else None,
            "storage_name": job.storage_name if job else storage.name if storage else "",
            "batch_id": _id("batch"),
            "backup_type": None,
            "attempt": 1,
            "attempts_max": 4,
            "created_by": "admin",
            "created_at": now,
            "not_before": now,
            "started_at": None,
            "ended_at": None,
            "progress": progress,
            "warning_count": 0,
        }
        run = api.RunInfo(**{**values, **fields})
        self.runs[run.id] = run
        self.happen("run", run.id)
        return run

    def change_run(self, ident: str, **changes: Any) -> api.RunInfo:
        self.runs[ident] = msgspec.structs.replace(self.runs[ident], **changes)
        self.happen("run" if "state" in changes else "run-progress", ident)
        return self.runs[ident]

    def say(self, ident: str, text: str, level: api.LogLevel = api.LogLevel.INFO) -> None:
        lines = self.logs.setdefault(ident, [])
        lines.append(api.LogLine(sequence=len(lines) + 1, time=self.now(), level=level, text=text))

    def add_point(
        self, job: api.JobInfo, host: api.HostInfo, path: str, moment: datetime, **fields: Any
    ) -> api.PointInfo:
        ident = hashlib.sha256(f"{host.name}{path}{moment}".encode()).hexdigest()[:32]
        values: dict[str, Any] = {
            "id": ident,
            "time": moment,
            "object_name": f"{host.name}:{path}",
            "kind": job.kind,
            "backup_type": api.BackupType.INCREMENTAL,
            "source": path,
            "host_id": host.id,
            "host_name": host.name,
            "storage_id": job.storage_id,
            "storage_name": job.storage_name,
            "job_id": job.id,
            "run_id": None,
            "parent_id": None,
            "logical_bytes": 64 << 30,
            "new_bytes": 734 << 20,
            "stored_bytes": 281 << 20,
            "duration_seconds": 94.0,
            "warning_count": 0,
        }
        point = api.PointInfo(**{**values, **fields})
        self.points[ident] = point
        return point


def _one(things: dict[str, Any], ident: str, what: str) -> Any:
    if ident not in things:
        raise NotFound(what=what, name=ident)
    return things[ident]


def _page(found: list[Any], request: api.PageRequest) -> tuple[list[Any], str | None]:
    begin = int(request.cursor or 0)
    end = begin + request.limit
    return found[begin:end], str(end) if end < len(found) else None


def file_content(size_bytes: int) -> bytes:
    """What every file of that size holds."""
    return hashlib.shake_128(b"content").digest(size_bytes)


def _entries(path: str) -> list[api.FileEntry]:
    base = path.rstrip("/")
    moment = NOW - timedelta(days=3)
    if path.count("/") > 4:
        return []
    entries = [
        api.FileEntry(name=name, path=f"{base}/{name}", kind="directory", mode=0o755, modified_at=moment)
        for name in ("etc", "srv", "var")
    ]
    entries.append(
        api.FileEntry(
            name="current",
            path=f"{base}/current",
            kind="symlink",
            mode=0o777,
            link_target="srv",
            modified_at=moment,
        )
    )
    entries.extend(
        api.FileEntry(
            name=name, path=f"{base}/{name}", kind="file", size_bytes=size, mode=0o640, modified_at=moment
        )
        for name, size in (("index.html", 18_233), ("notes <b>.txt", 412), ("photo-\\xff.jpg", 3_412_998))
    )
    return entries


def populate(server: FakeServer) -> None:
    """A small company, for pictures: some hosts protected, one at risk, one not."""
    server.populate_alerts()
    now = server.now()
    storage = server.add_storage("main")
    server.add_storage(
        "offsite", "/mnt/offsite/vdr", point_count=31, stored_bytes=61 << 30, free_bytes=210 << 30
    )
    web = server.add_host("web-01", last_success_at=now - timedelta(hours=4), point_count=30)
    mail = server.add_host("mail-01", last_success_at=now - timedelta(hours=5), point_count=28)
    erp = server.add_host("erp-db", last_success_at=now - timedelta(days=3), point_count=22)
    server.add_host("build-07", address="192.0.2.44:40110")
    server.add_host(
        "files-02", presence=api.Presence.OFFLINE, last_success_at=now - timedelta(hours=9), point_count=16
    )
    www = server.add_job("Web content", api.ObjectKind.FILES, [web], ["/srv/www", "/etc"])
    disks = server.add_job("System disks", api.ObjectKind.DISK, [web, mail], ["/dev/vda"])
    erp_job = server.add_job("ERP database disk", api.ObjectKind.DISK, [erp], ["/dev/vdb"])
    files = server.add_job(
        "Shared files",
        api.ObjectKind.FILES,
        [server.hosts[_id("host files-02")]],
        ["/srv/share"],
        is_enabled=True,
    )
    kinds = {api.ObjectKind.DISK: api.RunKind.BACKUP_DISK, api.ObjectKind.FILES: api.RunKind.BACKUP_FILES}

    def finished(
        job: api.JobInfo, host: api.HostInfo, hours: float, minutes: float, state: api.RunState, **fields: Any
    ) -> api.RunInfo:
        started = now - timedelta(hours=hours)
        total = 64 << 30 if job.kind == api.ObjectKind.DISK else 9 << 30
        run = server.add_run(
            kinds[job.kind],
            job=job,
            host=host,
            state=state,
            created_at=started,
            not_before=started,
            started_at=started,
            ended_at=started + timedelta(minutes=minutes),
            created_by="schedule",
            backup_type=api.BackupType.INCREMENTAL,
            progress=api.RunProgress(
                step="committed",
                done_bytes=total,
                total_bytes=total,
                done_files=20_412,
                new_bytes=total // 60,
                stored_bytes=total // 150,
            ),
            **fields,
        )
        server.say(run.id, "compared hashes at the source")
        server.jobs[job.id] = msgspec.structs.replace(
            server.jobs[job.id], last_run_id=run.id, last_run_state=state, last_run_at=started
        )
        return run

    for n in range(5):
        finished(www, web, 22 - 4.5 * n, 9 + n, api.RunState.DONE)
    finished(disks, web, 19, 42, api.RunState.DONE)
    finished(disks, mail, 19, 55, api.RunState.DONE)
    finished(files, server.hosts[_id("host files-02")], 9.2, 31, api.RunState.WARNING, warning_count=3)
    finished(
        erp_job,
        erp,
        5.4,
        2,
        api.RunState.FAILED,
        error_code="source-unreadable",
        error="cannot read /dev/vdb: no such device. check that it exists and that this account may read it",
    )
    for day in range(30):
        moment = now - timedelta(days=day, hours=4)
        kind = api.BackupType.FULL if day % 7 == 0 else api.BackupType.INCREMENTAL
        proven = {"verified_at": moment + timedelta(hours=1), "verified_ok": True} if day % 3 == 0 else {}
        server.add_point(www, web, "/srv/www", moment, backup_type=kind, logical_bytes=9 << 30, **proven)
        if day < 28:
            server.add_point(
                disks, web, "/dev/vda", moment - timedelta(minutes=50), backup_type=kind, **proven
            )
            server.add_point(disks, mail, "/dev/vda", moment - timedelta(hours=1), backup_type=kind)
        if 3 <= day < 25:
            damaged = {"verified_at": moment, "verified_ok": False} if day == 11 else proven
            server.add_point(
                erp_job, erp, "/dev/vdb", moment, backup_type=kind, logical_bytes=512 << 30, **damaged
            )
    running = server.add_run(
        api.RunKind.BACKUP_DISK,
        job=disks,
        host=web,
        state=api.RunState.RUNNING,
        started_at=now - timedelta(minutes=4),
        created_at=now - timedelta(minutes=4),
        backup_type=api.BackupType.INCREMENTAL,
        progress=api.RunProgress(
            step="/dev/vda",
            done_bytes=41 << 30,
            total_bytes=64 << 30,
            new_bytes=734 << 20,
            stored_bytes=281 << 20,
            bytes_per_second=182e6,
            remaining_seconds=131.0,
        ),
    )
    for text in (
        "storage main opened on appliance",
        "agent of web-01 connected, 2 data channels",
        "reading /dev/vda, 64.0 GiB, 64 KiB blocks",
        "parent point of yesterday 01:00 found: comparing hashes",
    ):
        server.say(running.id, text)
    server.say(running.id, "block at 12.4 GiB took 3 s to read", api.LogLevel.WARNING)
    disk_point = next(point for point in server.points.values() if point.kind == api.ObjectKind.DISK)
    server.on_export_start(api.ExportStart(point_id=disk_point.id), "")
    assert storage.id in server.storages
