import os
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from vdrd.catalog import settings
from vdrd.catalog.database import (
    READERS,
    Catalog,
    CatalogDamaged,
    CatalogLocked,
    CatalogNewer,
    CatalogUnusable,
    migrations,
)
from vdrd.model.errors import StorageFull


def test_open_twice_is_refused_and_first_goes_on(catalog: Catalog) -> None:
    with pytest.raises(CatalogLocked, match=re.escape(str(catalog.path))):
        Catalog.open(catalog.path)
    catalog.write_now(settings.put, "a", "b")


def test_open_newer_catalog_is_refused_and_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    Catalog.open(path).close()
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA user_version = 9999")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(CatalogNewer, match="9999"):
        Catalog.open(path)
    assert path.read_bytes() == before


def test_open_file_that_is_no_catalog_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalog.sqlite"
    path.write_bytes(b"not a database, but long enough to have a header " * 20)
    with pytest.raises(CatalogDamaged):
        Catalog.open(path)


def test_open_again_keeps_what_was_written(tmp_path: Path) -> None:
    first = Catalog.open(tmp_path / "catalog.sqlite")
    first.write_now(settings.put, "server_id", "x")
    first.close()
    second = Catalog.open(tmp_path / "catalog.sqlite")
    assert second.write_now(settings.get, "server_id") == "x"
    second.close()


async def test_write_that_raises_changes_nothing(catalog: Catalog) -> None:
    def work(connection: sqlite3.Connection) -> None:
        settings.put(connection, "half", "done")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        await catalog.write(work)
    assert await catalog.read(settings.get, "half") is None


async def test_read_does_not_see_what_is_not_committed_and_may_not_write(catalog: Catalog) -> None:
    with pytest.raises(CatalogUnusable, match="readonly"):
        await catalog.read(settings.put, "a", "b")
    for _ in range(READERS * 3):
        assert await catalog.read(settings.get, "a") is None


async def test_write_on_full_disk_says_so_and_recovers(catalog: Catalog) -> None:
    def fill(connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA max_page_count = 1")
        settings.put(connection, "big", "x" * 10_000_000)

    with pytest.raises(StorageFull):
        await catalog.write(fill)
    await catalog.write(lambda connection: connection.execute("PRAGMA max_page_count = 1000000").fetchone())
    await catalog.write(settings.put, "small", "x")
    assert await catalog.read(settings.get, "big") is None


WRITER = """
import sys
from pathlib import Path
from vdrd.catalog import settings
from vdrd.catalog.database import Catalog
catalog = Catalog.open(Path(sys.argv[1]))
for number in range(1_000_000):
    def pair(connection):
        settings.put(connection, "left", str(number))
        settings.put(connection, "right", str(number))
    catalog.write_now(pair)
    print(number, flush=True)
"""


@pytest.mark.parametrize("after", [1, 7, 40, 160], ids=lambda after: f"after-{after}")
def test_kill_while_writing_keeps_every_acknowledged_transaction_whole(tmp_path: Path, after: int) -> None:
    path = tmp_path / "catalog.sqlite"
    process = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, env=dict(os.environ), text=True
    )
    assert process.stdout is not None
    acknowledged = -1
    for line in process.stdout:
        acknowledged = int(line)
        if acknowledged >= after:
            process.send_signal(signal.SIGKILL)
            break
    rest = process.stdout.read().split()
    process.stdout.close()
    process.wait()
    if rest:
        acknowledged = int(rest[-1])
    catalog = Catalog.open(path)
    left, right = (catalog.write_now(settings.get, name) for name in ("left", "right"))
    catalog.close()
    assert left == right
    assert left is not None
    assert int(left) >= acknowledged


def test_every_column_of_every_migration_is_explained() -> None:
    for _number, name, sql in migrations():
        columns = [
            line
            for line in sql.splitlines()
            if line.startswith("    ") and re.match(r"\s+[a-z_]+\s+[A-Z]", line)
        ]
        assert columns or "CREATE TABLE" not in sql, name
        for line in columns:
            assert re.search(r"-- \S.+", line), f"{name}: {line.strip()}"


def test_migrations_are_numbered_without_a_gap() -> None:
    assert [number for number, _, _ in migrations()] == list(range(1, len(migrations()) + 1))
