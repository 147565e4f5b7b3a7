from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from vdrd.model.points import DiskRoot
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, Storage


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[Storage]:
    """A storage open for writing; encryption none, for these tests look at disks."""
    path = tmp_path / "storage"
    Storage.create(path, encryption=Encryption.NONE)
    with Storage.open(path, writable=True) as opened:
        yield opened


@pytest.fixture
def restored(storage: Storage, tmp_path: Path) -> Callable[[DiskRoot], bytes]:
    """Content of a point's disk, restored to a file."""
    from vdrd.disk.restore import restore_disk

    def run(root: DiskRoot) -> bytes:
        target = tmp_path / "restored.raw"
        restore_disk(root, storage.reader, target, overwrite=True, progress=lambda _: None, cancel=Cancel())
        return target.read_bytes()

    return run
