"""Writing packs: open ones that chunks are appended to, and the background work that makes them durable.

Knows the pack format and the index; nothing of points or sessions.
"""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from native import chunk, direct
from native.aead import Aead, Algorithm
from native.index import NO_PACK, Index
from vdrd.formats import pack as pack_format
from vdrd.formats.keys import DomainKeys
from vdrd.model.chunks import EncodedBatch
from vdrd.model.errors import StorageUnwritable, VdrError
from vdrd.store.directory import StorageDirectory
from vdrd.store.keyring import Keyring

PACK_BYTES = 32 << 20
"""A pack is closed when it has grown to this: large enough for few files, small enough to rewrite when half
dead."""

STAGE_BYTES = 8 << 20
"""Memory for what is not written yet; a batch that is longer gets more."""
_WRITE_BYTES = 1 << 20
"""Written at once: a disk is nearly as fast with this as with more."""
_INVERT = bytes([1, 0]) + bytes(254)
_SEALING_MAX = 4
"""Packs waiting to be synced; more would only be dirty memory."""


def pack_name(pack_id: bytes) -> str:
    """Path of a pack below the storage."""
    text = pack_id.hex()
    return f"packs/{text[:2]}/{text}.pack"


def partial_name(pack_id: bytes) -> str:
    """Where it is while being written."""
    return f"tmp/{pack_id.hex()}.pack"


