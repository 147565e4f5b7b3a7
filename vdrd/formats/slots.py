"""Key slots: the root keys of a storage, wrapped once for each secret that opens it. Bytes to value and back.

`docs/formats/store.md` is the specification. Nothing here touches a file.
"""

import hashlib
import hmac
import json
import os
import re
import unicodedata
from dataclasses import dataclass, field
from datetime import UTC, datetime

from native.aead import NONCE_BYTES, TAG_BYTES, Aead, Algorithm
from native.err import NativeError
from vdrd.formats import recovery
from vdrd.formats.keys import EPOCHS_MAX, KEY_BYTES, RootKeys
from vdrd.formats.point import public_key_of
from vdrd.model.errors import BadInput, Damaged
from vdrd.model.storage import KeyMaterial, SlotKind

SLOT_FORMAT = 1
SLOT_BYTES_MAX = 65536
SECRET_BYTES_MIN = 8
SALT_BYTES = 16

_SCRYPT_N, _SCRYPT_R, _SCRYPT_P = 1 << 15, 8, 1
_SCRYPT_MEMORY_BYTES = 64 << 20
_HEX_KEY = re.compile(rb"[0-9a-fA-F]{64}")


@dataclass(frozen=True, slots=True)
class Slot:
    """One slot file. All but `sealed` may be read without a secret, and is vouched for once one opens it."""

    kind: SlotKind
    created: datetime
    epoch_count: int
    """How many root keys it holds."""
    newest: bytes
    """Public signing key of the last of them: which rotation it has seen."""
    salt: bytes = b""
    nonce: bytes = b""
    sealed: bytes = field(default=b"", repr=False)
    """The root keys back to back, wrapped; in clear for kind `clear`."""


def wrap(roots: RootKeys, storage_id: bytes, material: KeyMaterial | None, slot: Slot) -> Slot:
    """`slot` with these root keys in it, under `material`; in clear for None. Raises BadInput for a secret
    that is too short."""
    plain = b"".join(roots.epochs)
    made = Slot(
        kind=slot.kind,
        created=slot.created,
        epoch_count=len(roots.epochs),
        newest=public_key_of(roots.signing_seed(len(roots.epochs) - 1)),
        salt=b"" if material is None else os.urandom(SALT_BYTES),
        nonce=b"" if material is None else os.urandom(NONCE_BYTES),
    )
    if material is not None:
        key = _wrapping_key(made.kind, material, made.salt)
        with Aead(Algorithm.AES_256_GCM, key) as aead:
            plain = aead.seal(made.nonce, plain, _bound(made, storage_id))
    return Slot(made.kind, made.created, made.epoch_count, made.newest, made.salt, made.nonce, plain)


def new_slot(
    roots: RootKeys,
    storage_id: bytes,
    material: KeyMaterial | None,
    *,
    created: datetime,
    kind: SlotKind | None = None,
) -> Slot:
    """A slot for `material`. Its kind follows from it, but for a recovery key, which is a passphrase too."""
    if kind is None:
        kind = SlotKind.CLEAR
        if material is not None:
            kind = SlotKind.PASSPHRASE if material.is_passphrase else SlotKind.KEY_FILE
    return wrap(
        roots, storage_id, material, Slot(kind, created.astimezone(UTC).replace(microsecond=0), 0, b"")
    )


def unwrap(slot: Slot, storage_id: bytes, material: KeyMaterial | None, name: str) -> RootKeys | None:
    """Root keys of a slot; None when this material does not open it."""
    what = f"key slot {name}"
    if slot.kind is SlotKind.CLEAR:
        return _split(slot.sealed, slot, what)
    if material is None:
        return None
    try:
        key = _wrapping_key(slot.kind, material, slot.salt)
        with Aead(Algorithm.AES_256_GCM, key) as aead:
            return _split(aead.unseal(slot.nonce, slot.sealed, _bound(slot, storage_id)), slot, what)
    except (BadInput, NativeError):
        return None


def _split(plain: bytes, slot: Slot, what: str) -> RootKeys:
    if len(plain) != slot.epoch_count * KEY_BYTES:
        raise Damaged(what=what, reason="it does not hold whole keys")
    roots = RootKeys(tuple(plain[i : i + KEY_BYTES] for i in range(0, len(plain), KEY_BYTES)))
    if public_key_of(roots.signing_seed(slot.epoch_count - 1)) != slot.newest:
        raise Damaged(what=what, reason="it names another key than it holds")
    return roots


