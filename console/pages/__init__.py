"""The pages, one noun a file."""

from console.pages import (
    account,
    alerts,
    door,
    exports,
    hosts,
    job_wizard,
    jobs,
    live,
    log,
    metadata,
    nodes,
    overview,
    points,
    reference,
    restores,
    runs,
    search,
    storages,
    users,
)

PAGES = tuple(
    module.blueprint
    for module in (
        door,
        overview,
        hosts,
        jobs,
        job_wizard,
        runs,
        alerts,
        points,
        restores,
        exports,
        storages,
        nodes,
        users,
        metadata,
        account,
        log,
        search,
        live,
        reference,
    )
)
