"""Point files: a signed record for each restore point. Bytes to values and back.

A point id is the commit time (48 bits of Unix milliseconds, big-endian) and 80 random bits: names sort
by time.
"""

import os
import struct
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgpack
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from native.aead import Aead, Algorithm
from native.crc32c import crc32c
from native.err import NativeError
from vdrd.formats.binary import check_that
from vdrd.model.errors import Damaged
from vdrd.model.points import (
    DOMAIN_MAX,
    OBJECT_NAME_CHARACTERS_MAX,
    BackupType,
    DiskRoot,
    FilesRoot,
    ObjectKind,
    Point,
    PointDraft,
)

VERSION = 1
MAGIC = b"VDRPOINT"
HEADER_BYTES = 64
SIGNATURE_BYTES = 64
BODY_BYTES_MAX = 4 << 20
WARNINGS_MAX = 1000
WARNING_CHARACTERS_MAX = 1000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

HEADER = struct.Struct("<8sHBBI16s16s12sI")


@dataclass(frozen=True, slots=True)
class PointKeys:
    """What writes and reads points of one epoch."""

    algorithm: Algorithm
    epoch: int
    record_key: bytes = field(repr=False)
    signing_seed: bytes = field(repr=False)
    public_key: bytes


def public_key_of(signing_seed: bytes) -> bytes:
    """Ed25519 public key that belongs to a seed."""
    return bytes(Ed25519PrivateKey.from_private_bytes(signing_seed).public_key().public_bytes_raw())


def new_point_id(now: datetime) -> bytes:
    """16 bytes."""
    milliseconds = (now - _EPOCH) // timedelta(milliseconds=1)
    return milliseconds.to_bytes(6, "big") + os.urandom(10)


def _microseconds(time: datetime) -> int:
    return (time - _EPOCH) // timedelta(microseconds=1)


def encode_point(point: Point, storage_id: bytes, keys: PointKeys) -> bytes:
    """The file: header, body, signature."""
    body = encode_body(point)
    nonce = os.urandom(12)
    point_id = bytes.fromhex(point.point_id)
    length = len(body) + keys.algorithm.tag_bytes
    start = HEADER.pack(MAGIC, VERSION, keys.algorithm, keys.epoch, length, point_id, storage_id, nonce, 0)[
        :-4
    ]
    if keys.algorithm is not Algorithm.NONE:
        with Aead(keys.algorithm, keys.record_key[: keys.algorithm.key_bytes]) as aead:
            body = aead.seal(nonce, body, start)
    data = start + crc32c(start).to_bytes(4, "little") + body
    signature = Ed25519PrivateKey.from_private_bytes(keys.signing_seed).sign(data)
    return bytes(data + signature)


def encode_body(point: Point) -> bytes:
    """The body alone, in clear."""
    return bytes(msgpack.packb(_to_map(point), use_bin_type=True, unicode_errors="surrogateescape"))


def decode_body(name: str, body: bytes) -> Point:
    """The point of a body in clear. Raises Damaged."""
    try:
        return _from_map(name, msgpack.unpackb(body, unicode_errors="surrogateescape"))
    except (ValueError, KeyError, TypeError, msgpack.UnpackException) as error:
        raise Damaged(what=f"point {name}", reason="its body cannot be understood") from error


def point_epoch(data: bytes, name: str) -> int:
    """Key epoch of a point file, before its keys are known."""
    check_that(len(data) >= HEADER_BYTES, f"point {name}", "it is cut short")
    return data[11]