class OpenPack:
    """A pack being written. One thread at a time.

    Records are sealed into `stage`, memory of the pool's that goes to the file in large direct writes: what
    was put last is not in the file yet. Nothing is written twice.
    """

    def __init__(
        self, directory: StorageDirectory, index: Index, keyring: Keyring, keys: DomainKeys, stage: memoryview
    ) -> None:
        self._directory = directory
        self._index = index
        self.keys = keys
        self.pack_id = os.urandom(16)
        self.number = NO_PACK
        self._name = partial_name(self.pack_id)
        self._algorithm = keyring.algorithm
        self._header = pack_format.PackHeader(
            self._algorithm, keys.epoch, keys.domain, keyring.storage_id, self.pack_id, int(time.time())
        ).encode()
        self._rows = bytearray()
        self._aead = (
            None
            if self._algorithm is Algorithm.NONE
            else Aead(self._algorithm, keys.pack_key(self.pack_id, self._algorithm))
        )
        self._fd = directory.create(self._name)
        try:
            self._is_direct = direct.begin(self._fd)
        except BaseException:
            os.close(self._fd)
            raise
        self.stage = stage
        self.stage[: len(self._header)] = self._header
        self._staged = self.bytes = len(self._header)
        self.number = index.pack_add(self.pack_id, keys.domain, keys.epoch)

    @property
    def count(self) -> int:
        """Chunks in it."""
        return len(self._rows) // pack_format.ROW_BYTES

    @property
    def file_bytes(self) -> int:
        """Length once closed."""
        return self.bytes + len(self._rows) + pack_format.TRAILER_BYTES

    def append(self, batch: EncodedBatch, skip: bytearray, *, is_read_at_once: bool) -> int:
        """Seal the chunks not skipped; returns the bytes added. `is_read_at_once`: readers may already know
        these chunks, so they are in the file on return.

        After a failed write the pack is to be closed: what is staged still belongs to it and is tried once
        more then, and if that fails too all of it is lost. Sealing anything else at those offsets could use
        a nonce twice.
        """
        needed = chunk.sealed_bytes(batch.table, skip, self._algorithm)
        if len(self.stage) - self._staged < needed:
            larger = direct.aligned_buffer(direct.whole_bytes(self._staged + needed) + STAGE_BYTES)
            larger[: self._staged] = self.stage[: self._staged]
            self.stage = larger
        written, places = chunk.seal(
            self._aead,
            batch.ids,
            batch.table,
            batch.payload,
            skip=skip,
            pack=self.number,
            pack_offset=self.bytes,
            out=self.stage[self._staged :],
        )
        self._rows += chunk.rows(batch.ids, batch.table, places)
        self.bytes += written
        self._staged += written
        if is_read_at_once:
            self._end_direct()
        if self._staged >= _WRITE_BYTES or is_read_at_once:
            self._write_staged()
        self._index.insert(batch.ids, places)
        return written

    def _write_staged(self) -> None:
        """Write the stage, of which a direct write can take whole sectors only."""
        whole = direct.whole_bytes(self._staged) if self._is_direct else self._staged
        at = self.bytes - self._staged
        try:
            self._directory.write(self._fd, self.stage[:whole], at, self._name)
        except StorageUnwritable as error:
            if not (self._is_direct and direct.is_refusal(error.__cause__)):
                raise
            self._end_direct()
            self._directory.write(self._fd, self.stage[:whole], at, self._name)
        self.stage[: self._staged - whole] = self.stage[whole : self._staged]
        self._staged -= whole

    def _end_direct(self) -> None:
        if self._is_direct:
            self._is_direct = False
            direct.end(self._fd)

    def close(self) -> None:
        """Write what is staged, table and trailer, make the file durable and give it its name (the directory
        is not synced)."""
        try:
            table = bytes(self._rows)
            key = self.keys.table_key(self.pack_id)
            trailer = pack_format.encode_trailer(self._header, table, self.bytes, key)
            self._write_staged()
            self._end_direct()
            rest = bytes(self.stage[: self._staged]) + table + trailer
            self._directory.write(self._fd, rest, self.bytes - self._staged, self._name)
            self._directory.sync(self._fd, self._name)
            # Nobody reads a new pack soon: its pages serve the next one, and what the host had cached stays.
            os.posix_fadvise(self._fd, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            self.abandon()
        self._directory.rename(self._name, pack_name(self.pack_id))

    def abandon(self) -> None:
        """Close the descriptor; the file stays in `tmp` for recovery."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._aead is not None:
            self._aead.close()


class SealedPack:
    """A pack that is durable under its own name and that no index segment names yet."""

    def __init__(self, pack: OpenPack) -> None:
        self.number = pack.number
        self.pack_id = pack.pack_id
        self.domain = pack.keys.domain
        self.epoch = pack.keys.epoch
        self.chunk_count = pack.count
        self.file_bytes = pack.file_bytes


class PackPool:
    """The open packs of a storage: each put takes one for itself, so that several threads seal side by
    side."""

    def __init__(
        self,
        directory: StorageDirectory,
        index: Index,
        keyring: Keyring,
        on_sealed: Callable[[SealedPack], None],
    ) -> None:
        self._directory = directory
        self._index = index
        self._keyring = keyring
        self._on_sealed = on_sealed
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._idle: list[OpenPack] = []
        self._busy: set[OpenPack] = set()
        self._closing: set[OpenPack] = set()  # busy ones that a flush waits for
        self._released = threading.Condition(self._lock)
        self._sealing: set[Future[None]] = set()
        self._sealer = ThreadPoolExecutor(1, thread_name_prefix="vdr-seal")
        self._slots = threading.BoundedSemaphore(_SEALING_MAX)
        self._unsynced: set[str] = set()
        self.failure_count = 0
        self._last_failure: BaseException | None = None
        self._stages: list[memoryview] = []
        self._own: set[int] = set()
        self._unfinished: set[int] = set()

    def put(
        self, batch: EncodedBatch, domain: int, *, again: bool = False, is_read_at_once: bool = False
    ) -> int:
        """Store what the index lacks of a batch (all of it with `again`); returns the bytes added.
        `is_read_at_once`: readers may know these chunks already.

        Durable after the next flush. Raises StorageFull or StorageUnwritable.
        """
        skip = bytearray(batch.count) if again else self._index.claim(batch.ids, domain).translate(_INVERT)
        if all(skip):
            return 0
        pack = self._take(domain)
        try:
            written = pack.append(batch, skip, is_read_at_once=again or is_read_at_once)
        except BaseException:
            self._give(pack, spoiled=True)
            raise
        self._give(pack, spoiled=False)
        return written

    def _take(self, domain: int) -> OpenPack:
        with self._lock:
            for i, pack in enumerate(self._idle):
                if pack.keys.domain == domain and pack.keys.epoch == self._keyring.epoch:
                    self._busy.add(pack)
                    return self._idle.pop(i)
            stage = self._stages.pop() if self._stages else direct.aligned_buffer(STAGE_BYTES)
        pack = OpenPack(self._directory, self._index, self._keyring, self._keyring.domain(domain), stage)
        with self._lock:
            self._busy.add(pack)
            self._own.add(pack.number)
            self._unfinished.add(pack.number)
        return pack

    def _give(self, pack: OpenPack, *, spoiled: bool) -> None:
        with self._lock:
            if not (spoiled or pack.bytes >= PACK_BYTES or pack in self._closing):
                # In one step: a pack that can be taken again must not seem to be free to a flush afterwards.
                self._busy.discard(pack)
                self._idle.append(pack)
                self._released.notify_all()
                return
        try:
            self._seal(pack)
        finally:
            with self._lock:
                self._closing.discard(pack)
                self._busy.discard(pack)
                self._released.notify_all()

    def _seal(self, pack: OpenPack) -> None:
        self._slots.acquire()
        future = self._sealer.submit(self._seal_now, pack)
        with self._lock:
            self._sealing.add(future)
        future.add_done_callback(self._sealing_done)

    def _sealing_done(self, future: Future[None]) -> None:
        self._slots.release()
        with self._lock:
            self._sealing.discard(future)

    def _seal_now(self, pack: OpenPack) -> None:
        try:
            if pack.count == 0:
                pack.abandon()
                self._directory.remove(partial_name(pack.pack_id))
                return
            pack.close()
            with self._lock:
                self._unsynced.add(f"packs/{pack.pack_id.hex()[:2]}")
            self._on_sealed(SealedPack(pack))
        except BaseException as error:
            self._lose(pack, error)
        finally:
            with self._lock:
                self._unfinished.discard(pack.number)
                self._stages.append(pack.stage)

    def _lose(self, pack: OpenPack, error: BaseException) -> None:
        """A pack could not be made durable: its chunks count as missing from now on, and whoever may have
        relied on them fails at its next `check`."""
        self._index.pack_retire(pack.number)
        with self._lock:
            self.failure_count += 1
            self._last_failure = error
        pack.abandon()
        with suppress(VdrError):  # a full disk needs the space
            self._directory.remove(partial_name(pack.pack_id))

    def flush(self, *, since: int) -> None:
        """Return when every chunk put before is durable.

        Raises what lost a pack after `failure_count` was `since`, or what prevents this flush.
        """
        with self._flushing:
            with self._lock:
                packs, self._idle = self._idle, []
                busy = set(self._busy)
                self._closing |= busy
                self._released.wait_for(lambda: not busy & self._busy)
            for pack in packs:
                self._seal(pack)
            while True:
                with self._lock:
                    waiting = list(self._sealing)
                if not waiting:
                    break
                for future in waiting:
                    future.result()
            self.check(since)
            with self._lock:
                unsynced, self._unsynced = self._unsynced, set()
            try:
                for name in sorted(unsynced):
                    self._directory.sync_directory(name)
            except BaseException:
                with self._lock:
                    self._unsynced |= unsynced
                raise

    def settle(self, number: int) -> bool:
        """See to it that what was put into a pack is in its file; False if it is none of this pool's."""
        with self._lock:
            is_open, is_own = number in self._unfinished, number in self._own
        if is_open:
            with suppress(VdrError):  # whoever put it hears of that
                self.flush(since=self.failure_count)
        return is_own

    def check(self, since: int) -> None:
        """Raise what lost a pack since `failure_count` was `since`, if anything did."""
        if self.failure_count > since and self._last_failure is not None:
            raise self._last_failure

    def close(self) -> None:
        """Seal what is open, as far as possible, and end the background thread."""
        with suppress(Exception):
            self.flush(since=self.failure_count)
        self._sealer.shutdown()
        for pack in self._idle:
            pack.abandon()
