"""What every `vdr store` command shares: finding the storage and its key, and showing points."""

import argparse
import getpass
import os
import re
import sys
from collections.abc import Callable
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from vdrd.model.errors import BadInput, KeyMissing, NotFound
from vdrd.model.points import Point
from vdrd.model.storage import KeyMaterial

if TYPE_CHECKING:
    from vdrd.store import Storage

KEY_FILE_VARIABLE = "VDR_KEY_FILE"
PASSPHRASE_FILE_VARIABLE = "VDR_PASSPHRASE_FILE"
_KEY_FILE_BYTES_MAX = 1 << 20
_PASSPHRASE_BYTES_MAX = 4096

Answer = TypeVar("Answer")

ID_DIGITS = 16
"""Of a point's id in tables: enough to name it."""


def path_argument(text: str) -> Path:
    """For argparse: a path. An empty one (a variable nobody set) would mean the current directory."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty")
    return Path(text)


_SIZE = re.compile(r"(\d+) ?([KMGTP]?)(?:i?B)?", re.IGNORECASE)


def size_argument(text: str) -> int:
    """For argparse: bytes from `512`, `64MiB`, `20G`; units are powers of 1024."""
    found = _SIZE.fullmatch(text.strip())
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size such as 20GiB")
    return int(found.group(1)) << 10 * " KMGTP".index(found.group(2).upper() or " ")


def selection_argument(text: str) -> str:
    """For argparse: a path within a point. An empty one would mean everything: a trap for scripts."""
    if not text:
        raise argparse.ArgumentTypeError("a path must not be empty; leave the option out for everything")
    return text


def add_storage_arguments(parser: argparse.ArgumentParser, *, json: bool = True) -> None:
    """DIR, the options for its key and, where the command has an answer, --json."""
    parser.add_argument("directory", metavar="DIR", type=path_argument, help="directory of the storage")
    add_key_arguments(parser, "key of an encrypted storage")
    if json:
        parser.add_argument("--json", action="store_true", help="print one JSON document")


def add_key_arguments(parser: argparse.ArgumentParser, text: str) -> None:
    """--key-file and --passphrase-file, one of them at most."""
    key = parser.add_mutually_exclusive_group()
    key.add_argument("--key-file", metavar="F", type=Path, help=f"{text} (or {KEY_FILE_VARIABLE})")
    key.add_argument(
        "--passphrase-file",
        metavar="F",
        type=Path,
        help=f"file with its passphrase or recovery key; - for stdin (or {PASSPHRASE_FILE_VARIABLE})",
    )


def _given(args: argparse.Namespace) -> tuple[Path | None, Path | None]:
    """Key file and passphrase file: of the command line, else of the environment."""
    if args.key_file is not None or args.passphrase_file is not None:
        return args.key_file, args.passphrase_file
    key_file, passphrase_file = os.environ.get(KEY_FILE_VARIABLE), os.environ.get(PASSPHRASE_FILE_VARIABLE)
    if key_file and passphrase_file:
        raise BadInput(what=f"{KEY_FILE_VARIABLE} and {PASSPHRASE_FILE_VARIABLE} are both set: set one only")
    return Path(key_file) if key_file else None, Path(passphrase_file) if passphrase_file else None


def key_file_path(args: argparse.Namespace) -> Path | None:
    """The key file that was given, on the command line or by the environment."""
    return _given(args)[0]


def storage_key(args: argparse.Namespace) -> KeyMaterial | None:
    """The key that was given, None if none was. Raises NotFound or BadInput naming the file."""
    key_file, passphrase_file = _given(args)
    if key_file is not None:
        return read_key_file(key_file)
    return None if passphrase_file is None else read_passphrase_file(passphrase_file)


def with_prompt(args: argparse.Namespace, use: Callable[[KeyMaterial | None], Answer]) -> Answer:
    """What `use` returns for the key that was given.

    If none was and one is needed, a person at the terminal is asked for a passphrase or recovery key.
    """
    key = storage_key(args)
    try:
        return use(key)
    except KeyMissing:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise
    text = getpass.getpass(f"passphrase or recovery key of {args.directory}: ", sys.stderr)
    return use(_passphrase(text.encode(errors="surrogateescape")))


def read_key_file(path: Path) -> KeyMaterial:
    """Raises NotFound or BadInput naming the file."""
    return KeyMaterial(_read_secret(path, "key file", _KEY_FILE_BYTES_MAX))


def read_passphrase_file(path: Path) -> KeyMaterial:
    """The passphrase or recovery key in a file; `-` is stdin. Raises NotFound or BadInput naming the file."""
    if str(path) == "-":
        secret = sys.stdin.buffer.read(_PASSPHRASE_BYTES_MAX + 1)
        if not secret.strip() or len(secret) > _PASSPHRASE_BYTES_MAX:
            raise BadInput(what=f"stdin has no passphrase, or one longer than {_PASSPHRASE_BYTES_MAX} bytes")
    else:
        secret = _read_secret(path, "passphrase file", _PASSPHRASE_BYTES_MAX)
    return _passphrase(secret)


def _passphrase(secret: bytes) -> KeyMaterial:
    """Raises BadInput for a recovery key with a slip in it: no slot could tell that."""
    from vdrd.formats import recovery

    text = secret.decode(errors="replace")
    if recovery.is_like(text):
        recovery.decode(text)
    return KeyMaterial(secret, is_passphrase=True)


def _read_secret(path: Path, what: str, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            secret = file.read(bytes_max + 1)
    except FileNotFoundError as error:
        raise NotFound(what=what, name=path) from error
    except OSError as error:
        raise BadInput(what=f"cannot read {what} {path}: {(error.strerror or 'error').lower()}") from error
    if not secret or len(secret) > bytes_max:
        raise BadInput(what=f"{what} {path} is empty or longer than {bytes_max} bytes")
    return secret


def open_storage(
    args: argparse.Namespace, *, writable: bool = False, cache_bytes: int | None = None
) -> "Storage":
    """Open DIR with the key that was given; `cache_bytes` if more blocks than usual are worth keeping."""
    from vdrd.store import Storage
    from vdrd.store.reader import CACHE_BYTES

    return with_prompt(
        args,
        lambda key: Storage.open(
            args.directory, key=key, writable=writable, cache_bytes=cache_bytes or CACHE_BYTES
        ),
    )


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
        "domain": draft.domain,
    }
