"""Every key of a storage, derived from its root keys, and the slots that hold those wrapped.

The table of contexts in `docs/formats/store.md` is the specification. Nothing here touches a file.
"""

import hashlib
import hmac
import json
import os
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime

from native import blake3
from native.aead import Aead, Algorithm
from native.chunk import KEY_TABLE_BYTES
from native.err import NativeError
from vdrd.model.chunks import ChunkKeys, ChunkKind
from vdrd.model.errors import BadInput, Damaged
from vdrd.model.storage import Encryption, KeyMaterial

KEY_BYTES = 32
EPOCHS_MAX = 256
SLOT_BYTES_MAX = 65536
SECRET_BYTES_MIN = 8

CONTEXT_DOMAIN = "vdr 2026 domain"
CONTEXT_CHUNK_ID = "vdr 2026 chunk id"
CONTEXT_CUT = "vdr 2026 cut"
CONTEXT_PACK = "vdr 2026 pack"
CONTEXT_PACK_KEY = "vdr 2026 pack key"
CONTEXT_PACK_TABLE = "vdr 2026 pack table"
CONTEXT_RECORD = "vdr 2026 record"
CONTEXT_SIGN = "vdr 2026 sign"

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 15, 8, 1
_SCRYPT_MEMORY_BYTES = 64 << 20
_HEX_KEY = re.compile(rb"\s*([0-9a-fA-F]{64})\s*")

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


def _is_raw(secret: bytes) -> bytes | None:
    """The key itself when the material is one: 32 bytes, or 64 hex digits."""
    if len(secret) == KEY_BYTES:
        return secret
    match = _HEX_KEY.fullmatch(secret)
    return bytes.fromhex(match.group(1).decode()) if match else None


def _wrapping_key(material: KeyMaterial, salt: bytes) -> bytes:
    secret = material.reveal()
    raw = None if material.is_passphrase else _is_raw(secret)
    if raw is not None:
        return hmac.digest(raw, salt, "sha256")
    if len(secret) < SECRET_BYTES_MIN:
        raise BadInput(what=f"the key is shorter than {SECRET_BYTES_MIN} bytes")
    return hashlib.scrypt(
        secret, salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=_SCRYPT_MEMORY_BYTES, dklen=KEY_BYTES
    )


def encode_slot(
    roots: RootKeys, storage_id: bytes, material: KeyMaterial | None, *, created: datetime
) -> bytes:
    """A slot file: the root keys wrapped under `material`, or in clear for None (encryption none)."""
    plain = b"".join(roots.epochs)
    slot: dict[str, object] = {"format": 1, "created": created.astimezone(UTC).isoformat(timespec="seconds")}
    if material is None:
        slot |= {"kind": "clear", "root_keys": plain.hex()}
    else:
        salt, nonce = os.urandom(16), os.urandom(12)
        with Aead(Algorithm.AES_256_GCM, _wrapping_key(material, salt)) as aead:
            wrapped = aead.seal(nonce, plain, storage_id)
        kind = "passphrase" if material.is_passphrase else "key-file"
        slot |= {"kind": kind, "salt": salt.hex(), "nonce": nonce.hex(), "wrapped": wrapped.hex()}
    return json.dumps(slot, indent=2).encode() + b"\n"


def decode_slot(data: bytes, storage_id: bytes, material: KeyMaterial | None, name: str) -> RootKeys | None:
    """Root keys of a slot; None when this material does not open it. Raises Damaged when it is no slot."""
    what = f"key slot {name}"
    try:
        slot = json.loads(data)
        if slot["format"] != 1:
            return None
        if slot["kind"] == "clear":
            return _split(bytes.fromhex(slot["root_keys"]), what)
        salt, nonce = bytes.fromhex(slot["salt"]), bytes.fromhex(slot["nonce"])
        wrapped = bytes.fromhex(slot["wrapped"])
        wants_passphrase = slot["kind"] == "passphrase"
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(what=what, reason="it cannot be understood") from error
    if material is None or material.is_passphrase != wants_passphrase or len(nonce) != 12:
        return None
    try:
        with Aead(Algorithm.AES_256_GCM, _wrapping_key(material, salt)) as aead:
            return _split(aead.unseal(nonce, wrapped, storage_id), what)
    except NativeError:
        return None


def slot_is_clear(data: bytes) -> bool:
    """True for the slot of a storage without encryption."""
    try:
        return bool(json.loads(data)["kind"] == "clear")
    except (ValueError, KeyError, TypeError):
        return False


def _split(plain: bytes, what: str) -> RootKeys:
    if not plain or len(plain) % KEY_BYTES or len(plain) // KEY_BYTES > EPOCHS_MAX:
        raise Damaged(what=what, reason="it does not hold whole keys")
    return RootKeys(tuple(plain[i : i + KEY_BYTES] for i in range(0, len(plain), KEY_BYTES)))
