"""Messages to bytes and back, validated on arrival. Knows msgspec and frames, not states."""

from typing import Any, Generic, TypeVar

import msgspec

from schemas import link
from vdrd.model.errors import ProtocolViolation
from vdrd.protocol.frame import header_of

M = TypeVar("M")

_encoder = msgspec.msgpack.Encoder()
_EMPTY = memoryview(b"")
_BIN32 = b"\xc6"


class Decoder(Generic[M]):
    """Decodes one family (a struct or a union of tagged structs)."""

    def __init__(self, family: Any) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(family)

    def decode(self, body: bytes | bytearray | memoryview | msgspec.Raw, peer: str) -> M:
        """The message in `body`; memoryview fields point into it. Raises ProtocolViolation."""
        try:
            return self._decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError, OverflowError) as error:
            raise ProtocolViolation(peer=peer, reason=str(error)) from error


def body_of(message: msgspec.Struct) -> bytes:
    """`message` as msgpack, without frame."""
    return _encoder.encode(message)


def raw_of(message: object) -> msgspec.Raw:
    """`message` as msgpack to be nested in an envelope."""
    return msgspec.Raw(_encoder.encode(message))


def frame_of(message: msgspec.Struct) -> bytes:
    """`message` as a whole frame."""
    body = _encoder.encode(message)
    return header_of(len(body)) + body


def bulk_frame_of(message: link.Put | link.Chunks) -> tuple[bytes, memoryview]:
    """Head and payload of a frame whose payload is not copied: send the first, then the second.

    Relies on `payload` being the last field: the encoding of an empty one ends in `c4 00`, which gives way
    to a bin32 head. The payload must be contiguous bytes.
    """
    payload = message.payload
    head = _encoder.encode(msgspec.structs.replace(message, payload=_EMPTY))[:-2]
    head += _BIN32 + len(payload).to_bytes(4, "big")
    return header_of(len(head) + len(payload)) + head, payload
