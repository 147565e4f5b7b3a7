"""The key under which file handles are sealed: secret, and the same after a restart so that clients go on.

It lies in the directory where overlays are kept. A server that keeps nothing derives it from the identity of
the machine, which is as secret (machine-id(5)); on a machine without one, handles end with the server.
"""

import contextlib
import hashlib
import os
import secrets
from pathlib import Path

from native.nfs import HANDLE_KEY_BYTES
from vdrd.model.errors import Damaged, StorageUnwritable

KEY_NAME = "handle.key"
_MACHINE_ID = Path("/etc/machine-id")


def handle_key(directory: Path | None) -> bytes:
    """The key of `directory`, made and durable if it is not there yet; without one, that of the machine.

    Raises Damaged when the file is not what was written, StorageUnwritable when it cannot be made or read.
    """
    if directory is None:
        return _machine_key()
    path = directory / KEY_NAME
    try:
        if not path.exists():
            _make(path)
        key = path.read_bytes()
    except OSError as error:
        raise StorageUnwritable(path=path, reason=(error.strerror or "error").lower()) from error
    if len(key) != HANDLE_KEY_BYTES:
        raise Damaged(what=f"handle key {path}", reason=f"it is {len(key)} bytes, not {HANDLE_KEY_BYTES}")
    return key


def _machine_key() -> bytes:
    try:
        identity = _MACHINE_ID.read_bytes().strip()
    except OSError:
        identity = b""
    if not identity:
        return secrets.token_bytes(HANDLE_KEY_BYTES)
    return hashlib.sha256(b"vdr file handles of " + identity).digest()[:HANDLE_KEY_BYTES]


def _make(path: Path) -> None:
    """Written under another name and linked: the first of two makers wins, and a crash leaves no half key."""
    new = path.with_name(f"{path.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        new.unlink()
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(fd, secrets.token_bytes(HANDLE_KEY_BYTES))
        os.fsync(fd)
    finally:
        os.close(fd)
    with contextlib.suppress(FileExistsError):
        os.link(new, path)
    new.unlink()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