def decode_point(data: bytes, name: str, storage_id: bytes, keys: PointKeys) -> Point:
    """The point in a file named `name` (32 hex digits). Raises Damaged unless it is as it was signed."""
    what = f"point {name}"
    check_that(len(data) >= HEADER_BYTES + SIGNATURE_BYTES, what, "it is cut short")
    header = data[:HEADER_BYTES]
    magic, version, encryption, epoch, length, point_id, owner, nonce, crc = HEADER.unpack(header)
    check_that(magic == MAGIC and crc == crc32c(header[:-4]), what, "its header does not hold")
    check_that(version == VERSION, what, "it is of no known version")
    check_that(
        length == len(data) - HEADER_BYTES - SIGNATURE_BYTES <= BODY_BYTES_MAX, what, "its length is wrong"
    )
    check_that(point_id.hex() == name and owner == storage_id, what, "it belongs elsewhere")
    check_that((encryption, epoch) == (keys.algorithm, keys.epoch), what, "it is encrypted differently")
    signed, signature = data[:-SIGNATURE_BYTES], data[-SIGNATURE_BYTES:]
    try:
        Ed25519PublicKey.from_public_bytes(keys.public_key).verify(signature, signed)
    except InvalidSignature as error:
        raise Damaged(what=what, reason="its signature does not hold") from error
    body = signed[HEADER_BYTES:]
    try:
        if keys.algorithm is not Algorithm.NONE:
            with Aead(keys.algorithm, keys.record_key[: keys.algorithm.key_bytes]) as aead:
                body = aead.unseal(nonce, body, header[:-4])
    except NativeError as error:
        raise Damaged(what=what, reason="its body cannot be understood") from error
    return decode_body(name, body)


def _to_map(point: Point) -> dict[str, Any]:
    draft = point.draft
    root: dict[str, Any] = {"id": draft.root.root_id, "levels": draft.root.levels}
    if isinstance(draft.root, DiskRoot):
        root |= {"size": draft.root.size_bytes, "block": draft.root.block_bytes}
    else:
        root |= {"entries": draft.root.entry_count}
    return {
        "object": draft.object_name,
        "kind": draft.kind.value,
        "type": draft.backup_type.value,
        "root": root,
        "source": draft.source,
        "host": draft.host,
        "logical": draft.logical_bytes,
        "new": draft.new_bytes,
        "stored": draft.stored_bytes,
        "read": draft.read_bytes,
        "started": _microseconds(draft.started_at),
        "committed": _microseconds(point.time),
        "parent": None if draft.parent_id is None else bytes.fromhex(draft.parent_id),
        "warnings": [text[:WARNING_CHARACTERS_MAX] for text in draft.warnings[:WARNINGS_MAX]],
        "warning_count": draft.warning_count,
        "labels": draft.labels,
        "domain": draft.domain,
    }


def _from_map(name: str, body: dict[str, Any]) -> Point:
    kind = ObjectKind(body["kind"])
    root_map = body["root"]
    root: DiskRoot | FilesRoot
    if kind is ObjectKind.DISK:
        root = DiskRoot(root_map["id"], root_map["levels"], root_map["size"], root_map["block"])
    else:
        root = FilesRoot(root_map["id"], root_map["levels"], root_map["entries"])
    if root.root_id is not None and len(root.root_id) != 32:
        raise ValueError("root id")
    if not 0 <= body["domain"] <= DOMAIN_MAX:
        raise ValueError("domain")
    if len(body["object"]) > OBJECT_NAME_CHARACTERS_MAX:
        raise ValueError("object")
    draft = PointDraft(
        object_name=body["object"],
        kind=kind,
        backup_type=BackupType(body["type"]),
        root=root,
        source=body["source"],
        host=body["host"],
        logical_bytes=body["logical"],
        new_bytes=body["new"],
        stored_bytes=body["stored"],
        started_at=_EPOCH + timedelta(microseconds=body["started"]),
        parent_id=None if body["parent"] is None else body["parent"].hex(),
        warnings=tuple(body["warnings"]),
        warning_count=body["warning_count"],
        labels=dict(body["labels"]),
        read_bytes=body["read"],
        domain=body["domain"],
    )
    return Point(name, _EPOCH + timedelta(microseconds=body["committed"]), draft)
