"""`vdr store init`: make a storage."""

import argparse
import os
import sys
from pathlib import Path

from vdrd.cli.storage_access import (
    KEY_FILE_VARIABLE,
    add_key_arguments,
    key_file_path,
    path_argument,
    storage_key,
)
from vdrd.model.errors import BadInput, ExitCode
from vdrd.model.storage import COMPRESSION_LEVELS, DEFAULT_COMPRESSION, Encryption

NAME = "init"
HELP = "make a storage in a directory that is missing or empty"
_KEY_BYTES = 32


def _compression(text: str) -> int | None:
    if text == "none":
        return None
    if text.isdecimal() and int(text) in COMPRESSION_LEVELS:
        return int(text)
    raise argparse.ArgumentTypeError(f"must be 1 to {max(COMPRESSION_LEVELS)} or none, not {text}")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """See docs/cli.md."""
    parser.add_argument("directory", metavar="DIR", type=path_argument, help="where to make it")
    parser.add_argument(
        "--encryption",
        choices=[choice.value for choice in Encryption],
        help="default: aes-256-gcm with a key, else none",
    )
    add_key_arguments(parser, "key to encrypt with; made if it does not exist")
    parser.add_argument(
        "--compression",
        metavar=f"1..{max(COMPRESSION_LEVELS)}|none",
        type=_compression,
        default=DEFAULT_COMPRESSION,
        help=f"higher is smaller and slower, default {DEFAULT_COMPRESSION}",
    )


def run(args: argparse.Namespace) -> int:
    """Make the storage, and the key file if it is missing."""
    from vdrd.store import Storage

    path = None if args.encryption == Encryption.NONE else key_file_path(args)
    made_key = _make_key_file(path) if path is not None else False
    key = None if args.encryption == Encryption.NONE else storage_key(args)
    default = Encryption.NONE if key is None else Encryption.AES_256_GCM
    encryption = Encryption(args.encryption) if args.encryption else default
    if encryption is not Encryption.NONE and key is None:
        raise BadInput(
            what=f"{encryption.value} needs a key: give --key-file or {KEY_FILE_VARIABLE}, or a passphrase"
        )
    try:
        Storage.create(args.directory, encryption=encryption, compression=args.compression, key=key)
    except BaseException:
        if made_key and path is not None:
            path.unlink()
        raise
    if made_key:
        print(
            f"made key file {path}: without it the storage cannot be read; keep a copy elsewhere",
            file=sys.stderr,
        )
    print(f"made storage {args.directory}, encryption {encryption.value}")
    return ExitCode.DONE


def _make_key_file(path: Path) -> bool:
    """True if it was missing and is made now."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        return False
    except OSError as error:
        raise BadInput(what=f"cannot make key file {path}: {(error.strerror or 'error').lower()}") from error
    with os.fdopen(fd, "w") as file:
        file.write(os.urandom(_KEY_BYTES).hex() + "\n")
        file.flush()
        os.fsync(file.fileno())
    return True
