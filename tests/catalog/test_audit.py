import pytest

from schemas.api import AuditList
from vdrd.catalog import audit, settings
from vdrd.catalog.database import Catalog


def fill(catalog: Catalog, count: int) -> None:
    for number in range(count):
        catalog.write_now(
            audit.add,
            now_ms=number,
            tenant_id=settings.TENANT_DEFAULT,
            user_name="admin",
            address="127.0.0.1",
            action="job.create" if number % 2 else "host.rename",
            target=f"t{number}",
            state="ok",
            text="",
        )


def test_chain_untouched_is_whole(catalog: Catalog) -> None:
    fill(catalog, 5)
    assert catalog.write_now(audit.first_broken) is None


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ("UPDATE audit SET user_name = 'else' WHERE sequence = 3", 3),
        ("UPDATE audit SET time_ms = 99 WHERE sequence = 1", 1),
        ("DELETE FROM audit WHERE sequence = 2", 3),
        ("UPDATE audit SET hash = zeroblob(32) WHERE sequence = 4", 4),
    ],
    ids=["user", "time", "removed", "hash"],
)
def test_chain_tampered_with_is_found(catalog: Catalog, change: str, found: int) -> None:
    fill(catalog, 5)
    catalog.write_now(lambda connection: connection.execute(change))
    assert catalog.write_now(audit.first_broken) == found


def test_list_filters_by_start_of_action(catalog: Catalog) -> None:
    fill(catalog, 6)
    items, _ = catalog.write_now(audit.list_page, settings.TENANT_DEFAULT, AuditList(action="job."))
    assert [entry.target for entry in items] == ["t5", "t3", "t1"]
