from tests.catalog.test_runs import queue
from vdrd.catalog import key_domains
from vdrd.catalog.database import Catalog


def test_every_tenant_has_a_key_domain_of_its_own_and_the_first_has_that_of_the_storage(
    catalog: Catalog,
) -> None:
    for number, tenant in enumerate(("left", "default", "right")):
        catalog.write_now(
            lambda connection, name: connection.execute(
                "INSERT OR IGNORE INTO tenants (tenant_id, name, created_at_ms) VALUES (?, ?, 1)",
                [name, name],
            ),
            tenant,
        )
        for run_id in (f"{tenant} one", f"{tenant} two"):
            queue(catalog, run_id, 1000 + number)
            catalog.write_now(
                lambda connection, *pair: connection.execute(
                    "UPDATE runs SET tenant_id = ? WHERE run_id = ?", pair
                ),
                tenant,
                run_id,
            )
    found = [
        catalog.write_now(key_domains.of_run, f"{tenant} {which}")
        for tenant, which in (
            ("left", "one"), ("default", "one"), ("right", "one"), ("right", "two"), ("left", "two"),
        )
    ]  # fmt: skip
    assert found == [1, 0, 2, 2, 1]
