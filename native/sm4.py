"""SM4-GCM at explicit levels, for tests and measurements (contract: `csrc/sm4.h`)."""

from typing import Self

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.err import NativeError, check

NONCE_BYTES = 12
TAG_BYTES = 16
LEVELS = range(6)


def is_available(level: int) -> bool:
    """Whether this machine can run `level`, a `vdr_sm4_level`."""
    return bool(lib.vdr_sm4_available(level))


def best_level() -> int:
    """Fastest level of this machine."""
    return int(lib.vdr_sm4_best())


class Sm4:
    """One expanded key at one level. Not for two threads at once."""

    def __init__(self, level: int, key: Buffer) -> None:
        handle = lib.vdr_sm4_open(level, buffer.key(key, 16))
        if handle == ffi.NULL:
            raise NativeError("crypto", f"sm4 level {level} is not available on this machine")
        self._handle = ffi.gc(handle, lib.vdr_sm4_close)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        ffi.release(self._handle)

    def seal(self, nonce: Buffer, data: Buffer, aad: Buffer = b"") -> bytes:
        """Ciphertext and tag of `data`."""
        plain, extra = buffer.readable(data), buffer.readable(aad)
        out = bytearray(len(plain) + TAG_BYTES)
        check(
            lib.vdr_sm4_seal(
                self._handle,
                buffer.key(nonce, NONCE_BYTES),
                extra,
                len(extra),
                plain,
                len(plain),
                buffer.writable(out),
            ),
            "seal",
        )
        return bytes(out)

    def unseal(self, nonce: Buffer, sealed: Buffer, aad: Buffer = b"") -> bytes:
        """Plaintext of `sealed`; NativeError 'auth' when it was not sealed with this key, nonce and `aad`."""
        cipher, extra = buffer.readable(sealed), buffer.readable(aad)
        out = bytearray(max(len(cipher) - TAG_BYTES, 0))
        check(
            lib.vdr_sm4_unseal(
                self._handle,
                buffer.key(nonce, NONCE_BYTES),
                extra,
                len(extra),
                cipher,
                len(cipher),
                buffer.writable(out),
            ),
            "unseal",
        )
        return bytes(out)

    def encrypt_block(self, block: Buffer) -> bytes:
        """One block of the bare cipher."""
        out = ffi.new("uint8_t[]", 16)
        lib.vdr_sm4_encrypt_block(self._handle, buffer.key(block, 16), out)
        return bytes(ffi.buffer(out))
