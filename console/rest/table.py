"""Which call of the registry answers at which method and path. The only place where REST addresses are
written.

Fields of a request that stand in the path are named there; the others come from the query (GET, DELETE) or
the JSON body.
"""

from dataclasses import dataclass

PREFIX = "/api/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One operation."""

    call: str
    method: str
    path: str
    """Below PREFIX, fields in braces."""
    tag: str
    status: int = 200


ENDPOINTS = (
    Endpoint("session.login", "POST", "/sessions", "session", 201),
    Endpoint("session.who_am_i", "GET", "/sessions/current", "session"),
    Endpoint("session.logout", "DELETE", "/sessions/current", "session"),
    Endpoint("session.change_password", "POST", "/sessions/current/password", "session"),
    Endpoint("system.status", "GET", "/status", "system"),
    Endpoint("events.poll", "GET", "/events", "system"),
    Endpoint("host.list", "GET", "/hosts", "hosts"),
    Endpoint("host.add_passive", "POST", "/hosts", "hosts", 201),
    Endpoint("host.create_token", "POST", "/enrolment-tokens", "hosts", 201),
    Endpoint("host.get", "GET", "/hosts/{id}", "hosts"),
    Endpoint("host.rename", "PATCH", "/hosts/{id}", "hosts"),
    Endpoint("host.delete", "DELETE", "/hosts/{id}", "hosts"),
    Endpoint("host.disks", "GET", "/hosts/{id}/disks", "hosts"),
    Endpoint("host.browse", "GET", "/hosts/{id}/files", "hosts"),
    Endpoint("node.list", "GET", "/nodes", "nodes"),
    Endpoint("node.get", "GET", "/nodes/{id}", "nodes"),
    Endpoint("node.drain", "POST", "/nodes/{id}/drain", "nodes"),
    Endpoint("storage.list", "GET", "/storages", "storages"),
    Endpoint("storage.create", "POST", "/storages", "storages", 201),
    Endpoint("storage.get", "GET", "/storages/{id}", "storages"),
    Endpoint("storage.detach", "DELETE", "/storages/{id}", "storages"),
    Endpoint("storage.statistics", "GET", "/storages/{id}/statistics", "storages"),
    Endpoint("storage.verify", "POST", "/storages/{id}/verify", "storages", 202),
    Endpoint("storage.collect", "POST", "/storages/{id}/collect", "storages", 202),
    Endpoint("storage.rotate_key", "POST", "/storages/{id}/rotate-key", "storages"),
    Endpoint("job.list", "GET", "/jobs", "jobs"),
    Endpoint("job.create", "POST", "/jobs", "jobs", 201),
    Endpoint("job.get", "GET", "/jobs/{id}", "jobs"),
    Endpoint("job.edit", "PATCH", "/jobs/{id}", "jobs"),
    Endpoint("job.delete", "DELETE", "/jobs/{id}", "jobs"),
    Endpoint("job.clone", "POST", "/jobs/{id}/clone", "jobs", 201),
    Endpoint("job.enable", "POST", "/jobs/{id}/enable", "jobs"),
    Endpoint("job.disable", "POST", "/jobs/{id}/disable", "jobs"),
    Endpoint("job.run_now", "POST", "/jobs/{id}/run", "jobs", 202),
    Endpoint("run.list", "GET", "/runs", "runs"),
    Endpoint("run.get", "GET", "/runs/{id}", "runs"),
    Endpoint("run.log", "GET", "/runs/{id}/log", "runs"),
    Endpoint("run.cancel", "POST", "/runs/{id}/cancel", "runs", 202),
    Endpoint("point.list", "GET", "/points", "points"),
    Endpoint("point.get", "GET", "/points/{id}", "points"),
    Endpoint("point.browse", "GET", "/points/{id}/files", "points"),
    Endpoint("point.read", "GET", "/points/{id}/content", "points"),
    Endpoint("point.verify", "POST", "/points/{id}/verify", "points", 202),
    Endpoint("point.forget", "POST", "/points/forget", "points"),
    Endpoint("point.lock", "POST", "/points/{id}/lock", "points"),
    Endpoint("restore.start", "POST", "/restores", "points", 202),
    Endpoint("export.list", "GET", "/exports", "exports"),
    Endpoint("export.start", "POST", "/exports", "exports", 201),
    Endpoint("export.stop", "DELETE", "/exports/{id}", "exports"),
    Endpoint("alert.list", "GET", "/alerts", "alerts"),
    Endpoint("alert.counts", "GET", "/alerts/counts", "alerts"),
    Endpoint("alert.acknowledge", "POST", "/alerts/acknowledge", "alerts"),
    Endpoint("alert.close", "POST", "/alerts/close", "alerts"),
    Endpoint("channel.list", "GET", "/channels", "alerts"),
    Endpoint("channel.create", "POST", "/channels", "alerts", 201),
    Endpoint("channel.edit", "PATCH", "/channels/{id}", "alerts"),
    Endpoint("channel.delete", "DELETE", "/channels/{id}", "alerts"),
    Endpoint("channel.test", "POST", "/channels/{id}/test", "alerts"),
    Endpoint("delivery.list", "GET", "/deliveries", "alerts"),
    Endpoint("metadata.plan", "GET", "/metadata/plan", "metadata"),
    Endpoint("metadata.edit_plan", "PATCH", "/metadata/plan", "metadata"),
    Endpoint("metadata.save", "POST", "/metadata/backups", "metadata", 201),
    Endpoint("metadata.list", "GET", "/metadata/backups", "metadata"),
    Endpoint("metadata.read", "GET", "/metadata/backups/{name}/part", "metadata"),
    Endpoint("user.list", "GET", "/users", "users"),
    Endpoint("user.create", "POST", "/users", "users", 201),
    Endpoint("user.edit", "PATCH", "/users/{id}", "users"),
    Endpoint("user.delete", "DELETE", "/users/{id}", "users"),
    Endpoint("role.list", "GET", "/roles", "users"),
    Endpoint("audit.list", "GET", "/audit", "audit"),
)
