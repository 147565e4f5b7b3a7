"""`points.bin`: the bodies of many points in one file, so that thousands need not be opened one by one."""

import hmac
import os
import struct
from dataclasses import dataclass

import msgpack

from native import blake3
from native.aead import Aead, Algorithm
from native.crc32c import crc32c
from native.err import NativeError
from vdrd.formats.binary import check_length, check_that
from vdrd.formats.point import PointKeys
from vdrd.model.errors import Damaged

VERSION = 1
MAGIC = b"VDRBOOK1"
HEADER_BYTES = 64
MAC_BYTES = 32
WHAT = "points.bin"

HEADER = struct.Struct("<8sHBBI16s12s16sI")

FileMark = tuple[int, int, int, int]
"""Of a point's file: length, mtime and ctime in nanoseconds, inode. While they stand, so does its content."""


@dataclass(frozen=True, slots=True)
class BookRow:
    """A point file whose signature held."""

    mark: FileMark
    body: bytes
    """Of the point, in clear."""


def encode_book(rows: dict[str, BookRow], storage_id: bytes, keys: PointKeys, mac_key: bytes) -> bytes:
    """The file, sealed as the points are."""
    body = msgpack.packb([[bytes.fromhex(name), *row.mark, row.body] for name, row in sorted(rows.items())])
    nonce = os.urandom(12)
    length = len(body) + keys.algorithm.tag_bytes
    head = HEADER.pack(MAGIC, VERSION, keys.algorithm, keys.epoch, length, storage_id, nonce, bytes(16), 0)[
        :-4
    ]
    if keys.algorithm is not Algorithm.NONE:
        with Aead(keys.algorithm, keys.record_key[: keys.algorithm.key_bytes]) as aead:
            body = aead.seal(nonce, body, head)
    data = head + crc32c(head).to_bytes(4, "little") + body
    return bytes(data + blake3.keyed(mac_key, data))


def book_epoch(data: bytes) -> int:
    """Key epoch of the file, before its keys are known."""
    check_that(len(data) >= HEADER_BYTES + MAC_BYTES, WHAT, "it is cut short")
    return data[11]


def decode_book(data: bytes, storage_id: bytes, keys: PointKeys, mac_key: bytes) -> dict[str, BookRow]:
    """Rows by point id. Raises Damaged."""
    head, sealed = data[:HEADER_BYTES], data[HEADER_BYTES:-MAC_BYTES]
    magic, version, encryption, epoch, length, owner, nonce, zeros, crc = HEADER.unpack(head)
    check_that(magic == MAGIC and crc == crc32c(head[:-4]), WHAT, "its header does not hold")
    check_that(version == VERSION and not any(zeros), WHAT, "it is of no known version")
    check_that(owner == storage_id, WHAT, "it belongs to another storage")
    check_that((encryption, epoch) == (keys.algorithm, keys.epoch), WHAT, "it is encrypted differently")
    check_length(WHAT, "body", sealed, length)
    mac = blake3.keyed(mac_key, data[:-MAC_BYTES])
    check_that(hmac.compare_digest(mac, data[-MAC_BYTES:]), WHAT, "its MAC does not hold")
    try:
        if keys.algorithm is not Algorithm.NONE:
            with Aead(keys.algorithm, keys.record_key[: keys.algorithm.key_bytes]) as aead:
                sealed = aead.unseal(nonce, sealed, head[:-4])
        rows = msgpack.unpackb(sealed)
        return {name.hex(): BookRow(tuple(mark), body) for name, *mark, body in rows}
    except (NativeError, ValueError, TypeError, AttributeError, msgpack.UnpackException) as error:
        raise Damaged(what=WHAT, reason="its body cannot be understood") from error
