import random
from pathlib import Path

import pytest

from vdrd.disk.backup import backup_disk
from vdrd.model.points import Point
from vdrd.model.progress import Cancel
from vdrd.store import Encryption, KeyMaterial, Storage

KEY = KeyMaterial(bytes(range(32)))


def image_bytes(seed: int, size_bytes: int) -> bytes:
    """Noise, text and zeros in runs of odd lengths: what a disk looks like to the store."""
    source = random.Random(seed)
    out = bytearray()
    while len(out) < size_bytes:
        length = source.randrange(1, 300_000)
        kind = source.randrange(3)
        if kind == 0:
            out += bytes(length)
        elif kind == 1:
            out += source.randbytes(length)
        else:
            out += (b"a line of text, number %d\n" % source.randrange(1000)) * (length // 24 + 1)
    return bytes(out[:size_bytes])


def back_up(storage: Storage, path: Path, object_name: str = "disk") -> Point:
    """One whole run."""
    with storage.session() as session:
        draft = backup_disk(path, session, object_name=object_name, progress=lambda _: None, cancel=Cancel())
        return session.commit(draft)


def disk_bytes(storage: Storage, point: Point) -> bytes:
    """A point's disk as the native servers would read it."""
    with storage.reader.open_disk(point.draft.root) as disk:
        return disk.read(0, disk.size_bytes)


@pytest.fixture(params=list(Encryption), ids=lambda encryption: encryption.value)
def encryption(request: pytest.FixtureRequest) -> Encryption:
    return request.param


@pytest.fixture
def storage_path(tmp_path: Path, encryption: Encryption) -> Path:
    path = tmp_path / "storage"
    Storage.create(path, encryption=encryption, compression=1, key=KEY)
    return path
