"""Sealed records: how bulk bytes travel after a data channel's TLS has proven both sides and carried a
secret.

TLS cuts everything into records of 16 KiB with calls of their own; a seal covers up to 1 MiB at once and runs
without the interpreter, at more than twice the speed. Layout and keys: `docs/formats/wire.md`. No I/O.
"""

import struct
from typing import Final

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand

from native.aead import TAG_BYTES, Aead, Algorithm
from native.err import NativeError
from vdrd.model.errors import ProtocolViolation

RECORD_BYTES_MAX: Final = 1 << 20
"""Plain bytes of a record: large enough that calls do not show, small enough to stay in the cache."""
REKEY_RECORDS: Final = 1 << 16
"""Records under one key: at most 64 GiB, far below GCM's limit."""
SECRET_BYTES: Final = 32
HEADER: Final = struct.Struct("<I")
_NONCE: Final = struct.Struct("<IQ")
ALGORITHMS: Final = {"aes-256-gcm": Algorithm.AES_256_GCM, "sm4-gcm": Algorithm.SM4_GCM}


def choose(offered: list[str], accepted: tuple[str, ...]) -> str:
    """The first cipher of `accepted` that was offered, `tls` when there is none."""
    return next((name for name in accepted if name in offered), "tls")


class _Direction:
    """Key and count of one direction. Keys are replaced by a one-way step after REKEY_RECORDS."""

    def __init__(
        self, algorithm: Algorithm, secret: bytes, ticket: bytes, label: str, rekey_records: int
    ) -> None:
        self._algorithm = algorithm
        self._rekey_records = rekey_records
        info = b"vdr data channel 1 " + label.encode()
        self._secret = HKDF(SHA256(), SECRET_BYTES, ticket, info).derive(secret)
        self._count = 0
        self._aead = self._opened()

    def _opened(self) -> Aead:
        expanded = HKDFExpand(SHA256(), self._algorithm.key_bytes, b"key").derive(self._secret)
        return Aead(self._algorithm, expanded)

    def step(self) -> tuple[Aead, bytes]:
        """Key and nonce of the next record; each is given once."""
        if self._count and self._count % self._rekey_records == 0:
            self._aead.close()
            self._secret = HKDFExpand(SHA256(), SECRET_BYTES, b"next").derive(self._secret)
            self._aead = self._opened()
        nonce = _NONCE.pack(0, self._count)
        self._count += 1
        return self._aead, nonce


class ChannelSeal:
    """Both directions of one channel. One thread at a time per direction."""

    def __init__(
        self,
        name: str,
        secret: bytes,
        ticket: bytes,
        *,
        is_agent: bool,
        peer: str,
        rekey_records: int = REKEY_RECORDS,
    ) -> None:
        algorithm = ALGORITHMS.get(name)
        if algorithm is None or len(secret) != SECRET_BYTES:
            raise ProtocolViolation(peer=peer, reason=f"seal {name!r} was not offered")
        labels = ("agent to node", "node to agent") if is_agent else ("node to agent", "agent to node")
        self._peer = peer
        self._out = _Direction(algorithm, secret, ticket, labels[0], rekey_records)
        self._in = _Direction(algorithm, secret, ticket, labels[1], rekey_records)

    def seal_into(self, plain: memoryview, out: memoryview) -> None:
        """The whole record of `plain` into `out`, which is HEADER and TAG_BYTES longer."""
        header = HEADER.pack(len(plain))
        out[: HEADER.size] = header
        aead, nonce = self._out.step()
        aead.seal_into(nonce, plain, out[HEADER.size :], header)

    def unseal_into(self, header: bytes, sealed: memoryview, out: memoryview) -> None:
        """Plain bytes of a record into `out`.

        ProtocolViolation when one bit of it, or its place, is wrong.
        """
        aead, nonce = self._in.step()
        try:
            aead.unseal_into(nonce, sealed, out, header)
        except NativeError as error:
            raise ProtocolViolation(peer=self._peer, reason="a sealed record was changed") from error

    def plain_bytes(self, header: bytes) -> int:
        """Length of the record that `header` begins. ProtocolViolation outside the bounds."""
        length: int = HEADER.unpack(header)[0]
        if not 0 < length <= RECORD_BYTES_MAX:
            raise ProtocolViolation(peer=self._peer, reason=f"sealed record of {length} bytes")
        return length


def record_bytes(plain_bytes: int) -> int:
    """Length on the wire of a record with so many plain bytes."""
    return HEADER.size + plain_bytes + TAG_BYTES
