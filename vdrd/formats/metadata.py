"""The file of a metadata backup: bytes sealed under a passphrase, readable as a stream.
`docs/formats/metadata.md`.

Knows nothing of what is inside. Frames of 1 MiB, AES-256-GCM, the frame's number as nonce; the last frame
says that it is the last, so a file that was cut, joined or put in another order is refused before anything
of it is believed.
"""

import hashlib
import os
import struct
from collections.abc import Iterator
from typing import BinaryIO

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from vdrd.model.errors import Damaged, ExitCode, VdrError, WrongKey

MAGIC = b"VDRMETA1"
VERSION = 1
HEADER = struct.Struct("<8sHBBBx16s")
"""Magic, version, scrypt log2 n, r, p, reserved, salt."""
FRAME = struct.Struct("<IB")
"""Sealed bytes, 1 for the last frame."""
NONCE = struct.Struct("<QI")
"""Number of the frame, 1 for the last."""
PLAIN_BYTES = 1 << 20
TAG_BYTES = 16
SCRYPT = (17, 8, 1)
"""128 MiB and about half a second: a passphrase that people can remember must be dear to guess."""
_SCRYPT_MAX = (20, 16, 4)


class PassphraseWrong(WrongKey):
    """The passphrase does not open a metadata backup."""

    code = "passphrase-wrong"
    template = "the passphrase does not open {path}"
    hint = "give the one that the backup was made with"


class MetadataDamaged(Damaged):
    """A file is no whole metadata backup."""

    code = "metadata-damaged"
    template = "metadata backup {path} cannot be used: {reason}"
    hint = "take an older one, from a storage's folder metadata or from a download"


class MetadataNewer(VdrError):
    """A metadata backup was written by a newer version."""

    code = "metadata-newer"
    template = "metadata backup {path} has format {found}, this program reads up to {supported}"
    hint = "use a version of vdr at least as new as the one that wrote it"
    exit_code = ExitCode.REFUSED


def _key(passphrase: str, salt: bytes, cost: tuple[int, int, int]) -> bytes:
    log2_n, r, p = cost
    memory_bytes = 256 * r * (1 << log2_n)
    return hashlib.scrypt(
        passphrase.encode(), salt=salt, n=1 << log2_n, r=r, p=p, maxmem=memory_bytes, dklen=32
    )


class Sealer:
    """A file-like object: what is written to it goes sealed to `out`. `finish` writes the last frame."""

    def __init__(self, out: BinaryIO, passphrase: str, cost: tuple[int, int, int] = SCRYPT) -> None:
        salt = os.urandom(16)
        self._out = out
        self._header = HEADER.pack(MAGIC, VERSION, *cost, salt)
        self._cipher = AESGCM(_key(passphrase, salt, cost))
        self._waiting = bytearray()
        self._number = 0
        out.write(self._header)

    def write(self, data: bytes | memoryview) -> int:
        """Take some bytes."""
        self._waiting += data
        while len(self._waiting) > PLAIN_BYTES:
            self._frame(bytes(self._waiting[:PLAIN_BYTES]), is_last=False)
            del self._waiting[:PLAIN_BYTES]
        return len(data)

    def finish(self) -> None:
        """Write the last frame. The caller makes it durable."""
        self._frame(bytes(self._waiting), is_last=True)

    def _frame(self, plain: bytes, *, is_last: bool) -> None:
        sealed = self._cipher.encrypt(NONCE.pack(self._number, is_last), plain, self._header)
        self._out.write(FRAME.pack(len(sealed), is_last) + sealed)
        self._number += 1


class Opener:
    """A file-like object: what is read from it is what was sealed into `file`.

    Raises PassphraseWrong, MetadataNewer, MetadataDamaged.
    """

    def __init__(self, file: BinaryIO, passphrase: str, path: object) -> None:
        self._path = path
        header = file.read(HEADER.size)
        if len(header) < HEADER.size or header[: len(MAGIC)] != MAGIC:
            raise MetadataDamaged(path=path, reason="it is no metadata backup")
        _, version, log2_n, r, p, salt = HEADER.unpack(header)
        if version > VERSION:
            raise MetadataNewer(path=path, found=version, supported=VERSION)
        if header[13] or not all(1 <= n <= most for n, most in zip((log2_n, r, p), _SCRYPT_MAX, strict=True)):
            raise MetadataDamaged(path=path, reason="its header does not hold")
        self._cipher = AESGCM(_key(passphrase, salt, (log2_n, r, p)))
        self._plain = self._frames(file, header)
        self._have = next(self._plain, b"")

    def _frames(self, file: BinaryIO, header: bytes) -> Iterator[bytes]:
        number, is_last = 0, 0
        while not is_last:
            length, is_last = self._frame_head(file, number)
            sealed = file.read(length)
            if len(sealed) < length:
                raise MetadataDamaged(path=self._path, reason="it was cut short")
            try:
                yield self._cipher.decrypt(NONCE.pack(number, is_last), sealed, header)
            except InvalidTag as error:
                if number == 0:
                    raise PassphraseWrong(path=self._path) from error
                raise MetadataDamaged(path=self._path, reason=f"frame {number} does not hold") from error
            number += 1
        if file.read(1):
            raise MetadataDamaged(path=self._path, reason="something follows its end")

    def _frame_head(self, file: BinaryIO, number: int) -> tuple[int, int]:
        head = file.read(FRAME.size)
        if len(head) < FRAME.size:
            raise MetadataDamaged(path=self._path, reason="it was cut short")
        length, is_last = FRAME.unpack(head)
        if is_last > 1 or not TAG_BYTES <= length <= PLAIN_BYTES + TAG_BYTES:
            raise MetadataDamaged(path=self._path, reason=f"frame {number} does not hold")
        return length, is_last

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes (all if negative); fewer only at the end."""
        parts, missing = [], size if size >= 0 else 1 << 62
        while missing and self._have:
            part, self._have = self._have[:missing], self._have[missing:]
            parts.append(part)
            missing -= len(part)
            if not self._have:
                self._have = next(self._plain, b"")
        return b"".join(parts)
