"""Authenticated encryption (contract: `csrc/aead.h`)."""

import threading
from enum import IntEnum
from typing import Any, Self

from native import buffer
from native._core import ffi, lib
from native.buffer import Buffer
from native.err import NativeError, check

NONCE_BYTES = 12
TAG_BYTES = 16


class Algorithm(IntEnum):
    """Numbers as stored in formats."""

    NONE = 0
    AES_256_GCM = 1
    SM4_GCM = 2

    @property
    def key_bytes(self) -> int:
        """Length of this algorithm's key."""
        return int(lib.vdr_aead_key_bytes(self))

    @property
    def tag_bytes(self) -> int:
        """How much longer a sealed message is."""
        return int(lib.vdr_aead_tag_bytes(self))


class Aead:
    """One expanded key. Threads may share it and then take turns; open one per thread to run side by side."""

    def __init__(self, algorithm: Algorithm, key: Buffer) -> None:
        array = buffer.key(key, algorithm.key_bytes)
        handle = lib.vdr_aead_open(algorithm, array, len(array))
        if handle == ffi.NULL:
            raise NativeError("crypto", f"{algorithm.name.lower()} is not available on this machine")
        self.algorithm = algorithm
        self._handle = ffi.gc(handle, lib.vdr_aead_close)
        self._turn = threading.Lock()

    @property
    def handle(self) -> Any:
        """The `vdr_aead *` for native code, which must be its only user during the call."""
        self._check_open()
        return self._handle

    def close(self) -> None:
        """Wipe the key. Closing twice does nothing."""
        with self._turn:
            if self._handle != ffi.NULL:
                ffi.release(self._handle)
                self._handle = ffi.NULL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def seal(self, nonce: Buffer, data: Buffer, aad: Buffer = b"") -> bytes:
        """Ciphertext and tag of `data`."""
        plain, extra = buffer.readable(data), buffer.readable(aad)
        out = bytearray(len(plain) + self.algorithm.tag_bytes)
        with self._turn:
            self._check_open()
            check(
                lib.vdr_aead_seal(
                    self._handle, _nonce(nonce), extra, len(extra), plain, len(plain), buffer.writable(out)
                ),
                "seal",
            )
        return bytes(out)

    def unseal(self, nonce: Buffer, sealed: Buffer, aad: Buffer = b"") -> bytes:
        """Plaintext of `sealed`; NativeError 'auth' when it was not sealed with this key, nonce and `aad`."""
        # Released in any case, as in `unseal_into`.
        with buffer.readable(sealed) as cipher, buffer.readable(aad) as extra, self._turn:
            out = bytearray(max(len(cipher) - self.algorithm.tag_bytes, 0))
            self._check_open()
            check(
                lib.vdr_aead_unseal(
                    self._handle, _nonce(nonce), extra, len(extra), cipher, len(cipher), buffer.writable(out)
                ),
                "unseal",
            )
        return bytes(out)

    def seal_into(self, nonce: Buffer, data: Buffer, out: Buffer, aad: Buffer = b"") -> None:
        """`seal` into memory of exactly the data's length and `tag_bytes`; it must not overlap the data."""
        with (
            buffer.readable(data) as plain,
            buffer.readable(aad) as extra,
            buffer.writable(out) as target,
            self._turn,
        ):
            if len(target) != len(plain) + self.algorithm.tag_bytes:
                raise ValueError("the output must be as long as data and tag")
            self._check_open()
            check(
                lib.vdr_aead_seal(self._handle, _nonce(nonce), extra, len(extra), plain, len(plain), target),
                "seal",
            )

    def unseal_into(self, nonce: Buffer, sealed: Buffer, out: Buffer, aad: Buffer = b"") -> None:
        """`unseal` into memory of exactly the plaintext's length; its content is void after a NativeError."""
        # Released in any case: a buffer held by the frames of a raised error takes the garbage collector of
        # CPython 3.11 down when it meets them in a cycle.
        with (
            buffer.readable(sealed) as cipher,
            buffer.readable(aad) as extra,
            buffer.writable(out) as target,
            self._turn,
        ):
            if len(target) + self.algorithm.tag_bytes != len(cipher):
                raise ValueError("the output must be as long as the sealed data without its tag")
            self._check_open()
            check(
                lib.vdr_aead_unseal(
                    self._handle, _nonce(nonce), extra, len(extra), cipher, len(cipher), target
                ),
                "unseal",
            )

    def _check_open(self) -> None:
        if self._handle == ffi.NULL:
            raise NativeError("closed", "aead")


def _nonce(nonce: Buffer) -> object:
    array = buffer.readable(nonce)
    if len(array) != NONCE_BYTES:
        raise ValueError(f"a nonce of {NONCE_BYTES} bytes is needed, not {len(array)}")
    return array
