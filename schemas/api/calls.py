"""The registry: every call a console, a REST client or the CLI may make.

One line per call: its name, what it takes, what it gives, the right it needs. The server answers from this
table, the
console makes REST from it, a test checks the rights of every role against it.
"""

from dataclasses import dataclass

from msgspec import Raw

from schemas.api import alerts, hosts, jobs, metadata, points, runs, sessions, storages, users
from schemas.api.values import Done, Message
from schemas.api.words import Permission


class Call(Message, frozen=True, kw_only=True, tag_field="t", tag="api-call"):
    """A call on its way to the server. `arguments` is the msgpack of the request struct the registry
    names."""

    name: str
    arguments: Raw
    session_token: str = ""
    """Empty for calls that need no session."""
    address: str = ""
    """Where the user comes from, as the console sees it; for the audit log."""


class CallReply(Message, frozen=True, kw_only=True, tag_field="t", tag="api-reply"):
    """The call was carried out. A refusal is the link's fault message instead: code of the error tree,
    message, hint. `result` is the msgpack of the response struct the registry names."""

    result: Raw


@dataclass(frozen=True, slots=True)
class CallType:
    """One call. `permission` None: any signed-in user, or nobody at all if `is_open`."""

    name: str
    request: type[Message]
    response: type[Message]
    permission: Permission | None
    changes: bool
    """True if it changes something; such calls are written to the audit log."""
    summary: str
    is_open: bool = False
    """True if it needs no session."""


def _read(
    name: str, request: type[Message], response: type[Message], permission: Permission | None, summary: str
) -> CallType:
    return CallType(name, request, response, permission, changes=False, summary=summary)


def _change(
    name: str, request: type[Message], response: type[Message], permission: Permission | None, summary: str
) -> CallType:
    return CallType(name, request, response, permission, changes=True, summary=summary)


_P = Permission

