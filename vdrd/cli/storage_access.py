"""What every `vdr store` command shares: finding the storage and its key, and showing points."""

import argparse
import os
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vdrd.model.errors import BadInput, NotFound
from vdrd.model.points import Point
from vdrd.model.storage import KeyMaterial

if TYPE_CHECKING:
    from vdrd.store import Storage

KEY_FILE_VARIABLE = "VDR_KEY_FILE"
_KEY_FILE_BYTES_MAX = 1 << 20


def path_argument(text: str) -> Path:
    """For argparse: a path. An empty one (a variable nobody set) would mean the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


def add_storage_arguments(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """DIR, --key-file and, where the command has an answer, --json."""
    parser.add_argument("directory", metavar="DIR", type=path_argument, help="directory of the storage")
    parser.add_argument(
        "--key-file", metavar="F", type=Path, help=f"key of an encrypted storage (or {KEY_FILE_VARIABLE})"
    )
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON document")


def key_file_path(args: argparse.Namespace) -> Path | None:
    """The key file that was given, on the command line or by the environment."""
    if args.key_file is not None:
        path: Path = args.key_file
        return path
    named = os.environ.get(KEY_FILE_VARIABLE)
    return Path(named) if named else None


def read_key_file(path: Path) -> KeyMaterial:
    """Raises NotFound or BadInput naming the file."""
    try:
        with path.open("rb") as file:
            secret = file.read(_KEY_FILE_BYTES_MAX + 1)
    except FileNotFoundError as error:
        raise NotFound(what="key file", name=path) from error
    except OSError as error:
        raise BadInput(what=f"cannot read key file {path}: {(error.strerror or 'error').lower()}") from error
    if not secret or len(secret) > _KEY_FILE_BYTES_MAX:
        raise BadInput(what=f"key file {path} is empty or longer than {_KEY_FILE_BYTES_MAX} bytes")
    return KeyMaterial(secret)


def open_storage(
    args: argparse.Namespace, *, writable: bool = False, cache_bytes: int | None = None
) -> "Storage":
    """Open DIR with the key that was given; `cache_bytes` if more blocks than usual are worth keeping."""
    from vdrd.store import Storage
    from vdrd.store.reader import CACHE_BYTES

    path = key_file_path(args)
    key = read_key_file(path) if path else None
    return Storage.open(args.directory, key=key, writable=writable, cache_bytes=cache_bytes or CACHE_BYTES)


def point_document(point: Point) -> dict[str, Any]:
    """A point as `--json` prints it."""
    draft = point.draft
    return {
        "id": point.point_id,
        "object": draft.object_name,
        "kind": draft.kind.value,
        "type": draft.backup_type.value,
        "time": point.time.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "logical_bytes": draft.logical_bytes,
        "new_bytes": draft.new_bytes,
        "stored_bytes": draft.stored_bytes,
        "parent": draft.parent_id,
        "source": draft.source,
        "host": draft.host,
        "warning_count": draft.warning_count,
    }
