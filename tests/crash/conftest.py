from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.crash.disk import CrashDisk, build_program, mounted


@pytest.fixture(scope="session")
def crash_disk_program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_program(tmp_path_factory.mktemp("program"))


@pytest.fixture(scope="module")
def module_disk(crash_disk_program: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CrashDisk]:
    """A disk that the tests of a module share."""
    with mounted(crash_disk_program, tmp_path_factory.mktemp("crash") / "module") as disk:
        yield disk


@pytest.fixture
def crash_disk(crash_disk_program: Path, tmp_path: Path) -> Iterator[CrashDisk]:
    """A disk whose changes are recorded and may be failed."""
    with mounted(crash_disk_program, tmp_path / "crash") as disk:
        yield disk
