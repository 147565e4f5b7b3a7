"""Small secret files:

written whole or not at all, readable by their owner only. Knows nothing of their content.
"""

import os
import secrets
from pathlib import Path

from vdrd.model.errors import KeyFileUnusable


def write_secret(path: Path, content: bytes) -> None:
    """Replace `path` by `content`, mode 0600; durable on return, the old content stays until then.

    Makes the directory (0700) when it is missing. Raises KeyFileUnusable.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
    except OSError as error:
        raise KeyFileUnusable(path=path, reason=error.strerror) from error


def read_secret(path: Path, bytes_max: int = 1 << 20) -> bytes:
    """Content of `path`.

    Raises KeyFileUnusable when it is missing, too long, or open to others than its owner.
    """
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise KeyFileUnusable(path=path, reason=error.strerror) from error
    if mode & 0o077:
        raise KeyFileUnusable(path=path, reason=f"its mode is {mode:04o}, others may read it; run chmod 600")
    if len(content) > bytes_max:
        raise KeyFileUnusable(path=path, reason=f"it is longer than {bytes_max} bytes")
    return content
