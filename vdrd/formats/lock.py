"""Locks of points on disk: the record beside a point, and the guard file that knows of all of them and keeps
the storage's time. Bytes to values and back; both are under a MAC of the record key.
"""

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from native import blake3
from native.crc32c import crc32c
from vdrd.formats.binary import check_length, check_that
from vdrd.model.locks import PointLock
from vdrd.model.storage_time import TimeMark

VERSION = 1
LOCK_MAGIC = b"VDRPLOCK"
GUARD_MAGIC = b"VDRGUARD"
HEADER_BYTES = 64
MAC_BYTES = 32
LOCK_BYTES = HEADER_BYTES + MAC_BYTES
LOCKS_MAX = 1 << 20
GUARD_WHAT = "guard.bin"

LOCK_HEADER = struct.Struct("<8sHBBI16s16sQII")
GUARD_HEADER = struct.Struct("<8sHHI16sQ8sQII")
ROW = struct.Struct("<16sQB7s")

_HELD = 1
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Guard:
    """What `guard.bin` says."""

    mark: TimeMark
    locks: Mapping[str, PointLock]
    """By point id, as last written."""


def _milliseconds(time: datetime | None) -> int:
    return 0 if time is None else (time - _EPOCH) // timedelta(milliseconds=1)


def _moment(milliseconds: int, what: str) -> datetime:
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        check_that(False, what, "its time is out of bounds")
        raise


def _lock_of(until: int, flags: int, what: str) -> PointLock:
    check_that(flags in (0, _HELD), what, "its flags are unknown")
    return PointLock(_moment(until, what) if until else None, flags == _HELD)


def encode_lock(point_id: str, lock: PointLock, storage_id: bytes, record_key: bytes) -> bytes:
    """The record `points/<point id>.lock`."""
    flags = _HELD if lock.is_held else 0
    until = _milliseconds(lock.until)
    head = LOCK_HEADER.pack(
        LOCK_MAGIC, VERSION, flags, 0, 0, bytes.fromhex(point_id), storage_id, until, 0, 0
    )[:-4]
    data = head + crc32c(head).to_bytes(4, "little")
    return data + blake3.keyed(record_key, data)


def decode_lock(data: bytes, point_id: str, storage_id: bytes, record_key: bytes) -> PointLock:
    """Raises Damaged."""
    what = f"lock record of point {point_id}"
    check_length(what, "file", data, LOCK_BYTES)
    head, mac = data[:HEADER_BYTES], data[HEADER_BYTES:]
    magic, version, flags, zero, zero2, owner, storage, until, zero3, crc = LOCK_HEADER.unpack(head)
    check_that(magic == LOCK_MAGIC and crc == crc32c(head[:-4]), what, "its header does not hold")
    check_that(version == VERSION and not (zero or zero2 or zero3), what, "it is of no known version")
    check_that(owner.hex() == point_id and storage == storage_id, what, "it belongs elsewhere")
    check_that(hmac.compare_digest(mac, blake3.keyed(record_key, head)), what, "its MAC does not hold")
    return _lock_of(until, flags, what)


def encode_guard(guard: Guard, storage_id: bytes, record_key: bytes) -> bytes:
    """The file `guard.bin`."""
    mark = guard.mark
    time = _milliseconds(mark.time)
    head = GUARD_HEADER.pack(
        GUARD_MAGIC, VERSION, 0, len(guard.locks), storage_id, time, mark.boot, mark.steady_ms, 0, 0
    )[:-4]
    rows = b"".join(
        ROW.pack(bytes.fromhex(name), _milliseconds(lock.until), _HELD if lock.is_held else 0, bytes(7))
        for name, lock in sorted(guard.locks.items())
    )
    data = head + crc32c(head).to_bytes(4, "little") + rows
    return data + blake3.keyed(record_key, data)


def decode_guard(data: bytes, storage_id: bytes, record_key: bytes) -> Guard:
    """Raises Damaged."""
    what = GUARD_WHAT
    check_that(len(data) >= HEADER_BYTES + MAC_BYTES, what, "it is cut short")
    head = data[:HEADER_BYTES]
    magic, version, zero, count, storage, time, boot, steady_ms, zero2, crc = GUARD_HEADER.unpack(head)
    check_that(magic == GUARD_MAGIC and crc == crc32c(head[:-4]), what, "its header does not hold")
    check_that(version == VERSION and not (zero or zero2), what, "it is of no known version")
    check_that(storage == storage_id, what, "it belongs to another storage")
    check_that(count <= LOCKS_MAX, what, "it counts too many locks")
    check_length(what, "list", data[HEADER_BYTES:-MAC_BYTES], count * ROW.size)
    mac = blake3.keyed(record_key, data[:-MAC_BYTES])
    check_that(hmac.compare_digest(mac, data[-MAC_BYTES:]), what, "its MAC does not hold")
    locks = {}
    for point_id, until, flags, zeros in ROW.iter_unpack(data[HEADER_BYTES:-MAC_BYTES]):
        check_that(not any(zeros), what, "its list is out of bounds")
        locks[point_id.hex()] = _lock_of(until, flags, what)
    return Guard(TimeMark(_moment(time, what), boot, steady_ms), locks)
