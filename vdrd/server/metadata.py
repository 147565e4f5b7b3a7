"""Metadata backups: all that a server knows and no storage does, in one sealed file; and a server made again
from it.

What goes in: the catalog, the authority, the server's identity and the vault's key; on an appliance also the
identities of its node and console, the node's storage keys and the settings. Blocking.
"""

import io
import json
import os
import shutil
import sqlite3
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO, cast

import zstandard

from vdrd import __version__
from vdrd.formats.metadata import MetadataDamaged, MetadataNewer, Opener, Sealer
from vdrd.model.errors import BadInput, StorageFull, TargetRefused

FORMAT = 1
SUFFIX = ".vdrmeta"
CATALOG = "server/catalog.sqlite"
_NOTE = "metadata.json"
_NOTE_BYTES_MAX = 1 << 20
_SERVER_PARTS = ("authority", "identity", "vault.key")
_MEMBERS_MAX = 10_000
_COMPRESSION = 3


def places(words: Sequence[str]) -> dict[str, Path]:
    """Directories by what they are called in a backup, from words `NAME=PATH`. Raises BadInput."""
    found = {}
    for word in words:
        name, equals, path = word.partition("=")
        parts = name.split("/")
        if not equals or not Path(path).is_absolute() or not all(parts) or {"..", "."} & set(parts):
            raise BadInput(what=f"server.metadata_beside: {word} is not NAME=PATH with an absolute path")
        found[name] = Path(path)
    return found


