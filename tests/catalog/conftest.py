from collections.abc import Iterator
from pathlib import Path

import pytest

from vdrd.catalog import settings
from vdrd.catalog.database import Catalog


@pytest.fixture
def catalog(tmp_path: Path) -> Iterator[Catalog]:
    opened = Catalog.open(tmp_path / "catalog.sqlite")
    opened.write_now(settings.ensure_default_tenant, 1)
    yield opened
    opened.close()
