"""What the server does for each call of `schemas.api.calls`, one module per noun. Rights were checked
before."""

from vdrd.server.calls import (
    alerts,
    exports,
    hosts,
    jobs,
    metadata,
    nodes,
    points,
    runs,
    sessions,
    storages,
    users,
)

HANDLERS = {
    name: handler
    for module in (alerts, exports, hosts, jobs, metadata, nodes, points, runs, sessions, storages, users)
    for name, handler in module.HANDLERS.items()
}
"""By name of the call."""
