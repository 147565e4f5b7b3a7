"""BLAKE3 digests (contract: `csrc/blake3.h`)."""

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.err import check

DIGEST_BYTES = 32


def digest(data: Buffer) -> bytes:
    """Plain hash of `data`."""
    out = bytearray(DIGEST_BYTES)
    array = buffer.readable(data)
    check(lib.vdr_blake3_hash(array, len(array), buffer.writable(out)), "blake3")
    return bytes(out)


def keyed(key: Buffer, data: Buffer) -> bytes:
    """Keyed hash of `data` under a 32-byte key."""
    out = bytearray(DIGEST_BYTES)
    array = buffer.readable(data)
    check(lib.vdr_blake3_keyed(buffer.key(key, 32), array, len(array), buffer.writable(out)), "blake3")
    return bytes(out)


def keyed_batch(key: Buffer, data: Buffer, offsets: Buffer, lengths: Buffer) -> bytes:
    """Keyed hashes, one after the other, of the pieces data[offsets[i]:offsets[i] + lengths[i]].

    `offsets` is a buffer of uint64, `lengths` of uint32. A piece outside the data is a ValueError.
    """
    array = buffer.readable(data)
    starts, sizes = buffer.readable(offsets, "uint64_t"), buffer.readable(lengths, "uint32_t")
    if len(starts) != len(sizes) or any(o + n > len(array) for o, n in zip(starts, sizes, strict=True)):
        raise ValueError("offsets and lengths do not describe pieces of the data")
    out = bytearray(DIGEST_BYTES * len(starts))
    check(
        lib.vdr_blake3_keyed_batch(
            buffer.key(key, 32),
            array,
            starts,
            sizes,
            len(starts),
            buffer.writable(out),
        ),
        "blake3",
    )
    return bytes(out)


def derive(context: str, key_material: Buffer, out_bytes: int = 32) -> bytes:
    """Key of `out_bytes` bytes from `key_material`, bound to `context`: a constant, without NUL."""
    out = bytearray(out_bytes)
    array = buffer.readable(key_material)
    name = context.encode()
    if b"\0" in name:
        raise ValueError("a derivation context must not contain NUL")
    check(lib.vdr_blake3_derive(name, array, len(array), buffer.writable(out), out_bytes), "blake3")
    return bytes(out)


def best_level() -> int:
    """Highest `vdr_blake3_level` of this CPU."""
    return int(lib.vdr_blake3_best())


def keyed_at(level: int, key: Buffer, data: Buffer) -> bytes:
    """`keyed` at an explicit level: for tests and measurements."""
    out = ffi.new("uint8_t[]", DIGEST_BYTES)
    array = buffer.readable(data)
    check(lib.vdr_blake3_keyed_at(level, buffer.key(key, 32), array, len(array), out), "blake3")
    return bytes(ffi.buffer(out))