def _text(slot: Slot) -> dict[str, object]:
    text: dict[str, object] = {
        "format": SLOT_FORMAT,
        "kind": slot.kind.value,
        "created": slot.created.isoformat(timespec="seconds"),
        "epochs": slot.epoch_count,
        "newest": slot.newest.hex(),
    }
    if slot.kind is not SlotKind.CLEAR:
        text |= {"salt": slot.salt.hex(), "nonce": slot.nonce.hex()}
    return text


def _bound(slot: Slot, storage_id: bytes) -> bytes:
    """What the wrapping authenticates besides the keys."""
    return storage_id + json.dumps(_text(slot), sort_keys=True, separators=(",", ":")).encode()


def encode_slot(slot: Slot) -> bytes:
    """The file."""
    name = "root_keys" if slot.kind is SlotKind.CLEAR else "wrapped"
    return json.dumps({**_text(slot), name: slot.sealed.hex()}, indent=2).encode() + b"\n"


def decode_slot(data: bytes, name: str) -> Slot:
    """The slot in a file. Raises Damaged when it is none, or one of a newer format."""
    what = f"key slot {name}"
    try:
        text = json.loads(data)
        if text["format"] != SLOT_FORMAT:
            raise Damaged(what=what, reason="its format is not known to this program")
        kind = SlotKind(text["kind"])
        is_clear = kind is SlotKind.CLEAR
        slot = Slot(
            kind=kind,
            created=datetime.fromisoformat(text["created"]),
            epoch_count=text["epochs"],
            newest=bytes.fromhex(text["newest"]),
            salt=b"" if is_clear else bytes.fromhex(text["salt"]),
            nonce=b"" if is_clear else bytes.fromhex(text["nonce"]),
            sealed=bytes.fromhex(text["root_keys" if is_clear else "wrapped"]),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise Damaged(what=what, reason="it cannot be understood") from error
    lengths = (len(slot.salt), len(slot.nonce), len(slot.sealed))
    count = slot.epoch_count
    is_sound = isinstance(count, int) and 0 < count <= EPOCHS_MAX and len(slot.newest) == KEY_BYTES
    want = (0, 0, 0) if is_clear else (SALT_BYTES, NONCE_BYTES, TAG_BYTES)
    if not is_sound or lengths != (*want[:2], want[2] + count * KEY_BYTES):
        raise Damaged(what=what, reason="a field is out of its range")
    return slot


# ---- secrets ----


def _wrapping_key(kind: SlotKind, material: KeyMaterial, salt: bytes) -> bytes:
    """Key that wraps a slot. Raises BadInput when the material can be none of this kind."""
    secret = material.reveal()
    if kind is SlotKind.RECOVERY:
        # Typed, or kept in a file: it is the same key.
        return hmac.digest(recovery.decode(secret.decode(errors="replace")), salt, "sha256")
    if material.is_passphrase is not (kind is SlotKind.PASSPHRASE):
        raise BadInput(what=f"this is no secret for a slot of kind {kind}")
    if not material.is_passphrase:
        raw = _raw_key(secret)
        if raw is not None:
            return hmac.digest(raw, salt, "sha256")
    words = _passphrase(secret) if material.is_passphrase else secret.strip()
    if len(words) < SECRET_BYTES_MIN:
        name = "passphrase" if material.is_passphrase else "key"
        raise BadInput(what=f"the {name} is shorter than {SECRET_BYTES_MIN} bytes")
    return hashlib.scrypt(
        words, salt=salt, n=_SCRYPT_N, r=_SCRYPT_R, p=_SCRYPT_P, maxmem=_SCRYPT_MEMORY_BYTES, dklen=KEY_BYTES
    )


def _raw_key(secret: bytes) -> bytes | None:
    """The key itself when a key file holds one: 32 bytes, or 64 hex digits."""
    if len(secret) == KEY_BYTES:
        return secret
    digits = secret.strip()
    return bytes.fromhex(digits.decode()) if _HEX_KEY.fullmatch(digits) else None


def _passphrase(secret: bytes) -> bytes:
    """A passphrase as it counts: the same on every keyboard, and with or without the line's end."""
    line = secret.rstrip(b"\r\n")
    try:
        return unicodedata.normalize("NFC", line.decode()).encode()
    except UnicodeDecodeError:
        return line