CALLS: dict[str, CallType] = {
    call.name: call
    for call in (
        CallType(
            "session.login", sessions.Login, sessions.LoginReply, None, True, "Opens a session", is_open=True
        ),
        _change("session.logout", sessions.Logout, Done, None, "Ends the session"),
        _read("session.who_am_i", sessions.WhoAmI, sessions.WhoAmIReply, None, "Who the session belongs to"),
        _change("session.change_password", users.PasswordChange, Done, None, "Changes one's own password"),
        _read(
            "system.status",
            sessions.SystemStatus,
            sessions.SystemStatusReply,
            _P.SYSTEM_READ,
            "The system in numbers",
        ),
        _read("events.poll", runs.EventsPoll, runs.EventsReply, _P.SYSTEM_READ, "Waits for changes"),
        _read("host.list", hosts.HostList, hosts.HostPage, _P.HOSTS_READ, "Lists hosts"),
        _read("host.get", hosts.HostGet, hosts.HostInfo, _P.HOSTS_READ, "One host"),
        _change("host.rename", hosts.HostRename, hosts.HostInfo, _P.HOSTS_MANAGE, "Renames a host"),
        _change("host.delete", hosts.HostDelete, Done, _P.HOSTS_MANAGE, "Revokes and forgets a host"),
        _change(
            "host.create_token",
            hosts.EnrolmentTokenCreate,
            hosts.EnrolmentToken,
            _P.HOSTS_MANAGE,
            "Makes a one-time enrolment token",
        ),
        _change(
            "host.add_passive",
            hosts.HostAddPassive,
            hosts.PassiveEnrolment,
            _P.HOSTS_MANAGE,
            "Admits a host that is dialled",
        ),
        _read("host.disks", hosts.HostDisks, hosts.HostDisksReply, _P.HOSTS_BROWSE, "Disks of a host"),
        _read(
            "host.browse", hosts.HostBrowse, hosts.FilePage, _P.HOSTS_BROWSE, "Lists a directory of a host"
        ),
        _read("node.list", hosts.NodeList, hosts.NodePage, _P.NODES_READ, "Lists nodes"),
        _read("node.get", hosts.NodeGet, hosts.NodeInfo, _P.NODES_READ, "One node"),
        _change(
            "node.drain", hosts.NodeDrain, hosts.NodeInfo, _P.NODES_MANAGE, "Stops placing runs on a node"
        ),
        _read("storage.list", storages.StorageList, storages.StoragePage, _P.STORAGES_READ, "Lists storages"),
        _read("storage.get", storages.StorageGet, storages.StorageInfo, _P.STORAGES_READ, "One storage"),
        _change(
            "storage.create",
            storages.StorageCreate,
            storages.StorageInfo,
            _P.STORAGES_MANAGE,
            "Makes or attaches a storage",
        ),
        _change("storage.detach", storages.StorageDetach, Done, _P.STORAGES_MANAGE, "Forgets a storage"),
        _read(
            "storage.statistics",
            storages.StorageStatistics,
            storages.StorageStatisticsReply,
            _P.STORAGES_READ,
            "Measures a storage",
        ),
        _change(
            "storage.verify", storages.StorageVerify, jobs.RunsStarted, _P.JOBS_RUN, "Verifies a storage"
        ),
        _change(
            "storage.rotate_key",
            storages.StorageRotateKey,
            storages.StorageKeyRotated,
            _P.STORAGES_MANAGE,
            "Rotates a storage's root key",
        ),
        _change(
            "storage.collect",
            storages.StorageCollect,
            jobs.RunsStarted,
            _P.STORAGES_MANAGE,
            "Frees unused space",
        ),
        _read("job.list", jobs.JobList, jobs.JobPage, _P.JOBS_READ, "Lists jobs"),
        _read("job.get", jobs.JobGet, jobs.JobInfo, _P.JOBS_READ, "One job"),
        _change("job.create", jobs.JobCreate, jobs.JobInfo, _P.JOBS_MANAGE, "Makes a job"),
        _change("job.edit", jobs.JobEdit, jobs.JobInfo, _P.JOBS_MANAGE, "Changes a job"),
        _change("job.clone", jobs.JobClone, jobs.JobInfo, _P.JOBS_MANAGE, "Copies a job"),
        _change("job.enable", jobs.JobEnable, jobs.JobInfo, _P.JOBS_MANAGE, "Lets the schedule start runs"),
        _change("job.disable", jobs.JobDisable, jobs.JobInfo, _P.JOBS_MANAGE, "Stops the schedule"),
        _change("job.delete", jobs.JobDelete, Done, _P.JOBS_MANAGE, "Deletes a job"),
        _change("job.run_now", jobs.JobRunNow, jobs.RunsStarted, _P.JOBS_RUN, "Starts a job by hand"),
        _read("run.list", runs.RunList, runs.RunPage, _P.JOBS_READ, "Lists runs"),
        _read("run.get", runs.RunGet, runs.RunInfo, _P.JOBS_READ, "One run"),
        _read("run.log", runs.RunLog, runs.RunLogPage, _P.JOBS_READ, "Log of a run"),
        _change("run.cancel", runs.RunCancel, runs.RunInfo, _P.JOBS_RUN, "Stops a run"),
        _read("point.list", points.PointList, points.PointPage, _P.POINTS_READ, "Lists points"),
        _read("point.get", points.PointGet, points.PointInfo, _P.POINTS_READ, "One point"),
        _read(
            "point.browse",
            points.PointBrowse,
            hosts.FilePage,
            _P.POINTS_BROWSE,
            "Lists a directory of a point",
        ),
        _read("point.read", points.PointRead, points.FilePart, _P.POINTS_RESTORE, "Reads a file of a point"),
        _change("point.verify", points.PointVerify, jobs.RunsStarted, _P.JOBS_RUN, "Verifies a point"),
        _change(
            "point.forget", points.PointForget, points.PointForgetReply, _P.POINTS_DELETE, "Forgets points"
        ),
        _change(
            "point.lock",
            points.PointLock,
            points.PointInfo,
            _P.POINTS_LOCK,
            "Locks a point until a time, or holds it",
        ),
        _change(
            "restore.start", points.RestoreStart, jobs.RunsStarted, _P.POINTS_RESTORE, "Brings a point back"
        ),
        _read("export.list", points.ExportList, points.ExportPage, _P.POINTS_READ, "Lists exports"),
        _change(
            "export.start",
            points.ExportStart,
            points.ExportInfo,
            _P.EXPORTS_MANAGE,
            "Serves a point as a disk",
        ),
        _change("export.stop", points.ExportStop, Done, _P.EXPORTS_MANAGE, "Ends an export"),
        _read("alert.list", alerts.AlertList, alerts.AlertPage, _P.ALERTS_READ, "Lists alerts"),
        _read("alert.counts", alerts.AlertCounts, alerts.AlertCountsReply, _P.ALERTS_READ, "Counts alerts"),
        _change(
            "alert.acknowledge",
            alerts.AlertAcknowledge,
            alerts.AlertsChanged,
            _P.ALERTS_HANDLE,
            "Takes alerts on",
        ),
        _change("alert.close", alerts.AlertClose, alerts.AlertsChanged, _P.ALERTS_HANDLE, "Closes alerts"),
        _read(
            "channel.list",
            alerts.ChannelList,
            alerts.ChannelPage,
            _P.CHANNELS_MANAGE,
            "Lists the channels alerts are sent through",
        ),
        _change(
            "channel.create", alerts.ChannelCreate, alerts.ChannelInfo, _P.CHANNELS_MANAGE, "Makes a channel"
        ),
        _change(
            "channel.edit", alerts.ChannelEdit, alerts.ChannelInfo, _P.CHANNELS_MANAGE, "Changes a channel"
        ),
        _change("channel.delete", alerts.ChannelDelete, Done, _P.CHANNELS_MANAGE, "Deletes a channel"),
        _change("channel.test", alerts.ChannelTest, Done, _P.CHANNELS_MANAGE, "Sends a test message"),
        _read(
            "delivery.list",
            alerts.DeliveryList,
            alerts.DeliveryPage,
            _P.CHANNELS_MANAGE,
            "Lists messages to people",
        ),
        _read(
            "metadata.plan",
            metadata.MetadataPlan,
            metadata.MetadataPlanInfo,
            _P.METADATA_MANAGE,
            "How the server's metadata is saved",
        ),
        _change(
            "metadata.edit_plan",
            metadata.MetadataPlanEdit,
            metadata.MetadataPlanInfo,
            _P.METADATA_MANAGE,
            "Changes how the server's metadata is saved",
        ),
        _change(
            "metadata.save",
            metadata.MetadataSave,
            metadata.MetadataFile,
            _P.METADATA_MANAGE,
            "Saves the server's metadata now",
        ),
        _read(
            "metadata.list",
            metadata.MetadataList,
            metadata.MetadataFiles,
            _P.METADATA_MANAGE,
            "Lists metadata backups",
        ),
        _read(
            "metadata.read",
            metadata.MetadataRead,
            metadata.MetadataPart,
            _P.METADATA_MANAGE,
            "Reads a part of a metadata backup",
        ),
        _read("user.list", users.UserList, users.UserPage, _P.USERS_READ, "Lists users"),
        _change("user.create", users.UserCreate, users.UserInfo, _P.USERS_MANAGE, "Makes a user"),
        _change("user.edit", users.UserEdit, users.UserInfo, _P.USERS_MANAGE, "Changes a user"),
        _change("user.delete", users.UserDelete, Done, _P.USERS_MANAGE, "Deletes a user"),
        _read("role.list", users.RoleList, users.RoleListReply, _P.USERS_READ, "Lists roles"),
        _read("audit.list", users.AuditList, users.AuditPage, _P.AUDIT_READ, "Lists the audit log"),
    )
}
"""By name."""
