"""A write session: the chunks of one backup on their way into a storage, ended by a commit or an abort."""

import threading
from array import array
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from native.chunk import Decoder, sealed_bytes
from native.err import NativeError
from vdrd.model.chunks import CHUNK_ID_BYTES, ChunkKeys, EncodedBatch
from vdrd.model.errors import BadInput, Damaged, StorageUnwritable, VdrError
from vdrd.model.points import OBJECT_NAME_CHARACTERS_MAX, Point, PointDraft
from vdrd.store.walk import fetch_each

if TYPE_CHECKING:
    from vdrd.store.storage import Storage

_READ_BACK_CHUNKS = 64


class WriteSession:
    """A ChunkSink. Thread-safe. Many may be open at once; none sees what another has claimed and not yet put.

    A chunk that another open session claimed counts as lacking here: both may send it, and the second copy
    is dropped when it arrives. So the end of one session never leaves the point of another without a chunk.
    """

    def __init__(
        self,
        storage: "Storage",
        *,
        domain: int,
        check: bool,
        proves: bool,
        on_end: Callable[["WriteSession"], None],
    ) -> None:
        self._storage = storage
        self._domain = domain
        self._keys = storage.keyring.domain(domain)
        self._check = check
        self._proves_below = storage.index.native.pack_count if proves else 0
        """Packs with lower numbers were there before this session."""
        self._on_end = on_end
        self._lock = threading.Lock()
        self._claimed: set[bytes] = set()
        self._failure: VdrError | None = None
        self._failures_before = storage.pool.failure_count
        self._is_open = True
        self._decoders = threading.local()
        self.put_chunks = 0
        self.put_bytes = 0

    @property
    def keys(self) -> ChunkKeys:
        """Keys to name chunks with."""
        return self._keys.chunk_keys

    @property
    def compression_level(self) -> int | None:
        """zstd level to encode with, None for raw."""
        return self._storage.info.compression_level

    def claim(self, ids: bytes) -> bytes:
        """See ChunkSink."""
        self._check_usable()
        if len(ids) % CHUNK_ID_BYTES:
            raise ValueError("whole chunk ids are needed")
        if self._proves_below:
            self._read_back(ids)
        lacking = self._storage.index.native.claim(ids, self._domain)
        with self._lock:
            i = lacking.find(1)
            while i >= 0:
                chunk_id = bytes(ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)])
                if chunk_id in self._claimed:
                    lacking[i] = 0
                else:
                    self._claimed.add(chunk_id)
                i = lacking.find(1, i + 1)
        return bytes(lacking)

    def _read_back(self, ids: bytes) -> None:
        """Read what older packs hold of these chunks: the index then knows those that do not hold."""
        places = array("I")
        places.frombytes(self._storage.index.native.find(ids))
        old = [
            bytes(ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)])
            for i, pack in enumerate(places[0::4])
            if pack < self._proves_below
        ]
        reader = self._storage.reader_of(self._domain)
        for at in range(0, len(old), _READ_BACK_CHUNKS):
            fetch_each(reader, old[at : at + _READ_BACK_CHUNKS], lambda *_: None)

    def put(self, batch: EncodedBatch) -> None:
        """See ChunkSink. A chunk that was not claimed is stored all the same."""
        self._check_usable()
        if self._check:
            self._check_batch(batch)
        try:
            self._storage.pool.check(self._failures_before)
            # What is damaged is named by points that may be read this moment.
            is_read_at_once = bool(self._storage.index.native.damages())
            self._storage.pool.put(batch, self._domain, is_read_at_once=is_read_at_once)
            if self._storage.index.wants_flush:
                self._storage.index.flush()
                self._storage.index.merge()
        except VdrError as error:
            self._failure = error
            raise
        with self._lock:
            self.put_chunks += batch.count
            self.put_bytes += len(batch.payload)
            for i in range(batch.count):
                self._claimed.discard(bytes(batch.ids[CHUNK_ID_BYTES * i : CHUNK_ID_BYTES * (i + 1)]))

    def _check_batch(self, batch: EncodedBatch) -> None:
        """Raise Damaged unless every chunk decodes to what its id names."""
        if not hasattr(self._decoders, "decoder"):
            self._decoders.decoder = Decoder()
        decoder: Decoder = self._decoders.decoder
        try:
            sealed_bytes(batch.table, None, self._storage.keyring.algorithm)
            bad = decoder.check(batch.ids, batch.table, batch.payload, self._keys.id_key_table)
        except (NativeError, ValueError) as error:
            raise Damaged(what="a batch of chunks", reason="its table does not fit its payload") from error
        if bad is not None:
            chunk_id = bytes(batch.ids[CHUNK_ID_BYTES * bad : CHUNK_ID_BYTES * (bad + 1)])
            raise Damaged(what=f"chunk {chunk_id.hex()}", reason="what arrived is not what its id names")

    def commit(self, draft: PointDraft) -> Point:
        """Make the point, of the session's key domain: packs durable, then the index, then the point. Returns
        when it is durable.

        Raises StorageFull or StorageUnwritable, with the storage as it was before; the session is then
        unusable.
        """
        self._check_usable()
        if len(draft.object_name) > OBJECT_NAME_CHARACTERS_MAX:
            raise BadInput(what=f"an object's name has at most {OBJECT_NAME_CHARACTERS_MAX} characters")
        with self._lock:
            if self._claimed:
                raise StorageUnwritable(
                    path=self._storage.path, reason=f"{len(self._claimed)} claimed chunks were never sent"
                )
        try:
            own = replace(draft, domain=self._domain)
            point = self._storage.commit(own, failures_before=self._failures_before)
        except VdrError as error:
            self._failure = error
            raise
        self._end()
        return point

    def abort(self) -> None:
        """End without a point. Chunks already written stay usable by a rerun. Does nothing on an ended
        session."""
        self._end()

    def _end(self) -> None:
        with self._lock:
            if not self._is_open:
                return
            self._is_open = False
        self._on_end(self)

    def _check_usable(self) -> None:
        if not self._is_open:
            raise StorageUnwritable(path=self._storage.path, reason="the session has ended")
        if self._failure is not None:
            raise self._failure

    def __enter__(self) -> "WriteSession":
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()
