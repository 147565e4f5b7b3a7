"""Saves the server's metadata every day, keeps the newest few on this machine, and sends each to a storage.

What was decided stands in the catalog's settings, the passphrase sealed by the vault.
"""

import base64
import errno
import logging
import os
import re
import sqlite3
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import msgspec
import trio

from schemas.api.metadata import MetadataFile, MetadataPlanEdit, MetadataPlanInfo
from schemas.api.schedules import DailySchedule
from schemas.control import Ack, MetadataPut
from vdrd.catalog import settings, storages
from vdrd.catalog.database import Catalog
from vdrd.catalog.times import from_ms, from_ms_or_none
from vdrd.model.errors import Conflict, NotFound, StorageFull, VdrError
from vdrd.server import metadata, schedule
from vdrd.server.clock import Clock
from vdrd.server.peers import Peers
from vdrd.server.vault import Vault

log = logging.getLogger(__name__)

PART_BYTES = 512 << 10
_LOOK_SECONDS = 60.0
_AGAIN_MS = 15 * 60_000
_NAME = re.compile(r"\d{8}T\d{6}Z-[0-9a-f-]{8}\.vdrmeta")
_PURPOSE = "metadata passphrase"


class NoPassphrase(Conflict):
    """Nothing can be saved yet."""

    code = "no-passphrase"
    template = "there is no passphrase for metadata backups"
    hint = "choose one first: vdr metadata plan --passphrase-file F"


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What was decided, and how it went."""

    passphrase: str = ""
    """Sealed, in base64; empty: none yet."""
    at: str = "03:30"
    zone: str = "UTC"
    storage_id: str | None = None
    keep: int = 14
    tried_ms: int | None = None
    saved_ms: int | None = None
    error: str = ""
    unsent: str = ""
    """Name of one that did not reach the storage: the next try replaces it, so that the older ones stay."""

    def next_ms(self, now_ms: int) -> int | None:
        """When the next one is due: the planned moment after the last, a while after one that failed."""
        if not self.passphrase:
            return None
        if self.error and self.tried_ms is not None:
            # What lies ahead of the clock was noted when that was wrong.
            return self.tried_ms + _AGAIN_MS if self.tried_ms <= now_ms else now_ms
        if self.saved_ms is None or self.saved_ms > now_ms:
            return now_ms
        daily = DailySchedule(at=self.at, zone=self.zone)
        after = from_ms(self.saved_ms)
        planned = schedule.next_firing(daily, after, after)
        return None if planned is None else int(planned.timestamp() * 1000)


def read_plan(connection: sqlite3.Connection) -> Plan:
    """The plan; its defaults before anybody decided."""
    text = settings.get(connection, settings.METADATA_PLAN)
    return Plan() if text is None else msgspec.json.decode(text, type=Plan)


def _write_plan(connection: sqlite3.Connection, /, **changes: object) -> Plan:
    plan = msgspec.structs.replace(read_plan(connection), **changes)
    settings.put(connection, settings.METADATA_PLAN, msgspec.json.encode(plan).decode())
    return plan


class MetadataKeeper:
    """The task that saves."""

    def __init__(
        self,
        catalog: Catalog,
        peers: Peers,
        vault: Vault,
        clock: Clock,
        *,
        server_id: str,
        server_state: Path,
        beside: Mapping[str, Path],
    ) -> None:
        self._catalog = catalog
        self._peers = peers
        self._vault = vault
        self._clock = clock
        self._server_id = server_id
        self._server_state = server_state
        self._beside = dict(beside)
        self._folder = server_state / "metadata"
        self._one = trio.Lock()
        self._changed = trio.Event()

    # ---- the plan ------------------------------------------------------------------------------------------

    async def plan(self) -> MetadataPlanInfo:
        """As it stands."""
        return _shown(await self._catalog.read(read_plan))

    async def edit(self, request: MetadataPlanEdit) -> MetadataPlanInfo:
        """Change what is given. Raises NotFound, BadArgument."""
        changes: dict[str, object] = {
            name: value
            for name in ("at", "zone", "storage_id", "keep")
            if (value := getattr(request, name)) is not msgspec.UNSET
        }
        if isinstance(request.zone, str):
            schedule.zone_named(request.zone)
        if isinstance(request.passphrase, str):
            sealed = self._vault.seal(_PURPOSE, request.passphrase.encode())
            changes |= {"passphrase": base64.b64encode(sealed).decode(), "error": ""}

        def work(connection: sqlite3.Connection) -> Plan:
            if isinstance(request.storage_id, str):
                storages.get(connection, request.storage_id)
            return _write_plan(connection, **changes)

        plan = await self._catalog.write(work)
        self._changed.set()
        self._changed = trio.Event()
        return _shown(plan)

    # ---- saving --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Save when it is due, for ever."""
        while True:
            changed = self._changed
            try:
                await self._save_if_due()
            except VdrError as error:
                log.warning("metadata not saved reason=%s", error.message)
            with trio.move_on_after(_LOOK_SECONDS):
                await changed.wait()

    async def _save_if_due(self) -> None:
        async with self._one:
            plan, now_ms = await self._catalog.read(read_plan), self._clock()
            next_ms = plan.next_ms(now_ms)
            if next_ms is not None and next_ms <= now_ms:
                await self._save(plan)

    async def save(self) -> MetadataFile:
        """Make one now, here and in the storage of the plan. Raises NoPassphrase, StorageFull, NotOnline and
        what else came between; what was made here stays."""
        async with self._one:
            return await self._save(await self._catalog.read(read_plan))

    async def _save(self, plan: Plan) -> MetadataFile:
        if not plan.passphrase:
            raise NoPassphrase
        now_ms, unsent = self._clock(), plan.unsent
        try:
            path, made = await trio.to_thread.run_sync(self._make_or_tell, plan, from_ms(now_ms))
            unsent = path.name
            if plan.storage_id is not None:
                await self._send(path, made.size_bytes, plan)
        except VdrError as error:
            failed = {"tried_ms": now_ms, "error": str(error), "unsent": unsent}
            await self._catalog.write(_write_plan, **failed)
            raise
        done = {"tried_ms": now_ms, "saved_ms": now_ms, "error": "", "unsent": ""}
        await self._catalog.write(_write_plan, **done)
        log.info("metadata saved name=%s bytes=%d", made.name, made.size_bytes)
        return made

    def _make_or_tell(self, plan: Plan, now: datetime) -> tuple[Path, MetadataFile]:
        """`_make`, and what became of it. Raises VdrError and nothing else."""
        try:
            path = self._make(plan, now)
            return path, _file(path)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise StorageFull(path=self._folder) from error
            reason = (error.strerror or str(error)).lower()
            raise VdrError(what=f"cannot write into {self._folder}: {reason}") from error
        except sqlite3.Error as error:
            raise VdrError(what=f"cannot copy the catalog: {error}") from error

    def _make(self, plan: Plan, now: datetime) -> Path:
        sealed = base64.b64decode(plan.passphrase)
        passphrase = self._vault.open(_PURPOSE, sealed).decode()
        path = self._folder / metadata.file_name(now, self._server_id)
        partial = path.with_name(f".{path.name}")
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            fd = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "wb") as out:
                metadata.save(
                    out,
                    passphrase,
                    server_state=self._server_state,
                    server_id=self._server_id,
                    beside=self._beside,
                    now=now,
                )
                out.flush()
                os.fsync(fd)
            partial.rename(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        if plan.unsent and plan.unsent != path.name:
            (self._folder / plan.unsent).unlink(missing_ok=True)
        # Never the one just made, which a clock that was set back sorts last.
        for old in [found for found in self._paths() if found != path][plan.keep - 1 :]:
            old.unlink(missing_ok=True)
        return path

    async def _send(self, path: Path, size_bytes: int, plan: Plan) -> None:
        assert plan.storage_id is not None
        storage = await self._catalog.read(storages.get, plan.storage_id)
        offset = 0
        while offset < size_bytes:
            try:
                data = await trio.to_thread.run_sync(_part, path, offset)
            except OSError as error:
                raise VdrError(what=f"cannot read {path}: {error.strerror}") from error
            part = MetadataPut(
                storage_id=storage.id,
                name=path.name,
                offset=offset,
                data=data,
                is_last=offset + len(data) >= size_bytes,
                keep=plan.keep,
            )
            await self._peers.ask(storage.node_id, f"the node of storage {storage.name}", part, Ack)
            offset += len(data)

    # ---- what is there -------------------------------------------------------------------------------------

    def _paths(self) -> list[Path]:
        if not self._folder.is_dir():
            return []
        found = [path for path in self._folder.iterdir() if _NAME.fullmatch(path.name)]
        return sorted(found, reverse=True)

    async def files(self) -> list[MetadataFile]:
        """What is on this machine, newest first."""
        return await trio.to_thread.run_sync(lambda: [_file(path) for path in self._paths()])

    async def read(self, name: str, offset: int) -> tuple[bytes, int]:
        """A part of a file, and the file's size. Raises NotFound."""
        path = self._folder / name
        if not _NAME.fullmatch(name) or not path.is_file():
            raise NotFound(what="metadata backup", name=name)
        return await trio.to_thread.run_sync(lambda: (_part(path, offset), path.stat().st_size))


def _part(path: Path, offset: int) -> bytes:
    with path.open("rb") as file:
        file.seek(offset)
        return file.read(PART_BYTES)


def _file(path: Path) -> MetadataFile:
    status = path.stat()
    return MetadataFile(
        name=path.name, size_bytes=status.st_size, made_at=from_ms(int(status.st_mtime * 1000))
    )


def _shown(plan: Plan) -> MetadataPlanInfo:
    return MetadataPlanInfo(
        has_passphrase=bool(plan.passphrase),
        at=plan.at,
        zone=plan.zone,
        storage_id=plan.storage_id,
        keep=plan.keep,
        last_at=from_ms_or_none(plan.saved_ms),
        last_error=plan.error,
    )
