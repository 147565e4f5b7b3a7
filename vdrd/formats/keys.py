"""Every key of a storage, derived from its root keys. The slots that hold those are `slots.py`.

The table of contexts in `docs/formats/store.md` is the specification. Nothing here touches a file.
"""

import os
from dataclasses import dataclass, field

from native import blake3
from native.aead import Algorithm
from native.chunk import KEY_TABLE_BYTES
from vdrd.model.chunks import ChunkKeys, ChunkKind
from vdrd.model.storage import Encryption

KEY_BYTES = 32
EPOCHS_MAX = 256

CONTEXT_DOMAIN = "vdr 2026 domain"
CONTEXT_CHUNK_ID = "vdr 2026 chunk id"
CONTEXT_CUT = "vdr 2026 cut"
CONTEXT_PACK = "vdr 2026 pack"
CONTEXT_PACK_KEY = "vdr 2026 pack key"
CONTEXT_PACK_TABLE = "vdr 2026 pack table"
CONTEXT_RECORD = "vdr 2026 record"
CONTEXT_SIGN = "vdr 2026 sign"
CONTEXT_OVERLAY = "vdr 2026 overlay"

ALGORITHMS = {
    Encryption.NONE: Algorithm.NONE,
    Encryption.AES_256_GCM: Algorithm.AES_256_GCM,
    Encryption.SM4_GCM: Algorithm.SM4_GCM,
}


@dataclass(frozen=True, slots=True)
class DomainKeys:
    """Keys of one key domain: ids and cuts never change, packs are sealed under the newest epoch."""

    domain: int
    epoch: int
    chunk_keys: ChunkKeys = field(repr=False)
    pack_root: bytes = field(repr=False)

    @property
    def id_key_table(self) -> bytes:
        """Id keys by kind as native code takes them."""
        table = bytearray(KEY_TABLE_BYTES)
        for kind, key in self.chunk_keys.id_keys.items():
            table[32 * kind : 32 * kind + 32] = key
        return bytes(table)

    def pack_key(self, pack_id: bytes, algorithm: Algorithm) -> bytes:
        """Key that encrypts the chunks of a pack."""
        return blake3.derive(CONTEXT_PACK_KEY, self.pack_root + pack_id)[: algorithm.key_bytes]

    def table_key(self, pack_id: bytes) -> bytes:
        """Key of the MAC over a pack's table."""
        return blake3.derive(CONTEXT_PACK_TABLE, self.pack_root + pack_id)


@dataclass(frozen=True, slots=True)
class RootKeys:
    """The root keys of a storage, one for each epoch, oldest first. A rotation appends one."""

    epochs: tuple[bytes, ...] = field(repr=False)

    @classmethod
    def generate(cls) -> "RootKeys":
        """Fresh ones for a new storage."""
        return cls((os.urandom(KEY_BYTES),))

    def rotated(self) -> "RootKeys":
        """These and a fresh one, which is the newest."""
        return RootKeys((*self.epochs, os.urandom(KEY_BYTES)))

    def first(self, count: int) -> "RootKeys":
        """The oldest `count` of them."""
        return RootKeys(self.epochs[:count])

    def domain(self, domain: int, epoch: int | None = None) -> DomainKeys:
        """Keys of a domain. Ids come from the first epoch: a rotation does not store everything again."""
        number = len(self.epochs) - 1 if epoch is None else epoch
        identity, sealing = self._domain_key(domain, 0), self._domain_key(domain, number)
        id_keys = {kind: blake3.derive(CONTEXT_CHUNK_ID, identity + bytes([kind])) for kind in ChunkKind}
        chunk_keys = ChunkKeys(id_keys, blake3.derive(CONTEXT_CUT, identity))
        return DomainKeys(domain, number, chunk_keys, blake3.derive(CONTEXT_PACK, sealing))

    def _domain_key(self, domain: int, epoch: int) -> bytes:
        return blake3.derive(CONTEXT_DOMAIN, self.epochs[epoch] + domain.to_bytes(4, "little"))

    def record_key(self, epoch: int = 0) -> bytes:
        """Key of MACs over small files, and of point bodies."""
        return blake3.derive(CONTEXT_RECORD, self.epochs[epoch])

    def signing_seed(self, epoch: int = 0) -> bytes:
        """Seed of the Ed25519 key that signs points."""
        return blake3.derive(CONTEXT_SIGN, self.epochs[epoch])

    def overlay_key(self, overlay_id: bytes, epoch: int) -> bytes:
        """Key of one overlay: 64 bytes for AES-256-XTS."""
        return blake3.derive(CONTEXT_OVERLAY, self.epochs[epoch] + overlay_id, 64)
