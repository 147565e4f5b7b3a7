"""The folder `metadata` of a storage: sealed files of the server that keeps its points, so that a storage
that survives brings back the appliance as well. Their content is nobody's business here."""

import os
import re
from pathlib import Path

from vdrd.model.errors import BadInput, Conflict
from vdrd.store.directory import StorageDirectory

FOLDER = "metadata"
NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{8}\.vdrmeta")


def put(
    directory: StorageDirectory, name: str, offset: int, data: bytes, *, is_last: bool, keep: int
) -> None:
    """Append a part to a file. The last one makes it durable and whole, and removes all but the newest
    `keep`.

    Raises BadInput for a name that is none of ours, Conflict for a part out of turn, StorageFull.
    """
    if not NAME.fullmatch(name):
        raise BadInput(what=f"{name} is no name of a metadata backup")
    if not directory.path(FOLDER).is_dir():
        directory.make_directory(FOLDER)
        directory.sync_directory(".")
    partial = f"tmp/{name}"
    if offset == 0:
        directory.remove(partial)
    with directory.clearing(partial):
        fd = directory.create(partial) if offset == 0 else _open_again(directory, partial)
        try:
            if os.fstat(fd).st_size != offset:
                raise Conflict(what=f"{name} is not at byte {offset}", remedy="send it from its beginning")
            directory.write(fd, data, offset, partial)
            if not is_last:
                return
            directory.sync(fd, partial)
        finally:
            os.close(fd)
        directory.rename(partial, f"{FOLDER}/{name}")
    directory.sync_directory(FOLDER)
    # Never the one just made, which a clock that was set back sorts last.
    for old in [found for found in names(directory.root) if found != name][keep - 1 :]:
        directory.remove(f"{FOLDER}/{old}")


def _open_again(directory: StorageDirectory, partial: str) -> int:
    try:
        return os.open(directory.path(partial), os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise Conflict(what=f"{partial} was not begun", remedy="send it from its beginning") from error


def names(root: Path) -> list[str]:
    """The files that are there whole, newest first."""
    folder = root / FOLDER
    if not folder.is_dir():
        return []
    return sorted((entry.name for entry in folder.iterdir() if NAME.fullmatch(entry.name)), reverse=True)