def file_name(now: datetime, server_id: str) -> str:
    """How a backup of that moment is called; names sort by time."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%SZ}-{server_id[:8]}{SUFFIX}"


def save(
    out: BinaryIO,
    passphrase: str,
    *,
    server_state: Path,
    server_id: str,
    beside: Mapping[str, Path],
    now: datetime,
) -> None:
    """Write a metadata backup. `beside` names further directories and what they are called in it.

    The catalog is a consistent snapshot, taken while the server goes on. The caller makes `out` durable.
    """
    snapshot = server_state / "catalog.snapshot"
    snapshot.unlink(missing_ok=True)
    try:
        _snapshot(server_state / "catalog.sqlite", snapshot)
        sealer = Sealer(out, passphrase)
        packer = zstandard.ZstdCompressor(level=_COMPRESSION).stream_writer(
            cast(IO[bytes], sealer), closefd=False
        )
        note = {
            "format": FORMAT,
            "created": now.astimezone(UTC).isoformat(timespec="seconds"),
            "server_id": server_id,
            "software": __version__,
            "places": {"server": str(server_state), **{name: str(path) for name, path in beside.items()}},
        }
        with tarfile.open(fileobj=packer, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            _add_bytes(archive, _NOTE, json.dumps(note).encode())
            _add_file(archive, CATALOG, snapshot)
            for part in _SERVER_PARTS:
                _add_tree(archive, f"server/{part}", server_state / part)
            for name, path in beside.items():
                _add_tree(archive, name, path)
        packer.flush(zstandard.FLUSH_FRAME)
        sealer.finish()
    finally:
        snapshot.unlink(missing_ok=True)


def _snapshot(catalog: Path, target: Path) -> None:
    os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(catalog)) as source, closing(sqlite3.connect(target)) as copy:
        source.backup(copy)


def _info(name: str, size_bytes: int) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size, info.mode = size_bytes, 0o600
    return info


def _add_bytes(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_info(name, len(data)), io.BytesIO(data))


def _add_file(archive: tarfile.TarFile, name: str, path: Path) -> None:
    with path.open("rb") as file:
        archive.addfile(_info(name, os.fstat(file.fileno()).st_size), file)


def _add_tree(archive: tarfile.TarFile, name: str, path: Path) -> None:
    if path.is_file():
        _add_bytes(archive, name, path.read_bytes())
    elif path.is_dir():
        for entry in sorted(path.iterdir()):
            # Files being replaced begin with a dot; they are nobody's yet.
            if not entry.name.startswith(".") and not entry.is_symlink():
                _add_tree(archive, f"{name}/{entry.name}", entry)


# ---- bringing it back --------------------------------------------------------------------------------------


def restore(path: Path, passphrase: str, state_directory: Path) -> dict[str, Any]:
    """Make the state of an appliance (or of a server: its folder `server`) from a metadata backup.

    Nothing is there until all of it is, checked and durable. Returns what the backup says of itself. Raises
    PassphraseWrong, MetadataDamaged, MetadataNewer, TargetRefused, StorageFull.
    """
    if state_directory.exists() and (not state_directory.is_dir() or any(state_directory.iterdir())):
        raise TargetRefused(path=state_directory, reason="there is something already")
    partial = state_directory.with_name(f".{state_directory.name}.restoring")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with path.open("rb") as file:
            partial.mkdir(mode=0o700, parents=True)
            note = _unpack(Opener(file, passphrase, path), partial, path)
        _settle(partial, state_directory, note, path)
        for folder, _, _ in os.walk(partial, topdown=False):
            _sync(Path(folder))
        if state_directory.exists():
            state_directory.rmdir()
        partial.rename(state_directory)
        _sync(state_directory.parent)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError) and error.errno == 28:
            raise StorageFull(path=state_directory) from error
        raise
    return note


def _unpack(opener: Opener, target: Path, path: Path) -> dict[str, Any]:
    note: dict[str, Any] | None = None
    try:
        reader = zstandard.ZstdDecompressor().stream_reader(cast(IO[bytes], opener))
        with tarfile.open(fileobj=reader, mode="r|") as archive:
            for count, member in enumerate(archive):
                if count > _MEMBERS_MAX:
                    raise MetadataDamaged(path=path, reason="it holds too many files")
                content = archive.extractfile(member) if member.isreg() else None
                if content is None:
                    raise MetadataDamaged(path=path, reason=f"{member.name!r} is no plain file")
                if note is None:
                    note = _read_note(member, content, path)
                else:
                    _write(target / _inside(member.name, path), content)
        # To the very end: only the last frame says that nothing is missing.
        while opener.read(1 << 20):
            pass
    except (tarfile.TarError, zstandard.ZstdError, EOFError) as error:
        raise MetadataDamaged(path=path, reason="what is sealed in it does not hold") from error
    if note is None or not (target / CATALOG).exists():
        raise MetadataDamaged(path=path, reason="it holds no catalog")
    return note


def _read_note(member: tarfile.TarInfo, content: IO[bytes], path: Path) -> dict[str, Any]:
    try:
        note = json.loads(content.read(_NOTE_BYTES_MAX)) if member.name == _NOTE else None
    except ValueError:
        note = None
    if not isinstance(note, dict) or not isinstance(note.get("places"), dict):
        raise MetadataDamaged(path=path, reason="it does not say what it is")
    if note.get("format", 0) > FORMAT:
        raise MetadataNewer(path=path, found=note["format"], supported=FORMAT)
    return note


def _inside(name: str, path: Path) -> PurePosixPath:
    place = PurePosixPath(name)
    if place.is_absolute() or ".." in place.parts or "\0" in name or not place.parts:
        raise MetadataDamaged(path=path, reason=f"{name!r} lies outside of it")
    return place


def _write(target: Path, content: IO[bytes]) -> None:
    for folder in reversed(target.parents):
        # One by one: parents made on the way would not get the mode.
        if not folder.exists():
            folder.mkdir(mode=0o700)
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        shutil.copyfileobj(content, file, 1 << 20)
        file.flush()
        os.fsync(fd)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _settle(partial: Path, state_directory: Path, note: dict[str, Any], path: Path) -> None:
    """Check the catalog, end its sessions, and let it name its keys where they are from now on."""
    with closing(sqlite3.connect(partial / CATALOG)) as catalog:
        try:
            (verdict,) = catalog.execute("PRAGMA integrity_check").fetchone()
            if verdict != "ok":
                raise MetadataDamaged(path=path, reason=f"its catalog does not hold: {verdict}")
            with catalog:
                catalog.execute("DELETE FROM sessions")
                for old, new in _moves(note["places"], state_directory):
                    catalog.execute(
                        "UPDATE storages SET key_file = ? || substr(key_file, ?)"
                        " WHERE substr(key_file, 1, ?) = ?",
                        [new, len(old) + 1, len(old), old],
                    )
        except sqlite3.DatabaseError as error:
            raise MetadataDamaged(path=path, reason=f"its catalog does not hold: {error}") from error


def _moves(places: Mapping[str, Any], state_directory: Path) -> Iterator[tuple[str, str]]:
    for name, old in places.items():
        yield f"{str(old).rstrip('/')}/", f"{state_directory.absolute() / name}/"
