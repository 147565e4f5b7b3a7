"""Which key domain is which tenant's. A number once given is never another tenant's."""

import sqlite3

from vdrd.catalog.settings import TENANT_DEFAULT


def of_run(connection: sqlite3.Connection, run_id: str) -> int:
    """Domain of the tenant that a run belongs to; the tenant gets one with its first run."""
    (tenant_id,) = connection.execute("SELECT tenant_id FROM runs WHERE run_id = ?", [run_id]).fetchone()
    row = connection.execute("SELECT domain FROM key_domains WHERE tenant_id = ?", [tenant_id]).fetchone()
    if row is not None:
        return int(row["domain"])
    # The first tenant has the storage's own domain, as a storage made without a server has.
    (next_free,) = connection.execute("SELECT COALESCE(MAX(domain), 0) + 1 FROM key_domains").fetchone()
    domain = 0 if tenant_id == TENANT_DEFAULT else int(next_free)
    connection.execute("INSERT INTO key_domains (tenant_id, domain) VALUES (?, ?)", [tenant_id, domain])
    return domain
